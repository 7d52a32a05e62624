"""What operators see: of the service, of its keys, and of the model."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from reward_service.errors import JobKilled
from tests.server.conftest import Serving
from tests.server.doubles import graded, program_body, program_group


async def values(client: Any) -> dict[str, float]:
    lines = (await client.get("/metrics")).text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))}


async def test_what_says_when_the_model_changes(serving: Serving) -> None:
    choice = {"group_id": "c", "task": "choice", "reference": {"answer": "B"}, "prompt": "Which one is it, and why is it that one?"}
    said = ("<think>\nSo.\n</think>\n\\boxed{B}", "<think>\nSo.\n</think>\n\\boxed{A}", "\\boxed{B}")
    rollouts = [{"rollout_id": str(k), "completion": text} for k, text in enumerate(said)]
    same = [{"rollout_id": str(k), "completion": said[0]} for k in range(2)]
    wrong = program_group(reference={"tests": [{"stdin": "5\n", "stdout": "6\n"}]})
    async with serving() as (client, _):
        await graded(
            client, {"scheme": "magistral", "groups": [{**choice, "rollouts": rollouts}, {**choice, "group_id": "d", "rollouts": same}]}
        )
        await graded(client, program_body(wrong))
        found = await values(client)
    assert found['reward_rollouts_total{key="anyone",outcome="correct",task="choice"}'] == 3
    assert found['reward_format_violations_total{violation="no_opening_tag"}'] == 1
    assert found['reward_program_failures_total{language="python",status="wrong_answer"}'] == 1
    groups = {name: found[f'reward_groups_total{{advantage="{name}"}}'] for name in ("some", "zero", "undefined")}
    assert groups == {"some": 1, "zero": 1, "undefined": 1}
    assert found['reward_value_count{task="choice"}'] == 5
    assert found['reward_term_value_count{term="language"}'] == 6
    assert found["reward_batch_waiting_share_count"] == 2


async def test_a_batch_has_a_tail_and_stages(serving: Serving) -> None:
    async with serving() as (client, _):
        await graded(client, program_body(program_group(count=30)))
        found = await values(client)
    assert found["reward_batch_tail_ratio_count"] == 1
    assert [found[f'reward_stage_seconds_count{{stage="{stage}"}}'] for stage in ("receive", "read", "grade", "answer")] == [1, 1, 1, 1]
    assert found['reward_queue_wait_seconds_count{queue="sandbox"}'] >= 1
    assert found['reward_held{resource="rollouts"}'] == 0
    assert found['reward_room{resource="requests"}'] > 0


async def test_answers_that_hit_a_bound_and_work_that_is_shared(serving: Serving) -> None:
    math = {"group_id": "m", "task": "math", "reference": {"answer": "7"}}
    slow = {**math, "rollouts": [{"rollout_id": "0", "completion": "\\boxed{8}"}]}
    right = {**math, "rollouts": [{"rollout_id": "0", "completion": "\\boxed{7}"}]}
    async with serving() as (client, service):
        await asyncio.gather(*(graded(client, program_body(right)) for _ in range(4)))
        run = service.machine.workers.run

        async def killed(task: Any, *args: object) -> object:
            raise JobKilled("cpu_limit")

        service.machine.workers.run = killed  # type: ignore[method-assign]
        for _ in range(2):  # the second time it is known
            assert (await graded(client, program_body(slow)))["grades"][0]["outcome"] == "incorrect"
        service.machine.workers.run = run  # type: ignore[method-assign]
        found = await values(client)
    assert found['reward_math_limits_total{bound="cpu_limit"}'] == 2
    assert found['reward_results_total{how="known"}'] + found['reward_results_total{how="shared"}'] >= 6


@pytest.mark.parametrize(
    ("task", "reference"), [("math", {"answer": "7"}), ("choice", {"answer": "B", "choices": ["one thing", "another thing"]})]
)
async def test_answers_that_are_beyond_what_is_read(serving: Serving, task: str, reference: dict[str, object]) -> None:
    """Too long, too deep, too many digits: decided by a bound before anything can run into a limit of time."""
    said = ["1" * 200_000, "{" * 3000 + "}" * 3000, "8"]
    rollouts = [{"rollout_id": str(k), "completion": f"\\boxed{{{text}}}"} for k, text in enumerate(said)]
    async with serving() as (client, _):
        answer = await graded(client, program_body({"group_id": "g", "task": task, "reference": reference, "rollouts": rollouts}))
        found = await values(client)
    assert {grade["outcome"] for grade in answer["grades"]} == {"incorrect"}
    hits = {name: value for name, value in found.items() if name.startswith("reward_math_limits_total")}
    assert sum(hits.values()) == 2, hits
