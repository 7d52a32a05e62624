"""The client against a real HTTP server on loopback that answers by a script."""

from __future__ import annotations

import contextlib
import email.utils
import gzip
import json
import os
import socket
import threading
import time
from collections.abc import Callable

import pytest

from reward_service import client as client_module
from reward_service import connections
from reward_service.client import (
    Readiness,
    RequestRefused,
    RewardClient,
    ServiceFailed,
    ServiceUnavailable,
    StreamIncomplete,
    Unscored,
    UnscoredError,
)
from tests.client.answers import GROUP, LOST, RIGHT, TERMS, answer_of, lines_of
from tests.scripted_service import Reply, Service


def test_grades_come_back_as_records(service: Service, client: RewardClient) -> None:
    service.replies = [Reply(body=answer_of(RIGHT))]
    response = client.grade([GROUP], {"base": "magistral", "l_max": 100}, detail="full", deadline_s=3, priority="train")
    assert [(grade.rollout_id, grade.outcome, grade.reward, grade.terms) for grade in response.grades] == [("0", "correct", 1.1, TERMS)]
    assert (response.groups[0]["group_id"], response.scheme["name"]) == ("g", "magistral")
    sent = service.seen[0]
    assert (sent.method, sent.path, sent.headers["Authorization"]) == ("POST", "/v1/grade", "Bearer s3cret")
    body = json.loads(sent.body)
    assert len(body.pop("request_id")) == 32
    assert body == {
        "scheme": {"base": "magistral", "l_max": 100}, "groups": [GROUP], "detail": "full", "deadline_s": 3, "priority": "train",
    }  # fmt: skip


def test_what_is_not_stated_is_not_sent(service: Service, client: RewardClient) -> None:
    service.replies = [Reply(body=answer_of(RIGHT))]
    client.grade(iter([GROUP]))
    assert json.loads(service.seen[0].body).keys() == {"scheme", "groups", "detail", "request_id"}


def test_big_bodies_are_compressed_and_small_ones_are_not(service: Service, client: RewardClient) -> None:
    service.replies = [Reply(body=answer_of(RIGHT))]
    client.grade([GROUP])
    client.grade([GROUP] * 1000)
    small, big = service.seen
    assert "Content-Encoding" not in small.headers
    assert big.headers["Content-Encoding"] == "gzip"
    assert len(json.loads(gzip.decompress(big.body))["groups"]) == 1000


def test_nan_is_never_sent(service: Service, client: RewardClient) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        client.grade([{"group_id": float("nan")}])
    assert not service.seen


@pytest.mark.parametrize(("status", "asked"), [(429, "1"), (502, "0"), (503, "0"), (504, "0")])
def test_overload_is_tried_again_after_the_time_asked_for(service: Service, client: RewardClient, status: int, asked: str) -> None:
    service.replies = [Reply(status, headers={"Retry-After": asked}), Reply(body=answer_of(RIGHT))]
    start = time.monotonic()
    assert client.grade([GROUP]).grades[0].reward == 1.1
    assert float(asked) <= time.monotonic() - start < float(asked) + 2.0


def test_retry_after_may_be_a_date(service: Service, client: RewardClient) -> None:
    service.replies = [
        Reply(503, headers={"Retry-After": email.utils.formatdate(time.time() + 2, usegmt=True)}),
        Reply(body=answer_of(RIGHT)),
    ]
    start = time.monotonic()
    client.grade([GROUP])
    assert 0.9 <= time.monotonic() - start < 4.0  # dates have whole seconds


def test_a_retry_after_that_says_nothing_is_no_obstacle(service: Service, client: RewardClient) -> None:
    service.replies = [Reply(429, headers={"Retry-After": "soon"}), Reply(429), Reply(body=answer_of(RIGHT))]
    assert client.grade([GROUP]).grades[0].outcome == "correct"


def test_a_wait_longer_than_the_time_allowed_fails_at_once(service: Service, client: RewardClient) -> None:
    service.replies = [Reply(503, headers={"Retry-After": "3600"})]
    start = time.monotonic()
    with pytest.raises(ServiceUnavailable) as caught:
        client.grade([GROUP])
    assert caught.value.status == 503
    assert time.monotonic() - start < 60.0  # and not an hour


