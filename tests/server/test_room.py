"""Room, drains, clients that go away, and what the machine lacks."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from reward_service.server import runs
from sandbox.fake import FakeSandbox
from sandbox.interface import Job, RunResult, Status
from tests.server.conftest import Serving
from tests.server.doubles import BrokenSandbox, graded, program_body, program_group, raw_request, settle, slow_pipeline

NDJSON = {"Accept": "application/x-ndjson"}
TERMS = {"format", "correctness", "length", "language"}


# ---- room ------------------------------------------------------------------------------------------------------------


async def test_what_is_too_much_is_turned_away_before_any_work(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(runs, "grade_groups", slow_pipeline(30, started))
    async with serving(max_requests=2, max_rollouts=5) as (client, service):
        running = asyncio.create_task(client.post("/v1/grade", json=program_body(program_group(count=4))))
        await settle(lambda: started)
        shed = await client.post("/v1/grade", json=program_body(program_group(count=2)))
        assert shed.status_code == 429
        assert int(shed.headers["retry-after"]) > 0
        second = asyncio.create_task(client.post("/v1/grade", json=program_body(program_group(count=1))))
        await settle(lambda: len(started) == 2)
        assert (await client.post("/v1/grade", json={"groups": []})).status_code == 429
        assert (await client.post("/v1/grade", json=program_body(program_group(count=6)))).status_code == 429
        assert service.metrics.shed.labels("requests", "anyone").value == 2
        service.cut_off()
        await asyncio.gather(running, second)
        assert (service.admission.requests, service.admission.rollouts, service.admission.held_bytes) == (0, 0, 0)


async def test_more_rollouts_than_will_ever_fit_are_refused_for_good(serving: Serving) -> None:
    async with serving(max_rollouts=5) as (client, _):
        response = await client.post("/v1/grade", json=program_body(program_group(count=6)))
    assert (response.status_code, response.json()["error"]["pointer"]) == (413, "/groups")


async def test_bodies_in_flight_are_bounded_together(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(runs, "grade_groups", slow_pipeline(30, started))
    body = program_body(program_group(prompt="x" * 700))
    async with serving(max_body_bytes=1024, max_held_bytes=1500) as (client, service):
        running = asyncio.create_task(client.post("/v1/grade", json=body))
        await settle(lambda: started)
        assert (await client.post("/v1/grade", json=body)).status_code == 429
        service.cut_off()
        await running


async def test_a_drain_lets_nobody_in_and_finishes_what_runs(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(runs, "grade_groups", slow_pipeline(0.2, started))
    async with serving() as (client, service):
        running = asyncio.create_task(client.post("/v1/grade", json=program_body(program_group())))
        await settle(lambda: started)
        drain = asyncio.create_task(service.drain())
        await asyncio.sleep(0)
        late = await client.post("/v1/grade", json={"groups": []})
        assert (late.status_code, int(late.headers["retry-after"]) > 0) == (503, True)
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/healthz")).status_code == 200
        await drain
        assert (await running).json()["grades"][0]["outcome"] == "correct"


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_drain_cuts_off_is_cancelled_and_no_zero(serving: Serving, monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    started: list[str] = []
    monkeypatch.setattr(runs, "grade_groups", slow_pipeline(0.1, started))
    async with serving(drain_s=0.05) as (client, service):
        headers = NDJSON if stream else {}
        running = asyncio.create_task(client.post("/v1/grade", json=program_body(program_group(count=3)), headers=headers))
        await settle(lambda: len(started) == 2)
        await service.drain()
        text = (await running).text
    grades = [json.loads(line) for line in text.splitlines()][:3] if stream else json.loads(text)["grades"]
    assert [grade["outcome"] for grade in grades] == ["correct", "unscored", "unscored"]
    assert grades[2]["detail"] == {"reason": "cancelled"}
    assert (grades[2]["reward"], grades[2]["correctness"], grades[2]["terms"]) == (None, None, dict.fromkeys(TERMS))


# ---- clients that go away --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("accept", "leave_after"), [("", 0), ("application/x-ndjson", 0), ("application/x-ndjson", 2)])
async def test_a_client_that_goes_away_takes_its_work_with_it(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, accept: str, leave_after: int
) -> None:
    started: list[str] = []
    ended: list[str] = []
    monkeypatch.setattr(runs, "grade_groups", slow_pipeline(0.02 if leave_after else 60, started, ended))
    async with serving() as (client, service):
        sent, gone = await raw_request(client, program_body(program_group(count=100)), accept, leave_after)
        assert gone
        assert ended == ["ended"]
        assert len(started) < 10
        assert not any(b'"end"' in message.get("body", b"") for message in sent)
        assert (service.admission.requests, service.admission.rollouts) == (0, 0)
        assert service.metrics.disconnects.labels().value == 1


# ---- the machine -----------------------------------------------------------------------------------------------------


async def test_without_a_sandbox_code_is_unscored_and_the_rest_runs(serving: Serving) -> None:
    choice = {
        "group_id": "c",
        "task": "choice",
        "reference": {"answer": "B"},
        "rollouts": [{"rollout_id": "0", "completion": "\\boxed{B}"}],
    }
    async with serving(BrokenSandbox(languages=frozenset())) as (client, _):
        answer = await graded(client, program_body(program_group(), choice))
        ready = await client.get("/readyz")
        text = (await client.get("/metrics")).text
    assert answer["grades"][0]["detail"] == {"reason": "sandbox_unavailable"}
    assert answer["grades"][0]["reward"] is None
    assert answer["grades"][1]["outcome"] == "correct"
    assert ready.status_code == 503
    assert "kernel.unprivileged_userns_clone=1" in ready.json()["reasons"][0]
    assert ready.json()["tasks"] == {"math": True, "choice": True, "code": False}
    assert 'reward_unscored_total{reason="sandbox_unavailable"} 1.0' in text
    assert 'reward_rollouts_total{key="anyone",outcome="correct",task="choice"} 1.0' in text
    assert "reward_ready 0.0" in text


async def test_what_has_not_started_at_the_deadline_is_unscored(serving: Serving) -> None:
    class Slow(FakeSandbox):
        async def run(self, job: Job) -> Any:
            await asyncio.sleep(0.4)
            yield RunResult(0, Status.FINISHED, stdout=b"5\n")

    async with serving(Slow(slots=1)) as (client, _):
        answer = await graded(client, program_body(program_group(count=3), deadline_s=0.2))
    found = sorted((grade["outcome"], grade["detail"].get("reason")) for grade in answer["grades"])
    assert found == [("correct", None), ("unscored", "deadline"), ("unscored", "deadline")]


async def test_readiness_and_capacity(serving: Serving) -> None:
    async with serving() as (client, _):
        ready = await client.get("/readyz")
        capacity = (await client.get("/v1/capacity")).json()
    assert ready.status_code == 200
    assert ready.json()["languages"] == ["cpp", "python"]
    assert capacity["sandbox"] == {"slots": 2, "free": 2, "waiting": 0}
    assert capacity["worst_s"]["math"] < capacity["worst_s"]["code"]


async def test_a_language_of_the_settings_that_does_not_run_here_is_no_readiness(serving: Serving) -> None:
    async with serving(FakeSandbox(languages=frozenset({"python"}))) as (client, _):
        ready = await client.get("/readyz")
    assert ready.status_code == 503
    assert "cpp" in ready.json()["reasons"][0]
