"""START HERE. One rollout's whole way: split, gate, verify, language and length, compose.

`grade_groups` does this for all rollouts of many groups and yields each grade the moment it is known. Whose fault a failure is decides
what the trainer sees: the completion's is a verdict with a reward, anybody else's is `unscored` with none (errors.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import traceback
from collections.abc import AsyncGenerator, Iterable, Sequence
from types import TracebackType

from reward_service.effects import Effects
from reward_service.errors import NotScored, attributed
from reward_service.records import (
    AnswerForm,
    Completion,
    DetailLevel,
    FormatFinding,
    Grade,
    Group,
    GroupSummary,
    JsonObject,
    LanguageFinding,
    Outcome,
    Rollout,
    Verdict,
)
from reward_service.scoring.completion import split_completion
from reward_service.scoring.format import find_final_answer, format_gate
from reward_service.scoring.scheme import Scheme, compose
from reward_service.verifiers import VERIFIERS
from reward_service.verifiers.base import GroupContext, Judge
from sandbox.interface import SandboxError

_LOG = logging.getLogger(__name__)
_TASKS_A_TURN = 64  # rollouts of one group that are started before the event loop gets its turn
_NOTHING_FOUND: dict[AnswerForm, JsonObject] = {
    AnswerForm.BOX: {"answer": None},
    AnswerForm.CODE_BLOCK: {"language": None, "tests_run": 0, "tests_passed": 0, "first_failure": None},
}


async def grade_groups(
    groups: Sequence[Group], scheme: Scheme, effects: Effects, detail: DetailLevel = DetailLevel.BRIEF
) -> AsyncGenerator[Grade, None]:
    """One grade per rollout, in the order in which they become known. Closing the iterator stops what is still running.

    Group and rollout ids must be unique, and texts and token counts that the scheme's terms need must be there: shells check this.
    """
    if len(groups) == 1 and len(groups[0].rollouts) == 1:  # a trainer's single completions, by the thousand: without tasks of their own
        yield await _grade_single(groups[0], scheme, effects, detail)
        return
    grades: asyncio.Queue[Grade] = asyncio.Queue()
    turn = _Turn()
    tasks: list[asyncio.Task[None]] = []

    async def start() -> None:
        for group in groups:  # one per turn of the event loop: thousands at once would hold it
            tasks.append(asyncio.create_task(_grade_group(group, scheme, effects, detail, grades, turn)))
            await asyncio.sleep(0)

    starter = asyncio.create_task(start())
    try:
        for _ in range(sum(len(group.rollouts) for group in groups)):
            yield await grades.get()
    finally:
        starter.cancel()
        await asyncio.gather(starter, return_exceptions=True)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Turn:
    """One completion is read per turn of the event loop, however many wait."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> None:
        await self._lock.acquire()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            await asyncio.sleep(0)
        finally:
            self._lock.release()


async def _grade_single(group: Group, scheme: Scheme, effects: Effects, detail: DetailLevel) -> Grade:
    form, judge = await _prepared(group, scheme, effects, detail)
    rollout = group.rollouts[0]
    if isinstance(judge, NotScored):
        return _unscored(group, rollout, judge, detail)
    return await grade_rollout(group, rollout, scheme, form, judge, effects, detail, contextlib.nullcontext())


async def _prepared(group: Group, scheme: Scheme, effects: Effects, detail: DetailLevel) -> tuple[AnswerForm, Judge | NotScored]:
    """What judges the group's answers, or why nothing can."""
    try:
        with attributed():
            verifier = VERIFIERS[group.task]
            context = GroupContext(group.group_id, scheme.seed, scheme.correctness == "fraction", detail, len(group.rollouts))
            return verifier.answer_form, await verifier.prepare(group.reference, context, effects)
    except NotScored as error:
        return AnswerForm.BOX, error


async def _grade_group(
    group: Group, scheme: Scheme, effects: Effects, detail: DetailLevel, grades: asyncio.Queue[Grade], turn: _Turn
) -> None:
    form, judge = await _prepared(group, scheme, effects, detail)
    if isinstance(judge, NotScored):
        for rollout in group.rollouts:
            grades.put_nowait(_unscored(group, rollout, judge, detail))
        return
    ready: Judge = judge

    async def grade(rollout: Rollout) -> None:
        grades.put_nowait(await grade_rollout(group, rollout, scheme, form, ready, effects, detail, turn))

    async with asyncio.TaskGroup() as tasks:
        for number, rollout in enumerate(group.rollouts):
            tasks.create_task(grade(rollout))
            if number % _TASKS_A_TURN == 0:
                await asyncio.sleep(0)


