"""`request_id`: who repeats a request joins the work, goes on where it was dropped, or gets the stored answer."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest

from reward_service.records import Grade, Group, Outcome, Terms
from reward_service.server import repeats, runs
from tests.server.conftest import Serving
from tests.server.doubles import graded, program_body, program_group, raw_request, settle

NDJSON = {"Accept": "application/x-ndjson"}


class Pipeline:
    """Grades each rollout when it is let to; notes what it began."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, reasons: dict[str, str] | None = None) -> None:
        self.begun: list[str] = []
        self.steps = asyncio.Semaphore(0)
        self.reasons = reasons or {}
        monkeypatch.setattr(runs, "grade_groups", self.grade)

    def go(self, count: int = 1000) -> None:
        for _ in range(count):
            self.steps.release()

    async def grade(self, groups: Sequence[Group], *rest: object) -> AsyncIterator[Grade]:
        for group in groups:
            for rollout in group.rollouts:
                self.begun.append(rollout.rollout_id)
                await self.steps.acquire()
                reason = self.reasons.pop(rollout.rollout_id, None)
                if reason is not None:
                    yield Grade(group.group_id, rollout.rollout_id, Outcome.UNSCORED, None, None, None, {"reason": reason})
                else:
                    yield Grade(group.group_id, rollout.rollout_id, Outcome.CORRECT, 1.0, 1.0, Terms(0.0, 1.0, 0.0, 0.0), {})


def named(count: int = 3, request_id: str = "run7/step1", **fields: Any) -> dict[str, Any]:
    return program_body(program_group(count=count), request_id=request_id, **fields)


def lines_of(response: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in response.text.splitlines()]


