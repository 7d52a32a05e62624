"""What HTTP costs: a batch beside the same in process, a single beside its verifier alone, a thousand singles beside an empty route.

    python bench/http.py [--rounds 5] [--batch 2048] [--connections 1024] [--seconds 5]

The service runs in a process of its own, as does the route of FastAPI that takes the same bodies and answers `{}`; the clients are in this
one. Sides take turns, answers differ from round to round so that no cache knows them, and medians are printed.
"""

from __future__ import annotations

import sys

ROOT = __file__.rpartition("/bench/")[0]
sys.path[0] = ROOT  # this folder would hide `math`, `http` and `sandbox` behind its files

import argparse  # noqa: E402
import asyncio  # noqa: E402
import contextlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
from collections.abc import Awaitable, Callable, Iterator  # noqa: E402
from typing import Any  # noqa: E402

from reward_service.pipeline import grade_groups  # noqa: E402
from reward_service.server.requests import read_request  # noqa: E402
from reward_service.server.service import bounds_of  # noqa: E402
from reward_service.settings import Settings  # noqa: E402
from reward_service.wiring import Machine, build_machine  # noqa: E402

SERVE = "from reward_service.server.app import serve; from reward_service.settings import Settings; serve(Settings())"
EMPTY = """
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from typing import Any

class Body(BaseModel):
    scheme: Any
    groups: list[dict[str, Any]]

app = FastAPI()

@app.post("/v1/grade")
async def grade(body: Body) -> dict[str, Any]:
    return {}

uvicorn.run(app, port=0, loop="uvloop", http="httptools", access_log=False)
"""
THOUGHT = "We add the two numbers, carry the one, and look at the sum again before we say what it is. "
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.contextmanager
def started(code: str, **environment: str) -> Iterator[tuple[int, int]]:
    """A server process: its port and process id."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": ROOT, **environment}, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stderr is not None
    try:
        line = next(line for line in process.stderr if "running on http" in line)
        threading.Thread(target=process.stderr.read, daemon=True).start()  # a log that nobody reads would stop the service
        yield int(line.split("running on http://127.0.0.1:")[1].split()[0].strip('"')), process.pid
    finally:
        process.terminate()
        process.wait()


def body_of(groups: int, rollouts: int, mark: int) -> bytes:
    """Short math rollouts; `mark` makes them new."""
    stated = [
        {
            "group_id": f"{mark}/{group}",
            "task": "math",
            "reference": {"answer": str(mark * 7919 + group)},
            "rollouts": [
                {"rollout_id": str(k), "completion": THOUGHT * 5 + f"\\boxed{{{mark * 7919 + group + k % 2}}}"} for k in range(rollouts)
            ],
        }
        for group in range(groups)
    ]
    return json.dumps({"scheme": "correctness-only", "groups": stated}).encode()


async def connect(port: int) -> Stream:
    return await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)


async def post(stream: Stream, body: bytes, head: str = "") -> bytes:
    """One exchange; the answer's body."""
    reader, writer = stream
    writer.write(
        f"POST /v1/grade HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode()
    )
    writer.write(body)
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200"), answer
    if b"content-length: " in answer:
        return await reader.readexactly(int(answer.split(b"content-length: ")[1].split(b"\r\n")[0]))
    parts = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
    await reader.readexactly(2)
    return b"".join(parts)


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    begun_s = time.perf_counter()
    await work()
    return time.perf_counter() - begun_s


async def in_process(machine: Machine, body: bytes) -> None:
    """The same work without HTTP, from the body on."""
    request = read_request(body, bounds_of(machine.settings))
    async with contextlib.aclosing(grade_groups(request.groups, request.scheme, machine.effects("bench", None))) as grades:
        async for _ in grades:
            pass


async def batches(port: int, machine: Machine, rounds: int, size: int) -> float:
    """Time of a batch over HTTP, divided by that in process."""
    stream, http_s, process_s = await connect(port), list[float](), list[float]()
    for number in range(rounds + 1):
        body = body_of(size // 16, 16, number + 1)
        http_s.append(await timed(lambda body=body: post(stream, body)))  # type: ignore[misc]
        process_s.append(await timed(lambda body=body: in_process(machine, body)))  # type: ignore[misc]
    stream[1].close()
    found, bare = statistics.median(http_s[1:]), statistics.median(process_s[1:])
    print(f"a batch of {size} short math rollouts: {found:.2f} s over HTTP, {bare:.2f} s in process")
    return found / bare


async def singles(port: int, machine: Machine, count: int) -> float:
    """Seconds of a single rollout above its time in process, which is nearly all its verifier's."""
    stream, http_s, process_s = await connect(port), list[float](), list[float]()
    for number in range(count):
        body = body_of(1, 1, 10_000 + number)
        http_s.append(await timed(lambda body=body: post(stream, body)))  # type: ignore[misc]
        process_s.append(await timed(lambda body=body: in_process(machine, body)))  # type: ignore[misc]
    stream[1].close()
    found, bare = statistics.median(http_s), statistics.median(process_s)
    more_ms = (found - bare) * 1e3
    print(f"a single rollout: {found * 1e3:.2f} ms over HTTP, {bare * 1e3:.2f} ms in process, {more_ms:.2f} ms more (under 5 wanted)")
    return found - bare


async def rate(port: int, connections: int, seconds: float, mark: int) -> float:
    """Single rollouts a second over kept connections; those of one group are eight requests."""
    streams = [await connect(port) for _ in range(connections)]
    done, end_s = 0, time.perf_counter() + seconds

    async def client(place: int) -> None:
        nonlocal done
        number = place
        while time.perf_counter() < end_s:
            await post(streams[place], body_of(1, 1, mark + number // 8))
            number += connections
            done += 1

    begun_s = time.perf_counter()
    await asyncio.gather(*(client(place) for place in range(connections)))
    took_s = time.perf_counter() - begun_s
    for _, writer in streams:
        writer.close()
    return done / took_s


async def rates(port: int, empty_port: int, rounds: int, connections: int, seconds: float) -> float:
    """Our rate of singles, divided by that of the empty route."""
    ours, empty = list[float](), list[float]()
    for number in range(rounds):
        empty.append(await rate(empty_port, connections, seconds, 0))
        ours.append(await rate(port, connections, seconds, 1_000_000 * (number + 1)))
    found, bare = statistics.median(ours), statistics.median(empty)
    print(f"{connections} connections: {found:.0f} graded rollouts/s, {bare:.0f}/s of an empty route of FastAPI (half of it wanted)")
    return found / bare


async def run(options: Any) -> None:
    machine = build_machine(Settings())
    await machine.start()
    try:
        with started(SERVE, REWARD_PORT="0") as (port, _), started(EMPTY) as (empty_port, _):
            batch = await batches(port, machine, options.rounds, options.batch)
            await singles(port, machine, 40 * options.rounds)
            share = await rates(port, empty_port, max(1, options.rounds // 2), options.connections, options.seconds)
    finally:
        await machine.close()
    print(f"ratio: http-singles {share:.2f} (1.0 = an empty route of FastAPI that takes the same bodies; 0.5 wanted)")
    print(f"ratio: http-batch {batch:.2f} (1.0 = the same batch graded in process; 1.25 wanted)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--connections", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=5.0)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