async def grade_rollout(
    group: Group,
    rollout: Rollout,
    scheme: Scheme,
    form: AnswerForm,
    judge: Judge,
    effects: Effects,
    detail: DetailLevel,
    turn: contextlib.AbstractAsyncContextManager[None],
) -> Grade:
    """The way of one rollout against a prepared reference; never raises for what the completion holds."""
    try:
        with attributed():
            async with turn:
                completion = read_completion(rollout.completion, scheme)
                finding = read_answer(completion, scheme, form)
            verdict: Verdict | None = None
            language: LanguageFinding | None = None
            if finding.violation is None:
                if scheme.needs_prompt:  # before the verdict: what is slow in that is the completion's, and must not cost it its grade
                    language = await _judge_language(group, completion, scheme, effects)
                if finding.final_answer is not None:
                    verdict = await judge(finding.final_answer)
            same_language = language is not None and language.consistent
            outcome, reward, correctness, terms = compose(scheme, finding, verdict, same_language, rollout.completion_tokens)
    except NotScored as error:
        return _unscored(group, rollout, error, detail)
    explained = _explain(finding, form, verdict, language, detail)
    return Grade(group.group_id, rollout.rollout_id, outcome, reward, correctness, terms, explained)


def read_completion(text: str, scheme: Scheme) -> Completion:
    """The completion, split once by the scheme's tags."""
    return split_completion(text, scheme.tags, prompt_opened_tag=scheme.prompt_opened_tag, leading_whitespace=scheme.leading_whitespace)


def read_answer(completion: Completion, scheme: Scheme, form: AnswerForm) -> FormatFinding:
    """The gate's finding, or with the gate off whatever answer can be found."""
    if scheme.gate:
        return format_gate(completion, form)
    return FormatFinding(None, find_final_answer(completion.answer, form))


async def _judge_language(group: Group, completion: Completion, scheme: Scheme, effects: Effects) -> LanguageFinding:
    assert scheme.language_rule is not None
    return await effects.judge_language(scheme.language_rule, group.prompt or "", completion.thinking, completion.answer, group.language)


def _explain(
    finding: FormatFinding, form: AnswerForm, verdict: Verdict | None, language: LanguageFinding | None, detail: DetailLevel
) -> JsonObject:
    if finding.violation is not None:
        return {"violation": finding.violation.value}
    found = dict(verdict.brief) if verdict is not None else dict(_NOTHING_FOUND[form])
    if detail is DetailLevel.FULL:
        if verdict is not None:
            found.update(verdict.full)
        if language is not None:
            found["language_term"] = language.detail
    return found


def _unscored(group: Group, rollout: Rollout, error: NotScored, detail: DetailLevel) -> Grade:
    if error.__cause__ is not None and not isinstance(error.__cause__, SandboxError):
        _log_unforeseen(error.__cause__)
    found: dict[str, str] = {"reason": error.reason.value}
    if detail is DetailLevel.FULL:
        found["message"] = str(error)
    return Grade(group.group_id, rollout.rollout_id, Outcome.UNSCORED, None, None, None, found)


def _log_unforeseen(error: BaseException) -> None:
    """Say what kind of error it was and where, and nothing of what was graded."""
    trace = traceback.extract_tb(error.__traceback__)
    place = f"{trace[-1].filename}:{trace[-1].lineno}" if trace else "nowhere"
    _LOG.error("unforeseen %s at %s: the rollout is unscored", type(error).__name__, place)


def in_order(groups: Sequence[Group], grades: Iterable[Grade]) -> list[Grade]:
    """The grades in the order of the groups and their rollouts."""
    known = {(grade.group_id, grade.rollout_id): grade for grade in grades}
    return [known[group.group_id, rollout.rollout_id] for group in groups for rollout in group.rollouts]


def summarize(groups: Sequence[Group], grades: Iterable[Grade]) -> list[GroupSummary]:
    """Statistics per group, in the groups' order; of grades given so far where not all are."""
    rewards: dict[str, list[float]] = {group.group_id: [] for group in groups}
    for grade in grades:
        if grade.reward is not None:
            rewards[grade.group_id].append(grade.reward)
    return [_summary(group, rewards[group.group_id]) for group in groups]


def _summary(group: Group, rewards: list[float]) -> GroupSummary:
    if not rewards:
        return GroupSummary(group.group_id, len(group.rollouts), 0, None, None, None)
    flat = len(set(rewards)) == 1
    mean = rewards[0] if flat else math.fsum(rewards) / len(rewards)
    deviation = math.sqrt(math.fsum((reward - mean) ** 2 for reward in rewards) / len(rewards))
    return GroupSummary(group.group_id, len(group.rollouts), len(rewards), mean, deviation, flat if len(rewards) > 1 else None)