def test_a_body_that_came_too_slowly_is_sent_again(service: Service, client: RewardClient) -> None:
    service.replies = [
        Reply(408, b'{"error": {"pointer": "", "message": "no byte of the body for 30 seconds"}}'),
        Reply(body=answer_of(RIGHT)),
    ]
    assert client.grade([GROUP]).grades[0].outcome == "correct"
    assert len(service.seen) == 2


def test_the_client_does_not_give_up_before_the_deadline(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "TOTAL_S", 0.1)
    monkeypatch.setattr(client_module, "MARGIN_S", 0.05)
    service.replies = [Reply(429)]
    with RewardClient(service.url) as patient:
        for deadline_s, within_s in ((None, 0.1), (0.01, 0.1), (0.4, 0.45)):
            with pytest.raises(ServiceUnavailable, match=f"within {within_s} s"):
                patient.grade([GROUP], deadline_s=deadline_s)


def test_a_total_time_that_ends_before_the_deadline_is_refused(service: Service, client: RewardClient) -> None:
    with pytest.raises(ValueError, match=r"total_s \(5\) must be greater than deadline_s \(600\)"):
        client.grade([GROUP], deadline_s=600)
    with pytest.raises(ValueError, match="total_s"):
        next(client.stream([GROUP], deadline_s=5))
    assert service.seen == []


def test_the_total_time_is_bounded(service: Service) -> None:
    service.replies = [Reply(429)]
    start = time.monotonic()
    with RewardClient(service.url, total_s=0.5) as client, pytest.raises(ServiceUnavailable, match="answers 429"):
        client.grade([GROUP])
    assert time.monotonic() - start < 30.0  # without the bound it would go on for ever
    assert len(service.seen) > 2


def test_a_silent_service_is_given_up(service: Service) -> None:
    service.replies = [Reply(delay_s=2.0)]
    with RewardClient(service.url, total_s=0.3) as client, pytest.raises(ServiceUnavailable) as caught:
        client.grade([GROUP])
    assert caught.value.status is None