async def test_a_repetition_joins_the_running_work(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline(monkeypatch)
    async with serving() as (client, service):
        asking = [asyncio.create_task(client.post("/v1/grade", json=named())) for _ in range(3)]
        asking.append(asyncio.create_task(client.post("/v1/grade", json=named(), headers=NDJSON)))
        await settle(lambda: service.repeats.joined == 3)
        pipeline.go()
        *answers, stream = await asyncio.gather(*asking)
        assert len({answer.text for answer in answers}) == 1
        assert pipeline.begun == ["0", "1", "2"]
        assert [line["type"] for line in lines_of(stream)] == ["grade"] * 3 + ["end"]
        assert (service.admission.requests, service.admission.rollouts, service.admission.held_bytes) == (0, 0, 0)


async def test_a_late_repetition_gets_the_stored_answer(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline(monkeypatch)
    pipeline.go()
    async with serving() as (client, service):
        first = await client.post("/v1/grade", json=named())
        again = await client.post("/v1/grade", content=gzip.compress(json.dumps(named()).encode()), headers={"Content-Encoding": "gzip"})
        compact = await client.post("/v1/grade", content=first.request.content, headers={"Content-Type": "application/json"})
        assert again.status_code == 409  # json.dumps writes other bytes than httpx did
        assert compact.text == first.text
        stream = await client.post("/v1/grade", json=named(), headers=NDJSON)
        assert [line.get("rollout_id") for line in lines_of(stream)] == ["0", "1", "2", None]
        assert (pipeline.begun, service.repeats.replayed) == (["0", "1", "2"], 2)


async def test_the_same_id_with_another_body_is_refused(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline(monkeypatch)
    async with serving() as (client, _):
        running = asyncio.create_task(client.post("/v1/grade", json=named()))
        await settle(lambda: pipeline.begun)
        while_it_runs = await client.post("/v1/grade", json=named(4))
        pipeline.go()
        await running
        afterwards = await client.post("/v1/grade", json=named(4))
        for refused in (while_it_runs, afterwards):
            assert (refused.status_code, refused.json()["error"]["pointer"]) == (409, "/request_id")
        assert (await client.post("/v1/grade", json=named(4, "run7/step2"))).status_code == 200


async def test_a_repetition_goes_on_where_the_work_was_dropped(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline(monkeypatch)
    monkeypatch.setattr(runs, "REJOIN_S", 0.01)
    pipeline.go(2)
    async with serving() as (client, service):
        await raw_request(client, named(5), "application/x-ndjson", leave_after=2)
        await settle(lambda: not service.repeats._going_on)
        assert pipeline.begun == ["0", "1", "2"]
        assert (service.admission.requests, service.admission.rollouts, service.admission.held_bytes) == (0, 0, 0)
        pipeline.go()
        answer = await client.post("/v1/grade", content=json.dumps(named(5)), headers={"Content-Type": "application/json"})
        assert [grade["rollout_id"] for grade in answer.json()["grades"]] == ["0", "1", "2", "3", "4"]
        assert answer.json()["groups"][0]["scored"] == 5
        assert pipeline.begun == ["0", "1", "2", "2", "3", "4"]


async def test_work_that_is_joined_in_time_is_not_dropped(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline(monkeypatch)
    async with serving() as (client, service):
        await raw_request(client, named(), leave_after=0)
        again = asyncio.create_task(client.post("/v1/grade", content=json.dumps(named()), headers={"Content-Type": "application/json"}))
        await settle(lambda: service.repeats.joined == 1)
        await asyncio.sleep(runs.REJOIN_S + 0.1)
        pipeline.go()
        assert (await again).status_code == 200
        assert pipeline.begun == ["0", "1", "2"]


@pytest.mark.parametrize("reason", ["deadline", "overloaded", "cancelled", "sandbox_unavailable", "worker_lost"])
async def test_what_failed_for_a_passing_reason_is_graded_again(serving: Serving, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    pipeline = Pipeline(monkeypatch, {"1": reason})
    pipeline.go()
    async with serving() as (client, _):
        first = await graded(client, named())
        again = await graded(client, named())
    assert [grade["outcome"] for grade in first["grades"]] == ["correct", "unscored", "correct"]
    assert [grade["outcome"] for grade in again["grades"]] == ["correct"] * 3
    assert pipeline.begun == ["0", "1", "2", "1"]


async def test_a_bad_reference_stays_one(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline(monkeypatch, {"0": "bad_reference"})
    pipeline.go()
    async with serving() as (client, service):
        assert await graded(client, named(1)) == await graded(client, named(1))
        assert service.repeats.replayed == 1


async def test_answers_are_kept_within_a_memory(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline(monkeypatch)
    pipeline.go()
    async with serving(answer_memory_bytes=30_000) as (client, service):
        for number in range(20):
            await graded(client, named(1, str(number)))
        assert 0 < service.repeats.size_bytes <= 30_000
        begun = len(pipeline.begun)
        await graded(client, named(1, "19"))
        assert len(pipeline.begun) == begun
        await graded(client, named(1, "0"))
        assert len(pipeline.begun) == begun + 1


async def test_an_answer_that_is_too_old_is_forgotten(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline(monkeypatch)
    pipeline.go()
    monkeypatch.setattr(repeats, "KEPT_S", 0.05)
    async with serving() as (client, service):
        await graded(client, named(1))
        await asyncio.sleep(0.1)
        await graded(client, named(1))
        assert (len(pipeline.begun), service.repeats.replayed) == (2, 0)


async def test_a_refusal_is_not_kept(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline(monkeypatch)
    pipeline.go()
    async with serving(max_rollouts=2) as (client, service):
        service.admission.limits["rollouts"] = 1
        assert (await client.post("/v1/grade", json=named(2))).status_code == 429
        service.admission.limits["rollouts"] = 2
        assert (await client.post("/v1/grade", json=named(2))).status_code == 200
        missing = {"testset": "sha256:" + "0" * 64}
        unknown = program_body(program_group(reference=missing), request_id="unknown")
        for _ in range(2):
            assert (await client.post("/v1/grade", json=unknown)).status_code == 424
        assert service.admission.rollouts == 0
