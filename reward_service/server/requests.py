"""From a request's JSON to records: the one conversion on the way in. Pure, so that it can run in another process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from reward_service.errors import RequestError
from reward_service.records import (
    Checker,
    CheckerName,
    CheckerProtocol,
    ChoiceReference,
    CodeReference,
    DetailLevel,
    FloatTolerance,
    Group,
    Json,
    MathReference,
    ProgramChecker,
    ProgramLimits,
    ProgramTest,
    Reference,
    Rollout,
)
from reward_service.scoring.programs.testcases import digest_fields, digest_test_set
from reward_service.scoring.scheme import Scheme, resolve_scheme
from reward_service.server import schema
from reward_service.server.bounds import Bounds
from reward_service.server.checker_schema import CheckerModel, FloatModel
from reward_service.server.json_text import read_json
from reward_service.server.quick_read import read_quickly
from reward_service.server.refusals import MAX_ERRORS, MAX_POINTER_CHARACTERS, Refusal, refused_by


@dataclass(frozen=True, slots=True)
class GradeRequest:
    """A request to grade, whole and valid. `deadline_s` counts from the request's arrival.

    `digest` is the SHA-256 of its plain body, where it has a `request_id`.
    """

    groups: tuple[Group, ...]
    scheme: Scheme
    detail: DetailLevel
    deadline_s: float
    priority: str = "train"
    request_id: str | None = None
    digest: str = ""

    @property
    def rollouts(self) -> int:
        """How many rollouts all groups hold."""
        return sum([len(group.rollouts) for group in self.groups])


def read_request(data: bytes | memoryview, bounds: Bounds) -> GradeRequest:
    """The request that a body states.

    Raises:
        RequestError: the client's fault: 400 where it is no JSON object, 413 where it asks for too much, 422 where a field is wrong.
    """
    found = read_quickly(bytes(data), bounds)
    if found is None:
        return read_strictly(data, bounds)
    digest = "" if found.request_id is None else hashlib.sha256(data).hexdigest()
    return GradeRequest(found.groups, found.scheme, DetailLevel(found.detail), found.deadline_s, found.priority, found.request_id, digest)


def read_strictly(data: bytes | memoryview, bounds: Bounds) -> GradeRequest:
    """`read_request`, step by step, so that it can say what is wrong."""
    value = read_json(data, bounds.max_values)
    if not isinstance(value, dict):
        raise RequestError("", "the body must be a JSON object", status=400)
    _check_counts(value, bounds)
    try:
        body = schema.GradeBody.model_validate(value, context=bounds)
    except ValidationError as error:
        raise refused_by(error, schema.TASKS) from None
    del value
    request = _request(body, bounds)
    return request if body.request_id is None else replace(request, digest=hashlib.sha256(data).hexdigest())


def read_test_set(data: bytes | memoryview, bounds: Bounds) -> CodeReference:
    """The test set that the body of an upload states: its tests, its checker and its digest; nothing else of the reference is meant.

    Raises:
        RequestError: the client's fault: 400 where it is no JSON object, 422 where a field is wrong.
    """
    value = read_json(data, bounds.max_values)
    if not isinstance(value, dict):
        raise RequestError("", "the body must be a JSON object", status=400)
    try:
        body = schema.TestSetModel.model_validate(value, context=bounds)
    except ValidationError as error:
        raise refused_by(error, ()) from None
    del value
    return _test_content(body)


def _check_counts(value: Mapping[str, Json], bounds: Bounds) -> None:
    """Count before anything is built; what is not even shaped right is left to the models."""
    groups = value.get("groups")
    if not isinstance(groups, list):
        return
    lists = (group.get("rollouts") for group in groups if isinstance(group, dict))
    if sum(len(rollouts) for rollouts in lists if isinstance(rollouts, list)) > bounds.max_rollouts or len(groups) > bounds.max_rollouts:
        raise RequestError("/groups", f"more than {bounds.max_rollouts} rollouts in one request", status=413)


def _request(body: schema.GradeBody, bounds: Bounds) -> GradeRequest:
    scheme = _scheme(body)
    errors = list(_contradictions(body.groups, scheme))
    if errors:
        raise Refusal(errors)
    return GradeRequest(
        groups=tuple(_group(group, scheme) for group in body.groups),
        scheme=scheme,
        detail=DetailLevel(body.detail),
        deadline_s=bounds.default_deadline_s if body.deadline_s is None else float(body.deadline_s),
        priority=body.priority,
        request_id=body.request_id,
    )


def _scheme(body: schema.GradeBody) -> Scheme:
    try:
        return resolve_scheme(body.scheme)
    except RequestError as error:
        raise RequestError(f"/scheme{error.pointer}"[:MAX_POINTER_CHARACTERS], error.message, error.status) from None


def _contradictions(groups: Sequence[schema.AnyGroupModel], scheme: Scheme) -> Iterator[tuple[str, str]]:
    """What is wrong with fields together, MAX_ERRORS at most: ids that stand twice, what a term of the scheme needs."""
    found = 0
    seen: dict[str, int] = {}
    for index, group in enumerate(groups):
        at = f"/groups/{index}"
        first = seen.setdefault(group.group_id, index)
        if first != index:
            yield f"{at}/group_id", f"the same as /groups/{first}/group_id"
            found += 1
        if scheme.needs_prompt and group.language is None and not (_prompt(group.prompt) or "").strip():
            what = "is missing" if group.prompt is None else "holds no text of a user"
            yield f"{at}/prompt", f"{what}: the scheme's language term needs it where `language` is not stated"
            found += 1
        for error in _rollout_contradictions(at, group, scheme):
            yield error
            found += 1
        if found >= MAX_ERRORS:
            return


def _rollout_contradictions(at: str, group: schema.AnyGroupModel, scheme: Scheme) -> Iterator[tuple[str, str]]:
    seen: dict[str, int] = {}
    for index, rollout in enumerate(group.rollouts):
        first = seen.setdefault(rollout.rollout_id, index)
        if first != index:
            yield f"{at}/rollouts/{index}/rollout_id", f"the same as {at}/rollouts/{first}/rollout_id"
        if scheme.needs_tokens and rollout.completion_tokens is None:
            yield f"{at}/rollouts/{index}/completion_tokens", "is missing: the scheme's length term needs it"


def _group(group: schema.AnyGroupModel, scheme: Scheme) -> Group:
    return Group(
        group_id=group.group_id,
        task=group.task,
        reference=_reference(group, scheme),
        rollouts=tuple(Rollout(rollout.rollout_id, rollout.completion, rollout.completion_tokens) for rollout in group.rollouts),
        prompt=_prompt(group.prompt),
        language=group.language,
    )


def _prompt(prompt: str | list[schema.MessageModel] | None) -> str | None:
    """The prompt's text: of chat messages, what the users said."""
    if prompt is None or isinstance(prompt, str):
        return prompt
    return "\n\n".join(text for message in prompt if message.role == "user" and (text := _content(message)))


