"""The service over HTTP, in the test's own event loop."""

from __future__ import annotations

import gzip
import json
import logging
import re
from collections.abc import AsyncIterator

import pytest
import structlog
import zstandard

from reward_service.records import Grade
from reward_service.server import runs
from reward_service.server.grading import wants_stream
from tests.server.conftest import Serving
from tests.server.doubles import graded, program_body, program_group, raw_request, slow_pipeline

NDJSON = {"Accept": "application/x-ndjson"}
TERMS = {"format", "correctness", "length", "language"}


# ---- answers ---------------------------------------------------------------------------------------------------------


async def test_one_grade_per_rollout_in_the_order_of_the_request(serving: Serving) -> None:
    groups = [program_group(f"g{number}", 5) for number in range(7)]
    async with serving() as (client, _):
        answer = await graded(client, program_body(*groups))
    assert [(g["group_id"], g["rollout_id"]) for g in answer["grades"]] == [(f"g{n}", str(k)) for n in range(7) for k in range(5)]
    assert {grade["outcome"] for grade in answer["grades"]} == {"correct"}
    assert all(set(grade["terms"]) == TERMS for grade in answer["grades"])
    assert answer["groups"][0] == {
        "group_id": "g0", "rollouts": 5, "scored": 5, "reward_mean": 1.0, "reward_std": 0.0, "zero_advantage": True
    }  # fmt: skip
    assert set(answer["scheme"]) == {"name", "digest"}
    assert answer["service"]["took_s"] >= 0
    assert answer["service"]["versions"]["service"]


async def test_no_groups_is_an_answer_without_grades(serving: Serving) -> None:
    async with serving() as (client, _):
        answer = await graded(client, {"groups": []})
        stream = await client.post("/v1/grade", json={"groups": []}, headers=NDJSON)
    assert (answer["grades"], answer["groups"]) == ([], [])
    assert json.loads(stream.text)["type"] == "end"


async def test_the_same_request_twice_has_the_same_answer_but_for_the_time(serving: Serving) -> None:
    body = program_body(program_group(count=9), program_group("h", 3))
    async with serving() as (client, _):
        texts = [(await client.post("/v1/grade", json=body)).text for _ in range(2)]
    first, second = (re.sub(r'"took_s":[^}]*', "", text) for text in texts)
    assert first == second


async def test_detail_full_explains_more(serving: Serving) -> None:
    async with serving() as (client, _):
        brief = await graded(client, program_body(program_group()))
        full = await graded(client, program_body(program_group(), detail="full"))
    assert set(brief["grades"][0]["detail"]) < set(full["grades"][0]["detail"])


async def test_the_stream_brings_grades_as_they_are_known_and_ends_with_the_counts(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "grade_groups", slow_pipeline(0.05))
    monkeypatch.setattr(runs, "HEARTBEAT_S", 0.02)
    async with serving() as (client, _):
        response = await client.post("/v1/grade", json=program_body(program_group(count=4)), headers=NDJSON)
    assert response.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in response.text.splitlines()]
    kinds = [line["type"] for line in lines]
    assert kinds.count("grade") == 4
    assert kinds.count("end") == 1
    assert kinds[-1] == "end"
    assert "heartbeat" in kinds[: kinds.index("grade")]
    assert "heartbeat" in kinds[kinds.index("grade") : -1]
    assert lines[-1]["counts"] == {"correct": 4, "incorrect": 0, "format_violation": 0, "unscored": 0}
    assert {"groups", "scheme", "service"} < set(lines[-1])
    assert {"group_id", "rollout_id", "outcome", "reward", "correctness", "terms", "detail"} < set(lines[kinds.index("grade")])


async def test_stream_lines_leave_one_by_one(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "grade_groups", slow_pipeline(0.02))
    async with serving() as (client, service):
        sent, _ = await raw_request(client, program_body(program_group(count=3)), accept="application/x-ndjson")
    assert [message["body"].count(b"\n") for message in sent if message.get("body")] == [1, 1, 1, 1]
    assert service.admission.requests == 0


