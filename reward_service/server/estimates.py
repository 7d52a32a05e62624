"""What a request will cost, estimated before any of it is graded: a code rollout is not a math rollout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reward_service.costs import CHARACTERS
from reward_service.records import CodeReference, Group
from reward_service.scoring.scheme import Scheme
from reward_service.server.admission import SANDBOX, WORKERS
from reward_service.wiring import PROGRAM, Machine

UNKNOWN_TESTS = 20  # of a test set that is not open yet, where the draw is not stated
COMPARISON, LANGUAGE = "compare_answers", "judge_language"

PerRollout = Mapping[str, float]  # by resource: seconds of one rollout, divided by the slots that work at the same time


def estimate(groups: Sequence[Group], scheme: Scheme, machine: Machine) -> dict[str, PerRollout]:
    """Per group: what each of its rollouts takes of workers and sandbox."""
    return {group.group_id: _of_group(group, scheme, machine) for group in groups}


def total(groups: Sequence[Group], costs: Mapping[str, PerRollout]) -> dict[str, float]:
    """What all rollouts take."""
    found = {WORKERS: 0.0, SANDBOX: 0.0}
    for group in groups:
        for resource, seconds in costs[group.group_id].items():
            found[resource] += seconds * len(group.rollouts)
    return found


def _of_group(group: Group, scheme: Scheme, machine: Machine) -> PerRollout:
    costs = machine.costs
    worker_s = 0.0
    if scheme.needs_prompt:
        characters = sum(len(rollout.completion) for rollout in group.rollouts) / len(group.rollouts)
        worker_s += costs.estimate_s(LANGUAGE, 1 + characters / CHARACTERS)
    if isinstance(group.reference, CodeReference):
        sandbox_s = costs.estimate_s(PROGRAM, _tests(group.reference)) / machine.sandbox_turns.slots
        return {WORKERS: worker_s / machine.workers.count, SANDBOX: sandbox_s}
    return {WORKERS: (worker_s + costs.estimate_s(COMPARISON)) / machine.workers.count}


def _tests(reference: CodeReference) -> int:
    if reference.asserts is not None:
        return 1
    count = len(reference.tests) or UNKNOWN_TESTS
    return count if reference.draw is None else min(count, reference.draw)