def _content(message: schema.MessageModel) -> str:
    if isinstance(message.content, list):
        return "\n".join(part.text for part in message.content if part.text)
    return message.content or ""


def _reference(group: schema.AnyGroupModel, scheme: Scheme) -> Reference:
    if isinstance(group, schema.MathGroupModel):
        answers = group.reference.answers
        return MathReference(tuple(answers) if answers is not None else (group.reference.answer or "",))
    if isinstance(group, schema.ChoiceGroupModel):
        return ChoiceReference(group.reference.answer, tuple(group.reference.choices))
    return _code_reference(group.reference, scheme)


def _code_reference(reference: schema.CodeReferenceModel, scheme: Scheme) -> CodeReference:
    limits = reference.limits
    return replace(
        _test_content(reference) if reference.testset is None else CodeReference((), testset=reference.testset),
        limits=ProgramLimits(float(limits.cpu_s), limits.memory_bytes, float(limits.compile_s)),
        languages=None if reference.languages is None else tuple(reference.languages),
        draw=reference.draw if "draw" in reference.model_fields_set else scheme.draw,
    )


def _test_content(content: schema.TestContentModel) -> CodeReference:
    """What a reference states inline and a test set is: the same records, and so the same digest and draw, either way."""
    if content.asserts is not None:
        return _asserts(content, content.asserts)
    checker = _checker(content.checker)
    if content.function is not None:
        return _calls(content, content.function, checker)
    tests = tuple(ProgramTest(test.stdin, test.stdout) for test in content.tests or () if isinstance(test, schema.TestModel))
    return CodeReference(tests, checker, digest=digest_test_set(tests, checker))


def _asserts(content: schema.TestContentModel, asserts: str) -> CodeReference:
    stated: dict[str, Json] = {"asserts": asserts, "entry_point": content.entry_point, "prelude": content.prelude}
    digest = digest_fields({name: value for name, value in stated.items() if value is not None})
    return CodeReference((), digest=digest, asserts=asserts, entry_point=content.entry_point or "", prelude=content.prelude or "")


def _calls(content: schema.TestContentModel, function: str, checker: Checker) -> CodeReference:
    calls = [test for test in content.tests or () if isinstance(test, schema.CallModel)]
    inputs: list[dict[str, Json]] = [
        {"args": call.args} if call.argument is None else {"args": call.args, "argument": call.argument} for call in calls
    ]
    tests = tuple(ProgramTest(_json_text(given), _json_text(call.expected)) for given, call in zip(inputs, calls, strict=True))
    stated: dict[str, Json] = {
        "function": function,
        "tests": [{**given, "expected": call.expected} for given, call in zip(inputs, calls, strict=True)],
    }
    if content.prelude is not None:
        stated["prelude"] = content.prelude
    digest = digest_fields(stated, checker)
    return CodeReference(tests, checker, digest=digest, function=function, prelude=content.prelude or "")


def _json_text(value: Json) -> str:
    """JSON in ASCII, the keys of objects in the order in which they came: a dict is iterated in it."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _checker(checker: str | CheckerModel) -> Checker:
    if isinstance(checker, str):
        return CheckerName(checker)
    program = checker.program
    if program is None:
        tolerance = checker.float or FloatModel()
        return FloatTolerance(float(tolerance.abs), float(tolerance.rel))
    files = tuple(sorted(program.files.items()))
    return ProgramChecker(program.language, CheckerProtocol(program.protocol), program.main, files, tuple(program.args))
