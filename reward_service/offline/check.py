"""Go through a data set before a run: references that cannot be used, that conventions decide over, that their own solution fails."""

from __future__ import annotations

import contextlib
import enum
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from reward_service.effects import Effects, Task
from reward_service.errors import BadReference, JobKilled, NotScored, RequestError
from reward_service.offline.dumps import ReadGroup, Row, canonical_digest, read_alone
from reward_service.pipeline import grade_groups
from reward_service.records import DetailLevel, Group, Json, JsonObject, MathReference, Outcome
from reward_service.scoring.equivalence.debatable import Noted, note_reference
from reward_service.scoring.scheme import Scheme, resolve_scheme
from reward_service.verifiers import VERIFIERS
from reward_service.verifiers.base import GroupContext

NOTE: Task[Noted] = Task(note_reference, Noted, 2.0, heavy=True)
_PLACEHOLDER = "-"  # stands for the completion that a data set does not have yet


class Concern(enum.StrEnum):
    """What a finding says of its row."""

    BAD_ROW = "bad_row"
    UNUSABLE = "unusable"
    SOLUTION = "solution_fails"
    DEBATABLE = "debatable"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about one row. `what`: the fault, or the convention; `read_as`: how a math reference is read."""

    source: str
    number: int
    concern: Concern
    what: str
    reference: str = ""
    read_as: str = ""


async def check_rows(rows: Iterable[Row], read_group: ReadGroup, effects: Effects, *, solutions: bool = False) -> AsyncIterator[Finding]:
    """Findings row by row; a reference that was looked at before is not looked at again.

    `solutions`: each row's completion is known to be right, and is graded by `correctness-only`.
    """
    scheme = resolve_scheme("correctness-only")
    seen: set[str] = set()
    for row in rows:
        if row.problem is not None and "reference" not in row.fields:
            yield Finding(row.source, row.number, Concern.BAD_ROW, f"{row.problem.pointer}: {row.problem.message}".lstrip(": "))
            continue
        try:
            group = read_alone(_completed(row, solutions), read_group)
        except RequestError as error:
            yield Finding(row.source, row.number, Concern.BAD_ROW, f"{error.pointer}: {error.message}".lstrip(": "))
            continue
        parts = ("task", "reference", "completion") if solutions else ("task", "reference")
        digest = canonical_digest([row.fields.get(name) for name in parts])
        if digest in seen:
            continue
        seen.add(digest)
        async for finding in _check_group(row, group, scheme, effects, solutions):
            yield finding


def _completed(row: Row, solutions: bool) -> JsonObject:
    fields: dict[str, Json] = {"group_id": f"row {row.number}", "rollout_id": "0", "prompt": _PLACEHOLDER, **row.fields}
    if not solutions:
        fields["completion"] = _PLACEHOLDER
    return fields


async def _check_group(row: Row, group: Group, scheme: Scheme, effects: Effects, solutions: bool) -> AsyncIterator[Finding]:
    shown = json.dumps(row.fields.get("reference"), ensure_ascii=False)[:200]
    context = GroupContext(group.group_id, scheme.seed, False, DetailLevel.BRIEF)
    try:
        await VERIFIERS[group.task].prepare(group.reference, context, effects)
    except NotScored as error:
        read_as = await _readings(group, effects) if isinstance(error, BadReference) else ""
        yield Finding(row.source, row.number, Concern.UNUSABLE, str(error), shown, read_as)
        return
    if isinstance(group.reference, MathReference):
        for answer in group.reference.answers:
            noted = await _noted(answer, effects)
            for convention in noted.conventions:
                yield Finding(row.source, row.number, Concern.DEBATABLE, convention, answer[:200], "; ".join(noted.readings))
    if solutions:
        async with contextlib.aclosing(grade_groups([group], scheme, effects, DetailLevel.BRIEF)) as grades:
            (grade,) = [grade async for grade in grades]
        if grade.outcome is not Outcome.CORRECT:
            yield Finding(row.source, row.number, Concern.SOLUTION, json.dumps(grade.detail, ensure_ascii=False)[:300], shown)


async def _readings(group: Group, effects: Effects) -> str:
    """How the answers of an unusable math reference are read, as far as they can be."""
    if not isinstance(group.reference, MathReference):
        return ""
    readings: list[str] = []
    for answer in group.reference.answers:
        readings += (await _noted(answer, effects)).readings
    return "; ".join(readings)


async def _noted(answer: str, effects: Effects) -> Noted:
    try:
        return await effects.workers.run(NOTE, answer)
    except JobKilled as error:
        return Noted(error.cause, (), ())
