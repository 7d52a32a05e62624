"""The asynchronous client, replicas, and batches in several bodies, against real HTTP servers on loopback that answer by a script."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import pytest

from reward_service import async_client, client_bodies
from reward_service.async_client import AsyncRewardClient
from reward_service.client import RequestRefused, RewardClient, ServiceUnavailable, StreamIncomplete, UnscoredError
from reward_service.client_bodies import testset_name as name_of  # under its own name pytest would take it for a test
from tests.client.answers import GROUP, LOST, RIGHT, answer_of, lines_of
from tests.scripted_service import Reply, Service, scripted_service

END = {"type": "end"}
CLOSED = "http://127.0.0.1:9"  # the discard port: nobody listens there


@pytest.fixture
async def remote(service: Service) -> AsyncIterator[AsyncRewardClient]:
    async with AsyncRewardClient(service.url, "s3cret", total_s=5) as client:
        yield client


async def test_grades_come_back_as_records(service: Service, remote: AsyncRewardClient) -> None:
    service.replies = [Reply(body=answer_of(RIGHT))]
    response = await remote.grade([GROUP], deadline_s=3, priority="eval", request_id="run7")
    assert [(grade.rollout_id, grade.reward) for grade in response.grades] == [("0", 1.1)]
    sent = service.seen[0]
    assert (sent.method, sent.path, sent.headers["Authorization"]) == ("POST", "/v1/grade", "Bearer s3cret")
    assert json.loads(sent.body) == {
        "scheme": "magistral", "detail": "brief", "deadline_s": 3, "priority": "eval", "request_id": "run7", "groups": [GROUP],
    }  # fmt: skip


async def test_no_reward_is_never_a_zero(service: Service, remote: AsyncRewardClient) -> None:
    service.replies = [Reply(body=answer_of(RIGHT, LOST))]
    with pytest.raises(UnscoredError) as caught:
        await remote.grade([GROUP])
    assert [entry.reason for entry in caught.value.unscored] == ["deadline"]
    assert (await remote.grade([GROUP], on_unscored="return")).grades[1].reward is None


async def test_overload_and_broken_connections_are_tried_again_under_one_id(service: Service, remote: AsyncRewardClient) -> None:
    service.replies = [Reply(429, headers={"Retry-After": "0"}), Reply(drop=True), Reply(503), Reply(body=answer_of(RIGHT))]
    assert (await remote.grade([GROUP])).grades[0].reward == 1.1
    assert len({json.loads(seen.body)["request_id"] for seen in service.seen}) == 1
    assert len(service.seen) == 4


async def test_refusals_are_not_tried_again(service: Service, remote: AsyncRewardClient) -> None:
    service.replies = [Reply(409, b'{"error": {"pointer": "/request_id", "message": "another body"}}')]
    with pytest.raises(RequestRefused) as caught:
        await remote.grade([GROUP])
    assert (caught.value.status, caught.value.pointer, len(service.seen)) == (409, "/request_id", 1)


async def test_the_time_allowed_is_kept(service: Service) -> None:
    service.replies = [Reply(503, headers={"Retry-After": "3600"})]
    async with AsyncRewardClient(service.url, total_s=1) as client:
        with pytest.raises(ServiceUnavailable) as caught:
            await client.grade([GROUP])
        assert caught.value.status == 503
        with pytest.raises(ValueError, match="deadline_s"):
            await client.grade([GROUP], deadline_s=2)
        service.replies = [Reply(delay_s=4)]
        with pytest.raises(ServiceUnavailable):
            await client.grade([GROUP])


async def test_a_stream_that_breaks_off_is_taken_up_again(service: Service, remote: AsyncRewardClient) -> None:
    first = {"type": "grade", **RIGHT}
    second = {"type": "grade", **RIGHT, "rollout_id": "1"}
    service.replies = [
        Reply(body=lines_of(first)),
        Reply(body=lines_of(first, {"type": "heartbeat"}, second, END), chunked=True),
    ]
    assert [grade.rollout_id async for grade in remote.stream([GROUP])] == ["0", "1"]
    assert len({json.loads(seen.body)["request_id"] for seen in service.seen}) == 1


async def test_a_stream_that_falls_silent_is_given_up(service: Service, remote: AsyncRewardClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_client, "SILENCE_S", 0.05)
    silent = _SilentBytes()
    with pytest.raises(StreamIncomplete):
        [line async for line in async_client._lines(silent)]  # type: ignore[arg-type]


class _SilentBytes:
    async def aiter_bytes(self) -> AsyncIterator[bytes]:
        yield lines_of({"type": "grade", **RIGHT})
        await asyncio.sleep(30)


async def test_a_stream_tells_what_has_no_reward_at_its_end(service: Service, remote: AsyncRewardClient) -> None:
    service.replies = [Reply(body=lines_of({"type": "grade", **LOST}, {"type": "grade", **RIGHT}, END))]
    seen = []

    async def read() -> None:
        async for grade in remote.stream([GROUP]):
            seen.append(grade.rollout_id)

    with pytest.raises(UnscoredError):
        await read()
    assert seen == ["0"]


async def test_missing_test_sets_are_uploaded(service: Service, remote: AsyncRewardClient) -> None:
    content = {"tests": [{"stdin": "", "stdout": ""}]}
    name = name_of(content)
    missing = json.dumps({"error": {"pointer": "", "message": "m"}, "missing": [name]}).encode()
    service.replies = [Reply(424, missing), Reply(404), Reply(201), Reply(body=answer_of(RIGHT))]
    await remote.grade([GROUP], testsets={name: content})
    assert [seen.method for seen in service.seen] == ["POST", "HEAD", "PUT", "POST"]


async def test_a_thousand_calls_at_a_time_share_the_connections(service: Service) -> None:
    service.replies = [Reply(body=answer_of(RIGHT))]
    async with AsyncRewardClient(service.url, connections=8) as client:
        answers = await asyncio.gather(*(client.grade([GROUP]) for _ in range(200)))
    assert len(answers) == 200
    assert len({seen.port for seen in service.seen}) <= 8


# ---- both clients ----------------------------------------------------------------------------------------------------


async def test_another_replica_is_asked_where_one_does_not_answer(service: Service) -> None:
    service.replies = [Reply(body=answer_of(RIGHT))]
    async with AsyncRewardClient([CLOSED, service.url], total_s=5) as remote:
        assert (await remote.grade([GROUP])).grades[0].reward == 1.1
        assert remote._url("") == service.url
    with RewardClient([CLOSED, service.url], total_s=5) as client:
        assert (await asyncio.to_thread(client.grade, [GROUP])).grades[0].reward == 1.1
        assert client.ready().ready


def test_a_replica_that_is_stopping_is_left_at_once() -> None:
    with scripted_service() as stopping, scripted_service() as other:
        stopping.replies = [Reply(503, headers={"Retry-After": "3600"})]
        other.replies = [Reply(body=answer_of(RIGHT))]
        with RewardClient([stopping.url, other.url], total_s=5) as client:
            for _ in range(3):
                client.grade([GROUP])
        assert (len(stopping.seen), len(other.seen)) == (1, 3)


def test_a_batch_goes_in_several_bodies_and_comes_back_as_one(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_bodies, "BODY_COST", 20)
    service.replies = [Reply(body=answer_of(RIGHT))]
    groups = [{**GROUP, "group_id": str(number), "task": "code" if number < 4 else "math"} for number in range(30)]
    with RewardClient(service.url) as client:
        response = client.grade(groups, request_id="step3")
    bodies = [json.loads(seen.body) for seen in service.seen]
    assert sorted(body["request_id"] for body in bodies) == ["step3/0", "step3/1", "step3/2", "step3/3"]
    assert sorted(len(body["groups"]) for body in bodies) == [2, 2, 6, 20]
    assert {group["group_id"] for body in bodies for group in body["groups"]} == {str(number) for number in range(30)}
    assert (len(response.grades), len(response.groups)) == (4, 4)


@pytest.mark.parametrize("url", [[], "127.0.0.1:8000", ["ftp://x"]])
def test_an_address_that_is_none_is_refused(url: str | list[str]) -> None:
    with pytest.raises(ValueError, match="address"):
        AsyncRewardClient(url)
    with pytest.raises(ValueError, match="address"):
        RewardClient(url)


def test_the_discard_port_is_closed_here() -> None:
    with socket.socket() as connection:
        assert connection.connect_ex(("127.0.0.1", 9)) != 0
