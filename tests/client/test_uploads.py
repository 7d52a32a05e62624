"""The client uploads test sets to a real HTTP server on loopback that answers by a script."""

from __future__ import annotations

import gzip
import hashlib
import json

import pytest

from reward_service import client as client_module
from reward_service.client import (
    RewardClient,
    ServiceFailed,
    TestSetsMissing,
)
from tests.client.answers import GROUP, RIGHT, answer_of, lines_of
from tests.scripted_service import Reply, Service

TEST_SET = {"tests": [{"stdout": "6\n", "stdin": "\udcff"}], "checker": "lines"}
TEST_SET_BYTES = b'{"tests":[{"stdout":"6\\n","stdin":"\\udcff"}],"checker":"lines"}'
NAME = "sha256:" + hashlib.sha256(TEST_SET_BYTES).hexdigest()
PATH = "/v1/testsets/" + NAME.partition(":")[2]


def missing(*names: str) -> Reply:
    entry = {"pointer": "/groups/0/reference/testset", "message": "no such test set is here: upload it"}
    return Reply(424, json.dumps({"error": entry, "missing": names}).encode())


def calls(service: Service) -> list[tuple[str, str]]:
    return [(seen.method, seen.path) for seen in service.seen]


def test_a_test_set_is_uploaded_once(service: Service, client: RewardClient) -> None:
    service.replies = [Reply(404), Reply(201), Reply(200)]
    assert client.put_testset(TEST_SET) == NAME == client.put_testset(TEST_SET_BYTES) == client_module.testset_name(TEST_SET)
    assert calls(service) == [("HEAD", PATH), ("PUT", PATH), ("HEAD", PATH)]
    sent = service.seen[1]
    assert sent.body == TEST_SET_BYTES
    assert (sent.headers["Content-Type"], sent.headers["Authorization"]) == ("application/json", "Bearer s3cret")
    assert len({seen.port for seen in service.seen}) == 1


def test_a_big_test_set_is_compressed_and_named_by_its_plain_bytes(service: Service, client: RewardClient) -> None:
    service.replies = [Reply(404), Reply(503, headers={"Retry-After": "0"}), Reply(201)]
    big = {"tests": [{"stdin": "x" * 100_000, "stdout": ""}]}
    name = client.put_testset(big)
    sent = service.seen[2]
    assert sent.headers["Content-Encoding"] == "gzip"
    assert name == "sha256:" + hashlib.sha256(gzip.decompress(sent.body)).hexdigest()


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_missing_is_uploaded_and_the_request_repeated(service: Service, client: RewardClient, stream: bool) -> None:
    end = Reply(body=lines_of({"type": "grade", **RIGHT}, {"type": "end"}), chunked=True) if stream else Reply(body=answer_of(RIGHT))
    service.replies = [missing(NAME), Reply(404), Reply(201), end]
    call = client.stream if stream else client.grade
    result = call([GROUP], testsets={NAME: TEST_SET, "sha256:other": {}})
    grades = list(result) if stream else result.grades  # type: ignore[attr-defined, call-overload]
    assert [grade.outcome for grade in grades] == ["correct"]
    assert calls(service) == [("POST", "/v1/grade"), ("HEAD", PATH), ("PUT", PATH), ("POST", "/v1/grade")]
    assert service.seen[0].body == service.seen[3].body


def test_what_is_missing_and_was_not_given_is_said(service: Service, client: RewardClient) -> None:
    service.replies = [missing(NAME, "sha256:00")]
    with pytest.raises(TestSetsMissing) as refused:
        client.grade([GROUP], testsets={NAME: TEST_SET})
    assert refused.value.missing == (NAME, "sha256:00")
    assert refused.value.pointer == "/groups/0/reference/testset"
    assert calls(service) == [("POST", "/v1/grade")]


def test_a_service_that_forgets_at_once_is_given_up(service: Service, client: RewardClient) -> None:
    service.replies = [missing(NAME), Reply(200), *[missing(NAME), Reply(200)] * 2, missing(NAME)]
    with pytest.raises(TestSetsMissing):
        client.grade([GROUP], testsets={NAME: TEST_SET})
    assert calls(service).count(("POST", "/v1/grade")) == client_module.UPLOAD_ROUNDS


def test_a_test_set_under_another_name_is_an_error_of_the_caller(service: Service, client: RewardClient) -> None:
    service.replies = [missing("sha256:00"), Reply(200)]
    with pytest.raises(ValueError, match="another one"):
        client.grade([GROUP], testsets={"sha256:00": TEST_SET})


def test_no_room_for_a_test_set_is_the_services_fault(service: Service, client: RewardClient) -> None:
    service.replies = [Reply(404), Reply(507)]
    with pytest.raises(ServiceFailed, match="507"):
        client.put_testset(TEST_SET)