@pytest.mark.parametrize(
    ("accept", "streamed"),
    [
        ("application/x-ndjson", True),
        ("text/html, Application/X-NDJSON;q=0.5", True),
        ("application/x-ndjson;q=0", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_who_asks_for_a_stream(accept: str, streamed: bool) -> None:
    assert wants_stream(accept) is streamed


@pytest.mark.parametrize("size", [1, 400])
async def test_compressed_bodies(serving: Serving, size: int) -> None:
    data = json.dumps(program_body(program_group(count=size, prompt="x" * 200 * size))).encode()
    async with serving() as (client, _):
        for encoding, packed in (("gzip", gzip.compress(data)), ("zstd", zstandard.compress(data)), ("identity", data)):
            response = await client.post(
                "/v1/grade", content=packed, headers={"Content-Encoding": encoding, "Content-Type": "application/json"}
            )
            assert response.status_code == 200
            assert len(response.json()["grades"]) == size
        response = await client.post("/v1/grade", content=gzip.compress(data)[:-9], headers={"Content-Encoding": "gzip"})
        assert response.status_code == 400
        response = await client.post("/v1/grade", content=data, headers={"Content-Encoding": "br"})
        assert response.status_code == 415


# ---- refusals --------------------------------------------------------------------------------------------------------


async def test_every_refusal_has_one_form(serving: Serving) -> None:
    async with serving(max_body_bytes=2000) as (client, _):
        answers = [
            await client.post("/v1/grade", content=b"{"),
            await client.post("/v1/grade", content=b""),
            await client.post("/v1/grade", json={"groups": 1}),
            await client.post("/v1/grade", content=b"\xff{}"),
            await client.post("/v1/grade", content=b"x" * 3000),
            await client.post("/v1/grade", content=b"{}", headers={"Content-Type": "text/plain"}),
            await client.get("/v1/grade"),
            await client.put("/v1/grade"),
            await client.get("/v1/nothing"),
            await client.post("/healthz"),
        ]
        assert [answer.status_code for answer in answers] == [400, 400, 422, 400, 413, 415, 405, 405, 404, 405]
        for answer in answers:
            assert set(answer.json()["error"]) == {"pointer", "message"}
        assert answers[6].headers["allow"] == "POST"
        assert (await client.get("/healthz")).status_code == 200


async def test_bodies_that_arrive_in_pieces_are_bounded(serving: Serving) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b" " * 1000

    async with serving(max_body_bytes=2000) as (client, service):
        assert (await client.post("/v1/grade", content=pieces())).status_code == 413
        assert service.admission.held_bytes == 0


async def test_the_key_is_needed_and_stays_out_of_every_answer(serving: Serving) -> None:
    async with serving(key="s3cret-key") as (client, _):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret-key"}, {"Authorization": "s3cret-key"}):
            for method, path in (("POST", "/v1/grade"), ("GET", "/v1/capacity")):
                response = await client.request(method, path, headers=headers)
                assert response.status_code == 401
                assert response.headers["www-authenticate"] == "Bearer"
                assert "s3cret" not in response.text
        good = {"Authorization": "bearer s3cret-key"}
        assert (await client.post("/v1/grade", json={"groups": []}, headers=good)).status_code == 200
        assert (await client.get("/healthz")).status_code == 200


async def test_an_unforeseen_error_is_no_reward(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> AsyncIterator[Grade]:
        raise RuntimeError("secret text")
        yield

    monkeypatch.setattr(runs, "grade_groups", broken)
    async with serving() as (client, service):
        response = await client.post("/v1/grade", json=program_body(program_group()))
        assert response.status_code == 500
        assert "secret" not in response.text
        assert service.admission.requests == 0


# ---- what is seen ----------------------------------------------------------------------------------------------------


async def test_the_page_of_the_api_needs_no_network(serving: Serving) -> None:
    async with serving() as (client, _):
        page = (await client.get("/docs")).text
        description = (await client.get("/openapi.json")).json()
    assert not re.search(r"(src|href)\s*=\s*['\"]?(https?:)?//", page)
    assert "<script" not in page
    assert "/v1/grade" in page
    schemas = description["components"]["schemas"]
    references = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(description)))
    assert references <= set(schemas)
    assert {"request_id", "priority"} <= set(schemas["GradeBody"]["properties"])


async def test_request_ids_are_kept_if_safe(serving: Serving) -> None:
    async with serving() as (client, _):
        kept = await client.get("/healthz", headers={"X-Request-ID": "run7/step120"})
        replaced = await client.get("/healthz", headers={"X-Request-ID": "a b<script>"})
    assert kept.headers["x-request-id"] == "run7/step120"
    assert re.fullmatch(r"[0-9a-f]{32}", replaced.headers["x-request-id"])


async def test_a_key_that_is_sent_as_an_id_is_not_repeated(serving: Serving) -> None:
    async with serving(key="s3cret") as (client, _):
        answer = await client.get("/healthz", headers={"x-request-id": "s3cret", "authorization": "Bearer s3cret"})
    assert answer.headers["x-request-id"] != "s3cret"


async def test_logs_hold_no_text_no_key_and_no_query(
    serving: Serving, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    group = program_group(rollouts=[{"rollout_id": "0", "completion": "t3xt"}], prompt="pr0mpt")
    with structlog.testing.capture_logs() as logs, caplog.at_level(logging.DEBUG):
        async with serving(key="s3cret") as (client, _):
            headers = {"Authorization": "Bearer s3cret"}
            await client.post("/v1/grade?token=t0ken", json=program_body(group), headers=headers)
            await client.post("/v1/grade", json={**program_body(group), "x": 1}, headers=headers)
            await client.post("/v1/grade?token=t0ken", json=program_body(group), headers={"Authorization": "Bearer wr0ng"})
    ours = [record.getMessage() for record in caplog.records if record.name != "httpx"]  # the test's own client logs the address
    everything = repr(logs) + repr(ours) + "".join(capsys.readouterr())
    assert [entry["status"] for entry in logs if entry["event"] == "answered"] == [200, 422, 401]
    assert not [secret for secret in ("t3xt", "pr0mpt", "s3cret", "t0ken", "wr0ng") if secret in everything]
