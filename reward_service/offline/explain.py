"""Every step of one rollout's way, and why it got its reward: the pipeline's own functions and findings, put into words."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reward_service.effects import Effects
from reward_service.pipeline import grade_groups, read_answer, read_completion
from reward_service.records import (
    Checker,
    ChoiceReference,
    CodeBlock,
    CodeReference,
    Completion,
    DetailLevel,
    FormatFinding,
    Grade,
    Group,
    Json,
    JsonObject,
    MathReference,
    Outcome,
    ProgramChecker,
    Reference,
    Violation,
)
from reward_service.scoring.scheme import Scheme
from reward_service.verifiers import VERIFIERS

EXCERPT_CHARACTERS = 400
_TOLD = frozenset(  # by a step of their own
    ("answer", "language", "program", "tests", "drawn", "tests_run", "tests_passed", "first_failure", "language_term")
)

MEANINGS: Mapping[Violation, str] = {
    Violation.NO_OPENING_TAG: "the opening tag stands nowhere",
    Violation.TEXT_BEFORE_TAG: "something stands before the opening tag",
    Violation.NO_CLOSING_TAG: "the closing tag stands nowhere after the opening one",
    Violation.REPEATED_TAG: "a tag stands more than once",
    Violation.NO_BOXED_ANSWER: r"the answer section holds no \boxed{..}, or the last one is empty or unclosed",
    Violation.NO_CODE_BLOCK: "the answer section holds no closed code block with a language",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its name, what came out of it, and further facts as pairs of name and text (which may have several lines)."""

    name: str
    finding: str
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """A rollout's grade, and the steps to it in the pipeline's order."""

    grade: Grade
    steps: tuple[Step, ...]


async def explain_rollout(group: Group, scheme: Scheme, effects: Effects) -> Explanation:
    """Grade the group's only rollout in full detail and tell each step.

    Raises:
        ValueError: the caller's fault: not exactly one rollout.
    """
    (rollout,) = group.rollouts
    async with contextlib.aclosing(grade_groups([group], scheme, effects, DetailLevel.FULL)) as grades:
        (grade,) = [grade async for grade in grades]
    completion = read_completion(rollout.completion, scheme)
    finding = read_answer(completion, scheme, VERIFIERS[group.task].answer_form)
    steps = [_reference_step(group), _split_step(rollout.completion, completion, scheme), _gate_step(finding, scheme)]
    if finding.violation is None:
        steps += [_answer_step(finding), _verifier_step(group.reference, finding, grade)]
    if finding.violation is None and grade.outcome is not Outcome.UNSCORED:
        steps += [_language_step(group, grade, scheme), _length_step(rollout.completion_tokens, grade, scheme)]
    return Explanation(grade, (*steps, _reward_step(grade, scheme)))


def _reference_step(group: Group) -> Step:
    match group.reference:
        case MathReference(answers):
            finding = "equal to any of: " + ", ".join(_short(answer, 80) for answer in answers)
        case ChoiceReference(answer, choices):
            finding = f"{_short(answer, 80)} of {len(choices) or 'unnamed'} choices"
        case CodeReference() as code:
            draw = "all" if code.draw is None else f"at most {code.draw}"
            limits = code.limits
            languages = ", ".join(code.languages) if code.languages else "the server's languages"
            finding = f"{len(code.tests)} tests, of which {draw} are drawn for group {group.group_id!r}; in {languages}"
            if code.asserts is not None:
                finding = "asserts, which run in a box of their own and call the program's functions"
            elif code.function is not None:
                finding = f"calls of {code.function}: {finding}"
            facts = (
                ("checker", _checker(code.checker)),
                ("limits", f"{limits.cpu_s:g} s CPU and {_mib(limits.memory_bytes)} per test, {limits.compile_s:g} s to compile"),
            )
            return Step("reference", f"{group.task}: {finding}", facts)
    return Step("reference", f"{group.task}: {finding}")


def _checker(checker: Checker) -> str:
    return f"{checker.main} ({checker.language}, {checker.protocol.value})" if isinstance(checker, ProgramChecker) else str(checker)


def _split_step(text: str, completion: Completion, scheme: Scheme) -> Step:
    opening, closing = scheme.tags
    counts = ("tags", f"{opening} {text.count(opening)} times, {closing} {text.count(closing)} times")
    begins = ("begins with", _short(text, 60))
    if completion.violation is not None:
        return Step("split", f"cannot be split: {MEANINGS[completion.violation]}", (counts, begins))
    finding = f"{len(text):,} characters: {len(completion.thinking):,} of thinking, {len(completion.answer):,} of answer"
    return Step("split", finding, (counts, ("answer ends with", _short_end(completion.answer))))


def _gate_step(finding: FormatFinding, scheme: Scheme) -> Step:
    if not scheme.gate:
        return Step("format gate", "off in this scheme")
    if finding.violation is None:
        return Step("format gate", "passed")
    return Step("format gate", f"{finding.violation.value}: {MEANINGS[finding.violation]}; nothing else is graded")


def _answer_step(finding: FormatFinding) -> Step:
    match finding.final_answer:
        case None:
            return Step("final answer", "none found")
        case CodeBlock(language, source):
            lines = len(source.splitlines())
            return Step("final answer", f"a code block in {language}, lines: {lines}", (("program", _short(source)),))
        case answer:
            return Step("final answer", _short(answer))