def test_nobody_there(service: Service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with RewardClient(url, total_s=0.2) as client:
        with pytest.raises(ServiceUnavailable, match="ConnectionRefusedError"):
            client.grade([GROUP])
        with pytest.raises(ServiceUnavailable):
            client.ready()
        assert not client.health()


def test_connections_are_kept(service: Service, client: RewardClient) -> None:
    service.replies = [Reply(body=answer_of(RIGHT)), Reply(body=lines_of({"type": "end"}), chunked=True), Reply(body=answer_of(RIGHT))]
    client.grade([GROUP])
    assert list(client.stream([GROUP])) == []
    client.grade([GROUP])
    assert len({seen.port for seen in service.seen}) == 1


@pytest.mark.parametrize("chunked", [False, True])
def test_a_service_that_closes_every_connection(service: Service, client: RewardClient, chunked: bool) -> None:
    service.replies = [Reply(body=answer_of(RIGHT), headers={"Connection": "close"}, chunked=chunked)]
    assert [client.grade([GROUP]).grades[0].reward for _ in range(2)] == [1.1, 1.1]
    assert len(service.seen) == len({seen.port for seen in service.seen}) == 2


def test_a_kept_connection_that_was_dropped_is_replaced_without_a_pause(
    service: Service, client: RewardClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.replies = [Reply(body=answer_of(RIGHT)), Reply(drop=True), Reply(body=answer_of(RIGHT))]
    client.grade([GROUP])
    monkeypatch.setattr(connections, "FIRST_PAUSE_S", 60.0)
    assert client.grade([GROUP]).grades[0].reward == 1.1
    assert len(service.seen) == 3


@pytest.mark.parametrize("chunked", [False, True])
def test_an_answer_that_breaks_off_is_asked_for_again(service: Service, client: RewardClient, chunked: bool) -> None:
    service.replies = [Reply(body=answer_of(RIGHT), cut=20, chunked=chunked), Reply(body=answer_of(RIGHT))]
    assert len(client.grade([GROUP]).grades) == 1
    assert len(service.seen) == 2


def test_a_connection_dropped_before_the_answer_is_tried_again(service: Service, client: RewardClient) -> None:
    service.replies = [Reply(drop=True), Reply(drop=True), Reply(body=answer_of(RIGHT))]
    assert client.grade([GROUP]).grades[0].reward == 1.1


def test_a_refusal_names_the_fields_and_is_not_repeated(service: Service, client: RewardClient) -> None:
    errors = [{"pointer": "/groups/0/task", "message": "must be one of math"}, {"pointer": "/x", "message": "unknown field"}]
    service.replies = [Reply(422, json.dumps({"error": errors[0], "errors": errors}).encode())]
    with pytest.raises(RequestRefused, match="refused with 422: /groups/0/task: must be one of math") as caught:
        client.grade([GROUP])
    assert (caught.value.status, caught.value.pointer) == (422, "/groups/0/task")
    assert caught.value.errors == (("/groups/0/task", "must be one of math"), ("/x", "unknown field"))
    assert len(service.seen) == 1


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": "no"}', b'{"errors": []}'])
def test_a_refusal_by_something_else_is_a_refusal_all_the_same(service: Service, client: RewardClient, body: bytes) -> None:
    service.replies = [Reply(401, body)]
    with pytest.raises(RequestRefused) as caught:
        client.grade([GROUP])
    assert (caught.value.status, caught.value.message) == (401, "Unauthorized")


@pytest.mark.parametrize(
    "reply", [Reply(500), Reply(200, b"no JSON"), Reply(200, b"[]"), Reply(200, b"{}"), Reply(200, answer_of({"group_id": "g"}))]
)
def test_an_answer_that_is_none_is_the_services_fault(service: Service, client: RewardClient, reply: Reply) -> None:
    service.replies = [reply]
    with pytest.raises(ServiceFailed):
        client.grade([GROUP])
    assert len(service.seen) == 1


def test_unscored_rollouts_are_raised_with_their_reasons(service: Service, client: RewardClient) -> None:
    service.replies = [Reply(body=answer_of(RIGHT, LOST))]
    with pytest.raises(UnscoredError, match="1 rollouts have no reward \\(deadline\\)") as caught:
        client.grade([GROUP])
    assert caught.value.unscored == (Unscored("g", "1", "deadline"),)
    assert caught.value.response is not None
    assert len(caught.value.response.grades) == 2


def test_unscored_rollouts_are_returned_to_those_who_ask(service: Service, client: RewardClient) -> None:
    service.replies = [Reply(body=answer_of(RIGHT, LOST))]
    lost = client.grade([GROUP], on_unscored="return").grades[1]
    assert (lost.reward, lost.correctness, set(lost.terms.values())) == (None, None, {None})


STREAM = lines_of({"type": "heartbeat"}, {"type": "grade", **LOST}, {"type": "grade", **RIGHT}, {"type": "heartbeat"}, {"type": "end"})


def test_a_stream_yields_grades_and_raises_for_the_unscored_at_its_end(service: Service, client: RewardClient) -> None:
    service.replies = [Reply(body=STREAM, chunked=True)]
    stream = client.stream([GROUP])
    assert next(stream).rollout_id == "0"
    with pytest.raises(UnscoredError) as caught:
        next(stream)
    assert caught.value.unscored == (Unscored("g", "1", "deadline"),)
    assert [grade.rollout_id for grade in client.stream([GROUP], on_unscored="return")] == ["1", "0"]
    assert service.seen[0].headers["Accept"] == "application/x-ndjson"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("cut", [len(STREAM) - 1, len(STREAM) - 20, len(lines_of({"type": "heartbeat"}, {"type": "grade", **LOST}))])
def test_a_stream_that_breaks_off_is_never_taken_for_complete(service: Service, client: RewardClient, cut: int, chunked: bool) -> None:
    service.replies = [Reply(body=STREAM, chunked=chunked, cut=cut)]
    with pytest.raises(StreamIncomplete):
        list(client.stream([GROUP], on_unscored="return"))


def test_a_stream_without_its_end_line_is_incomplete(service: Service, client: RewardClient) -> None:
    service.replies = [Reply(body=lines_of({"type": "grade", **RIGHT}), chunked=True)]
    stream = client.stream([GROUP])
    assert next(stream).reward == 1.1
    with pytest.raises(StreamIncomplete, match="without its end line"):
        next(stream)


def test_a_silent_stream_is_incomplete(service: Service, client: RewardClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "SILENCE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        thread = threading.Thread(target=_answer_and_fall_silent, args=(silent,))
        thread.start()
        with RewardClient(f"http://127.0.0.1:{silent.getsockname()[1]}") as other, pytest.raises(StreamIncomplete, match="broke off"):
            list(other.stream([GROUP]))
        thread.join()


def _answer_and_fall_silent(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.recv(1 << 16)  # until the client goes away


def test_streams_are_retried_before_their_first_grade(service: Service, client: RewardClient) -> None:
    service.replies = [Reply(429), Reply(drop=True), Reply(body=lines_of({"type": "grade", **RIGHT}, {"type": "end"}), chunked=True)]
    assert [grade.reward for grade in client.stream([GROUP])] == [1.1]


def test_a_stream_left_early_does_not_spoil_the_next_request(service: Service, client: RewardClient) -> None:
    service.replies = [Reply(body=STREAM, chunked=True), Reply(body=answer_of(RIGHT))]
    with contextlib.closing(client.stream([GROUP], on_unscored="return")) as stream:
        next(stream)
    assert client.grade([GROUP]).grades[0].reward == 1.1
    assert len({seen.port for seen in service.seen}) == 2


def test_a_large_body_refused_before_it_was_read(service: Service) -> None:
    body = json.dumps({"error": {"pointer": "", "message": "too large"}}).encode()
    with socket.create_server(("127.0.0.1", 0)) as curt:
        thread = threading.Thread(target=_refuse_without_reading, args=(curt, body))
        thread.start()
        noise = os.urandom(4_000_000).hex()
        with (
            RewardClient(f"http://127.0.0.1:{curt.getsockname()[1]}", total_s=3) as client,
            pytest.raises(RequestRefused, match="too large"),
        ):
            client.grade([{"group_id": noise}])
        thread.join()


def _refuse_without_reading(server: socket.socket, body: bytes) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))
        connection.shutdown(socket.SHUT_WR)
        time.sleep(0.2)


def test_readiness_and_health(service: Service, client: RewardClient) -> None:
    service.replies = [
        Reply(body=b'{"status": "ready"}'),
        Reply(503, b'{"status": "starting"}'),
        Reply(200, b'{"status": "ok"}'),
        Reply(500),
    ]
    assert client.ready() == Readiness(True, {"status": "ready"})
    assert client.ready() == Readiness(False, {"status": "starting"})
    assert (client.health(), client.health()) == (True, False)
    assert [seen.path for seen in service.seen] == ["/readyz", "/readyz", "/healthz", "/healthz"]


def test_threads_share_a_client(service: Service, client: RewardClient) -> None:
    service.replies = [Reply(body=answer_of(RIGHT), delay_s=0.01)]
    rewards: list[float | None] = []
    work: Callable[[], None] = lambda: rewards.extend(client.grade([GROUP]).grades[0].reward for _ in range(10))  # noqa: E731
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rewards == [1.1] * 80
    assert len({seen.port for seen in service.seen}) <= 8


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_opens_a_connection_of_its_own(service: Service, client: RewardClient) -> None:
    service.replies = [Reply(body=answer_of(RIGHT))]
    client.grade([GROUP])
    child = os.fork()
    if child == 0:
        os._exit(0 if client.grade([GROUP]).grades[0].reward == 1.1 else 1)
    assert os.waitpid(child, 0)[1] == 0
    client.grade([GROUP])
    first, second, third = (seen.port for seen in service.seen)
    assert first == third != second


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://", "http://host/?token=x", "http://user:pass@host"])
def test_addresses_that_cannot_work_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must look like"):
        RewardClient(url)


def test_a_prefix_in_the_address_is_kept(service: Service) -> None:
    service.replies = [Reply(body=answer_of(RIGHT))]
    with RewardClient(f"{service.url}/rewards/") as client:
        client.grade([GROUP])
    assert service.seen[0].path == "/rewards/v1/grade"


def test_no_error_carries_the_key(service: Service, client: RewardClient) -> None:
    service.replies = [Reply(401)]
    with pytest.raises(RequestRefused) as caught:
        client.grade([GROUP])
    assert "s3cret" not in str(caught.value)


# ---- test sets -------------------------------------------------------------------------------------------------------
