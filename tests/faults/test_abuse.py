"""Peers that hold on, bodies that blow up: refused or dropped, in little memory, and hardly noticed by honest clients."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

from tests.faults.served import Connections, body, code_group, math_group, request, served

pytestmark = [pytest.mark.soak, pytest.mark.isolation]
GROWTH_BYTES = 64 << 20
IDLE, SLOW, LEAVING = 10_000, 500, 200
ROOT = Path(__file__).parents[2]


async def honest(port: int, count: int = 100) -> float:
    """The p99 of single rollouts, in seconds; in another process, since this one is busy with being hostile."""
    command = (sys.executable, "-m", "tests.faults.honest", str(port), str(count))
    measuring = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=subprocess.PIPE)
    told, _ = await measuring.communicate()
    assert measuring.returncode == 0
    return float(told)


async def status_of(port: int, data: bytes, head: str = "") -> int:
    connections = Connections(port)
    try:
        return (await connections.post(data, head))[0]
    finally:
        connections.close()


async def drip(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        for byte in b"POST /v1/grade HTTP/1.1\r\nX-Padding: " + b"x" * 10_000:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.2)


async def leave(port: int, number: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request(body(code_group(f"leaver{number}", 4, "while True: pass"))))
    await asyncio.sleep(random.random())
    writer.transport.abort()


async def test_hostile_peers_cost_little() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = IDLE + SLOW + 1000
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"needs {wanted} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    # Made before anything is measured: this takes seconds.
    bombs = {"gzip": gzip.compress(b"\0" * (1 << 30), 1), "zstd": zstandard.compress(b"\0" * (1 << 30), 1)}
    long = math_group("long", 1, "7")
    long["rollouts"][0]["completion"] = "x" * 100_000_000
    large = body(long)
    with served() as server:
        port, found = server.port, dict[str, float]()
        await honest(port, 100)
        found["baseline_p99_s"], memory = await honest(port), server.memory_bytes()
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(IDLE)]
        found["idle_p99_s"] = await honest(port)
        slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(SLOW)]
        drips = [asyncio.create_task(drip(writer)) for _, writer in slow]
        found["slow_p99_s"] = await honest(port)
        beside = asyncio.create_task(honest(port))
        assert await status_of(port, large) == 413
        deep = b'{"groups":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
        assert await status_of(port, deep) == 422
        assert await status_of(port, gzip.compress(deep), "Content-Encoding: gzip\r\n") == 422
        for encoding, bomb in bombs.items():
            assert await status_of(port, bomb, f"Content-Encoding: {encoding}\r\n") == 413
        found["bodies_p99_s"] = await beside
        await asyncio.gather(*(leave(port, number) for number in range(LEAVING)))
        found["leavers_p99_s"] = await honest(port)
        found["grown_bytes"] = server.memory_bytes() - memory
        for task in drips:
            task.cancel()
        for _, writer in held + slow:
            writer.transport.abort()
        await asyncio.sleep(2)
        found["grown_afterwards_bytes"], found["descriptors"] = server.memory_bytes() - memory, server.descriptors()
        assert server.metric("reward_in_flight_requests") == 0
    print(json.dumps(found))  # noqa: T201 - figures for bench/README.md
    assert found["grown_afterwards_bytes"] < GROWTH_BYTES
    assert found["descriptors"] < 100