def _verifier_step(reference: Reference, finding: FormatFinding, grade: Grade) -> Step:
    detail = grade.detail
    if grade.outcome is Outcome.UNSCORED:
        return Step("verifier", f"unscored, {detail.get('reason')}: no fault of the completion", _facts({"why": detail.get("message")}))
    if finding.final_answer is None:
        return Step("verifier", "nothing to judge")
    facts = _facts({name: value for name, value in detail.items() if name not in _TOLD})
    if isinstance(reference, CodeReference):
        failure = detail.get("first_failure")
        passed = f"{detail.get('tests_passed')} of {detail.get('tests_run')} tests run passed"
        if isinstance(failure, Mapping):
            passed += f"; first failure: {failure.get('status')}" + ("" if failure.get("index") is None else f" at test {failure['index']}")
        return Step("verifier", passed, facts + tuple(_test_facts(reference, detail.get("tests"))))
    return Step("verifier", "equal to the reference" if grade.outcome is Outcome.CORRECT else "not equal to the reference", facts)


def _test_facts(reference: CodeReference, tests: Json) -> list[tuple[str, str]]:
    """A line per test; of the first that failed also its input, the expected output and what came instead."""
    found: list[tuple[str, str]] = []
    failed = False
    for test in tests if isinstance(tests, Sequence) and not isinstance(tests, str) else ():
        if not isinstance(test, Mapping) or not isinstance(index := test.get("index"), int):
            continue
        status = str(test.get("status"))
        found.append((f"test {index}", _test_line(status, test)))
        if not failed and status not in ("accepted", "not_run"):
            failed = True
            found += _failure_facts(reference, index, test)
    return found


def _test_line(status: str, test: JsonObject) -> str:
    cpu_s, memory_bytes = test.get("cpu_s"), test.get("memory_bytes")
    line = status
    if isinstance(cpu_s, int | float):
        line += f", {cpu_s * 1000:.1f} ms CPU"
    if isinstance(memory_bytes, int):
        line += f", {_mib(memory_bytes)}"
    if test.get("signal"):
        line += f", signal {test['signal']}"
    elif test.get("exit_code"):
        line += f", exit code {test['exit_code']}"
    return line


def _failure_facts(reference: CodeReference, index: int, test: JsonObject) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    if reference.asserts is None:
        case = reference.tests[index]
        found += [("  input", _short(case.stdin)), ("  expected", _short(case.stdout)), ("  got", _short(str(test.get("stdout", ""))))]
    if test.get("message"):
        found.append(("  why", _short(str(test["message"]))))
    difference = test.get("difference")
    if isinstance(difference, Mapping):
        place = f"{difference.get('unit')} {difference.get('index')}"
        found.append(("  first difference", f"{place}: got {_side(difference.get('got'))}, expected {_side(difference.get('expected'))}"))
    if test.get("stderr"):
        found.append(("  error output", _short_end(str(test["stderr"]))))
    return found


def _language_step(group: Group, grade: Grade, scheme: Scheme) -> Step:
    if not scheme.needs_prompt:
        return Step("language", "no language term in this scheme")
    same = grade.terms is not None and grade.terms.language > 0
    seen = grade.detail.get("language_term")
    facts = _facts(seen) if isinstance(seen, Mapping) else ()
    wanted = f"wanted: {group.language}; " if group.language else ""
    return Step("language", wanted + ("all in one language" if same else "not all in one language"), facts)


def _length_step(tokens: int | None, grade: Grade, scheme: Scheme) -> Step:
    if scheme.l_max is None:
        return Step("length", "no length term in this scheme (`l_max` is null)")
    lost = grade.terms.length if grade.terms else 0.0
    return Step("length", f"{tokens or 0:,} tokens: {lost:g}; free up to {scheme.l_max - scheme.l_cache:,}, all lost from {scheme.l_max:,}")


def _reward_step(grade: Grade, scheme: Scheme) -> Step:
    if grade.terms is None:
        return Step("reward", "null: nobody could say what this completion is worth")
    if grade.outcome is Outcome.FORMAT_VIOLATION:
        return Step("reward", "0: the gate failed")
    terms = grade.terms
    correctness = f"{terms.correctness:g} (correctness: {scheme.weights.correctness:g} x {grade.correctness:g})"
    parts = f"{terms.format:g} (format) + {correctness} + {terms.language:g} (language) + {terms.length:g} (length)"
    return Step("reward", f"{parts} = {grade.reward:g}", (("scheme", f"{scheme.name}, digest {scheme.digest[:12]}"),))


def _facts(values: Mapping[str, Json]) -> tuple[tuple[str, str], ...]:
    return tuple((name.replace("_", " "), _value(value)) for name, value in values.items() if value is not None)


def _value(value: Json) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(inner)}" for name, inner in value.items())
    if isinstance(value, str):
        return _short(value)
    if isinstance(value, Sequence):
        return ", ".join(_value(inner) for inner in value) or "none"
    return str(value).lower() if isinstance(value, bool) or value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _side(value: Json) -> str:
    return "nothing" if value is None else repr(value)


def _short(text: str, characters: int = EXCERPT_CHARACTERS) -> str:
    return text if len(text) <= characters else f"{text[:characters]}... ({len(text):,} characters)"


def _short_end(text: str) -> str:
    return text.rstrip() if len(text) <= EXCERPT_CHARACTERS else f"...{text.rstrip()[-EXCERPT_CHARACTERS:]}"


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
