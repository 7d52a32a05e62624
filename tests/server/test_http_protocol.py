"""Peers that stand still: heads that never end, connections that say nothing, answers that nobody reads, bodies that trickle."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn

from reward_service.server import app as app_module
from reward_service.server import bodies, http_protocol, runs, silent_connections
from reward_service.server.silent_connections import SilentConnection
from reward_service.settings import Settings
from reward_service.wiring import Machine
from sandbox.fake import FakeSandbox
from tests.server.doubles import InlinePool, program_body, program_group, settle, slow_pipeline


@contextlib.asynccontextmanager
async def listening(**settings: object) -> AsyncIterator[tuple[int, app_module.Service]]:
    """A service on a free port, in the test's own event loop: its port, and itself."""
    configured = Settings(workers=2, **settings)  # type: ignore[arg-type]
    app = app_module.create_app(configured, Machine(configured, InlinePool(), FakeSandbox()))
    with socket.create_server(("127.0.0.1", 0)) as bound:
        config = uvicorn.Config(app, http=SilentConnection, ws="none", lifespan="on", log_config=None, access_log=False)
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
        serving = asyncio.create_task(server.serve([bound]))
        await settle(lambda: server.started)
        try:
            yield bound.getsockname()[1], app.state.service
        finally:
            server.should_exit = True
            await serving


def request(body: object, head: str = "") -> bytes:
    data = json.dumps(body).encode()
    lines = f"POST /v1/grade HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n{head}\r\n"
    return lines.encode() + data


async def test_a_head_that_does_not_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_S", 0.2)
    async with listening() as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for piece in (b"POST /v1/grade HTTP/1.1\r\nHost: example.com\r\n", b"X-Padding: 0", b"1"):
            writer.write(piece)
            await asyncio.sleep(0.01)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"] == http_protocol.SLOW_HEAD
        writer.close()


async def test_a_connection_that_says_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silent_connections, "SILENT_S", 0.1)
    async with listening() as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()


async def test_a_stop_closes_what_has_said_nothing() -> None:
    async with listening() as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.05)
    assert await reader.read() == b""
    writer.close()


async def test_what_waits_for_its_answer_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silent_connections, "SILENT_S", 0.1)
    monkeypatch.setattr(http_protocol, "HEAD_S", 0.1)
    monkeypatch.setattr(runs, "grade_groups", slow_pipeline(0.3))
    async with listening() as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(request(program_body(program_group())))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            await reader.read(10_000)
        writer.close()


async def test_an_answer_that_nobody_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "UNREAD_S", 0.3)
    body = program_body(program_group(count=20_000))
    for rollout in body["groups"][0]["rollouts"]:
        rollout["completion"] = ""
        rollout["rollout_id"] = rollout["rollout_id"].rjust(1000, "0")
    async with listening() as (port, service):
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(connection, ("127.0.0.1", port))
            await loop.sock_sendall(connection, request(body, "Accept: application/x-ndjson\r\n"))
            await settle(lambda: service.admission.requests == 1)
            async with asyncio.timeout(60):
                while service.admission.requests:
                    await asyncio.sleep(0.05)
        assert service.metrics.disconnects.labels().value == 1


async def test_a_body_that_trickles_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "SLOWEST_BYTES", 1_000_000)
    async with listening(body_wait_s=0.2) as (port, service):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answer = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
        for byte in request(program_body(program_group(prompt="x" * 500))):
            if answer.done():
                break
            writer.write(bytes([byte]))
            await asyncio.sleep(0.005)
        assert (await answer).startswith(b"HTTP/1.1 408 ")
        assert service.admission.requests == 0
        writer.close()


class Transport:
    """Notes what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def test_a_head_that_states_a_length_is_written_with_the_body() -> None:
    transport = Transport()
    joined = http_protocol.Joined(transport)  # type: ignore[arg-type]
    joined.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    joined.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n")
    joined.write(b"body")
    like_a_head = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"
    joined.write(like_a_head)
    assert transport.written == [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody",
        like_a_head,
    ]


def test_a_head_without_a_length_is_written_at_once() -> None:
    transport = Transport()
    joined = http_protocol.Joined(transport)  # type: ignore[arg-type]
    pieces = [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"4\r\nHTTP\r\n", b"HTTP/1.1 \r\ncontent-length: \r\n"]
    for piece in pieces:
        joined.write(piece)
    assert transport.written == pieces


def test_a_head_whose_body_never_comes_is_written_before_the_end() -> None:
    transport = Transport()
    joined = http_protocol.Joined(transport)  # type: ignore[arg-type]
    joined.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n")
    joined.close()
    assert (transport.written, joined.is_closing()) == ([b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"], True)
