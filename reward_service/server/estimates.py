"""What a request will need, estimated before any of it is graded: a code rollout is not a math rollout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reward_service.costs import ANSWER, CHARACTERS
from reward_service.records import CodeReference, Group
from reward_service.scoring.scheme import Scheme
from reward_service.server.admission import LANGUAGE
from reward_service.wiring import PROGRAM, Machine

UNKNOWN_TESTS = 20  # of a test set that is not open yet, where the draw is not stated

PerRollout = Mapping[str, float]  # by kind of work: units of one rollout, divided by the slots that work at the same time


def estimate(groups: Sequence[Group], scheme: Scheme, machine: Machine) -> dict[str, PerRollout]:
    """Per group: what each of its rollouts needs of workers and sandbox."""
    return {group.group_id: _of_group(group, scheme, machine) for group in groups}


def total(groups: Sequence[Group], needs: Mapping[str, PerRollout]) -> dict[str, float]:
    """What all rollouts need, by kind of work."""
    found: dict[str, float] = {}
    for group in groups:
        for kind, units in needs[group.group_id].items():
            found[kind] = found.get(kind, 0.0) + units * len(group.rollouts)
    return found


def _of_group(group: Group, scheme: Scheme, machine: Machine) -> PerRollout:
    workers, found = machine.workers.count, dict[str, float]()
    if scheme.needs_prompt:
        characters = sum(len(rollout.completion) for rollout in group.rollouts) / len(group.rollouts)
        found[LANGUAGE] = (1 + characters / CHARACTERS) / workers
    if isinstance(group.reference, CodeReference):
        found[PROGRAM] = _tests(group.reference) / machine.sandbox_turns.slots
    else:
        found[ANSWER] = 1 / workers
    return found


def _tests(reference: CodeReference) -> int:
    if reference.asserts is not None:
        return 1
    count = len(reference.tests) or UNKNOWN_TESTS
    return count if reference.draw is None else min(count, reference.draw)
