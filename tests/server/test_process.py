"""A real server process on a free port: start, grades, refusals on the wire, stop."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reward_service.client import RewardClient, TestSetsMissing
from reward_service.client import testset_name as name_of  # under its own name pytest would take it for a test
from reward_service.settings import environment_name
from tests.server.doubles import program_body, program_group

SERVE = "from reward_service.server.app import serve; from reward_service.settings import Settings; serve(Settings())"
START_S = 60


@dataclass
class Server:
    process: subprocess.Popen[str]
    port: int
    lines: list[dict[str, Any]]

    def post(self, body: bytes | Any, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("POST", "/v1/grade", data, {"Content-Type": "application/json", **(headers or {})})
        return self._answer(connection)

    def get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path)
        return self._answer(connection)

    def _answer(self, connection: http.client.HTTPConnection) -> tuple[int, dict[str, str], bytes]:
        response = connection.getresponse()
        answer = response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        connection.close()
        return answer


@contextlib.contextmanager
def served(**settings: object) -> Iterator[Server]:
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("REWARD_")}
    environment |= {environment_name(name): str(value) for name, value in {"port": 0, "workers": 1, "sandbox_slots": 1, **settings}.items()}
    process = subprocess.Popen([sys.executable, "-c", SERVE], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        yield Server(process, *_started(process))
    finally:
        process.kill()
        process.wait()


def _started(process: subprocess.Popen[str]) -> tuple[int, list[dict[str, Any]]]:
    assert process.stderr is not None
    lines: list[dict[str, Any]] = []
    until = time.monotonic() + START_S
    for line in process.stderr:
        lines.append(json.loads(line))
        if "Uvicorn running on" in lines[-1]["event"]:
            return int(lines[-1]["event"].split(":")[2].split()[0]), lines
        assert time.monotonic() < until
    raise AssertionError(f"did not start: {lines}")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with served(max_body_bytes=1 << 20, body_wait_s=1) as server:
        yield server


def choice_body(count: int, size: int = 10) -> dict[str, Any]:
    group = {
        "group_id": "c",
        "task": "choice",
        "reference": {"answer": "B"},
        "rollouts": [{"rollout_id": str(k), "completion": "x" * size + f"\\boxed{{{'AB'[k % 2]}}}"} for k in range(count)],
    }
    return program_body(group)


def test_it_says_what_an_operator_must_know(server: Server) -> None:
    events = [line["event"] for line in server.lines]
    assert any("no key is set" in event for event in events)
    assert any(event in ("ready", "not everything works here") for event in events)


def test_a_big_request_is_graded(server: Server) -> None:
    status, headers, body = server.post(choice_body(200, 2000))
    assert status == 200
    assert headers["content-type"] == "application/json"
    assert [grade["outcome"] for grade in json.loads(body)["grades"]] == ["incorrect", "correct"] * 100


def test_the_stream_over_a_socket(server: Server) -> None:
    status, _, body = server.post(choice_body(10), {"Accept": "application/x-ndjson"})
    lines = [json.loads(line) for line in body.splitlines()]
    assert (status, len(lines), lines[-1]["type"]) == (200, 11, "end")
    assert lines[-1]["counts"]["correct"] == 5


def test_a_body_that_is_too_large_is_refused_and_the_connection_lives(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", "/v1/grade", b"x" * (3 << 20), {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["error"]["pointer"]) == (413, "")
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200
    connection.close()


def test_a_client_that_stalls_is_refused(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"POST /v1/grade HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        assert connection.recv(1000).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    "text",
    [
        b"nonsense\r\n\r\n",
        b"POST /v1/grade HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/grade HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused(server: Server, text: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(text)
        assert connection.recv(1000).startswith(b"HTTP/1.1 4")
    assert server.get("/healthz")[0] == 200


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"POST /v1/grade HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 200_000 + b"\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X-Many: 1\r\n" * 10_000 + b"\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nX-Endless: " + b"a" * 200_000, 431),
    ],
    ids=["nonsense", "chunk", "url", "header", "headers", "endless"],
)
def test_refusals_of_the_protocol_have_the_one_form(server: Server, text: bytes, status: int) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(text)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(1 << 16):
                answer += piece
    head, _, content = answer[answer.rindex(b"HTTP/1.1 4") :].partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert json.loads(content)["error"]["pointer"] == ""
    assert server.get("/healthz")[0] == 200


def test_long_bodies_and_usual_heads_are_no_long_heads(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    for _ in range(3):  # a kept connection: what came before does not count
        body = json.dumps(choice_body(50, 5000)).encode()
        connection.request("POST", "/v1/grade", body, {"Content-Type": "application/json", "X-Long": "a" * 30_000})
        response = connection.getresponse()
        assert (response.status, len(json.loads(response.read())["grades"])) == (200, 50)
    connection.close()


def test_a_port_that_is_taken_is_told_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environment = {**os.environ, "REWARD_PORT": str(taken.getsockname()[1])}
        done = subprocess.run([sys.executable, "-c", SERVE], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "Address already in use; stop what listens there, or take another port" in done.stderr


def test_a_disconnect_in_the_middle_leaves_nothing_behind(server: Server) -> None:
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            body = json.dumps(choice_body(500)).encode()
            head = f"POST /v1/grade HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
    until = time.monotonic() + 10
    while b"reward_in_flight_requests 0.0" not in server.get("/metrics")[2]:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_sigterm_drains_and_leaves_no_process() -> None:
    with served(drain_s=20) as server:
        children = _children(server.process.pid)
        assert children
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(15) == 0
        assert not [pid for pid in children if os.path.exists(f"/proc/{pid}") and _state(pid) != "Z"]


@pytest.mark.isolation
def test_a_second_sigterm_cuts_off_and_says_cancelled() -> None:
    loop = {"rollout_id": "0", "completion": "```python\nwhile True: pass\n```"}
    group = program_group(rollouts=[loop], reference={"tests": [{"stdin": "", "stdout": "1"}], "limits": {"cpu_s": 60}})
    with served(drain_s=60) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("POST", "/v1/grade", json.dumps(program_body(group)), {"Content-Type": "application/json"})
        until = time.monotonic() + 20
        while b"reward_sandbox_busy 1.0" not in server.get("/metrics")[2]:
            assert time.monotonic() < until
            time.sleep(0.05)
        server.process.send_signal(signal.SIGTERM)
        until = time.monotonic() + 10
        while server.post({"groups": []})[0] != 503:
            assert time.monotonic() < until
        server.process.send_signal(signal.SIGTERM)
        answer = json.loads(connection.getresponse().read())
        assert answer["grades"][0]["detail"] == {"reason": "cancelled"}
        assert server.process.wait(15) == 0


def test_a_host_without_a_key_does_not_start() -> None:
    environment = {**os.environ, "REWARD_HOST": "0.0.0.0"}
    done = subprocess.run([sys.executable, "-c", SERVE], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "REWARD_KEY" in done.stderr


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        direct = [int(child) for child in file.read().split()]
    return direct + [below for child in direct for below in _children(child)]


def _state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_an_upload_cut_off_by_a_kill_leaves_no_test_set_and_can_be_repeated(tmp_path: Path) -> None:
    content = json.dumps({"tests": [{"stdin": "x" * 3_000_000, "stdout": "y"}]}).encode()
    digest = hashlib.sha256(content).hexdigest()
    head = f"PUT /v1/testsets/{digest} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    with served(testset_folder=tmp_path) as server, socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(head + content[:-10])
        until = time.monotonic() + START_S
        while not any(path.suffix == ".part" for path in tmp_path.iterdir()):
            assert time.monotonic() < until
            time.sleep(0.01)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
    for part in tmp_path.iterdir():
        os.utime(part, (1, 1))  # as if a minute had passed
    with served(testset_folder=tmp_path) as server:
        assert not list(tmp_path.iterdir())
        assert server.get(f"/v1/testsets/{digest}")[0] == 404
        connection_again = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection_again.request("PUT", f"/v1/testsets/{digest}", content, {"Content-Type": "application/json"})
        assert connection_again.getresponse().status == 201
        connection_again.close()
        assert server.get(f"/v1/testsets/{digest}")[2] == content


@pytest.mark.isolation
def test_a_client_uploads_what_the_service_lacks(tmp_path: Path) -> None:
    content = {"tests": [{"stdin": f"{number}\n", "stdout": f"{2 * number}\n"} for number in range(500)]}
    name = name_of(content)
    rollouts = [{"rollout_id": str(k), "completion": f"```python\nprint(int(input()) * {k})\n```"} for k in (1, 2)]
    group = {"group_id": "g", "task": "code", "reference": {"testset": name}, "rollouts": rollouts}
    with served(testset_folder=tmp_path) as server, RewardClient(f"http://127.0.0.1:{server.port}") as client:
        with pytest.raises(TestSetsMissing):
            client.grade([group], "correctness-only")
        assert not list(tmp_path.iterdir())
        answer = client.grade([group], "correctness-only", testsets={name: content})
        assert [grade.reward for grade in answer.grades] == [0.0, 1.0]
        assert answer.grades[1].detail["tests_passed"] == 20
        inline = client.grade([{**group, "reference": content}], "correctness-only", detail="full")
        named = client.grade([group], "correctness-only", detail="full")
        assert [grade.detail["drawn"] for grade in inline.grades] == [grade.detail["drawn"] for grade in named.grades]
