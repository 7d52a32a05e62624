"""Random processes of the service are killed under load: no grade differs from the undisturbed run, and no request is lost."""

from __future__ import annotations

import asyncio
import collections
import itertools
import json
import os
import random
import signal
import time
from collections.abc import Callable

import pytest

from tests.faults.served import Connections, body, code_group, descendants, math_group, served

pytestmark = [pytest.mark.soak, pytest.mark.isolation]
SECONDS = float(os.environ.get("FAULT_SECONDS", "60"))
CLIENTS = 16
Grades = list[tuple[str, float | None, str | None]]
SOME_WRONG = "a, b = map(int, input().split())\nprint(a + b + (a == 5))"
PROMPT = "What is the answer to this question, in plain English words?"


def requested(number: int) -> bytes:
    """The request of that number: math, programs that are right, programs that are wrong, and texts whose language counts."""
    kind = number % 4
    if kind == 0:
        return body(math_group(f"m{number}", 8, str(number + 3)))
    if kind == 3:
        return body({**math_group(f"l{number}", 2, str(number + 3)), "prompt": PROMPT}, scheme={"base": "magistral", "gate": False})
    return body(code_group(f"c{number}", 2) if kind == 1 else code_group(f"w{number}", 2, SOME_WRONG))


async def graded(port: int, numbers: collections.abc.Iterator[int], go_on: Callable[[], bool]) -> dict[int, Grades]:
    connections = Connections(port)
    found: dict[int, Grades] = {}

    async def client() -> None:
        for number in numbers:
            found[number] = await connections.grades(requested(number))
            if not go_on():
                return

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    connections.close()
    return found


async def kill_at_random(pid: int, go_on: Callable[[], bool]) -> collections.Counter[str]:
    """Kill workers, readers, warm interpreters, boxes; never the service itself."""
    chosen, killed = random.Random(9), collections.Counter[str]()
    while go_on():
        await asyncio.sleep(chosen.uniform(0.05, 0.5))
        living = descendants(pid)
        if living:
            victim = chosen.choice(living)
            try:
                with open(f"/proc/{victim}/cmdline") as file:
                    command = file.read()
                os.kill(victim, signal.SIGKILL)
            except OSError:
                continue
            killed["worker" if "worker_main" in command else "reader" if "reader_process" in command else "box"] += 1
    return killed


async def test_no_grade_changes_while_processes_are_killed_at_random() -> None:
    end_s = 0.0

    def go_on() -> bool:
        return time.monotonic() < end_s

    with served() as server:
        end_s = time.monotonic() + SECONDS
        killing = asyncio.create_task(kill_at_random(server.pid, go_on))
        disturbed = await graded(server.port, itertools.count(), go_on)
        killed = await killing
        assert server.process.poll() is None
    print(json.dumps({"killed": killed, "requests": len(disturbed), "seconds": SECONDS}))  # noqa: T201 - figures for bench/README.md
    assert killed["worker"]
    assert killed["box"]
    with served() as server:
        undisturbed = await graded(server.port, iter(sorted(disturbed)), lambda: True)
    pairs = (
        (number, place, *both)
        for number in disturbed
        for place, both in enumerate(zip(disturbed[number], undisturbed[number], strict=False))
    )
    assert [pair for pair in pairs if pair[2] != pair[3]] == []


async def test_twenty_restarts_give_every_rollout_exactly_one_grade(unused_tcp_port: int) -> None:
    """One client goes on over twenty stops and starts on the same port; every id has one final grade, which is the right one."""
    rounds = int(os.environ.get("FAULT_RESTARTS", "20"))
    connections = Connections(unused_tcp_port)
    found: dict[int, list[object]] = collections.defaultdict(list)
    stopped = False

    async def client(start: int) -> None:
        for number in itertools.count(start, CLIENTS):
            if stopped:
                return
            while not found[number]:
                grades = await connections.grades(body(math_group(f"m{number}", 3, str(number + 3)), request_id=f"id{number}"))
                if all(outcome != "unscored" for outcome, _, _ in grades):
                    found[number].append(grades)

    clients = [asyncio.create_task(client(start)) for start in range(CLIENTS)]
    for turn in range(rounds):
        with served(unused_tcp_port, workers=1, sandbox_slots=1, drain_s=0.2 if turn % 2 else 10) as server:
            await asyncio.sleep(0.5)
            stopped = turn == rounds - 1
            if stopped:
                await asyncio.gather(*clients)
            assert await asyncio.to_thread(server.stop) == 0
    connections.close()
    right = [("correct", 1.0, None), ("incorrect", 0.0, None), ("correct", 1.0, None)]
    print(json.dumps({"restarts": rounds, "requests": len(found)}))  # noqa: T201 - figures for bench/README.md
    assert len(found) > rounds
    assert {number: grades for number, grades in found.items() if grades != [right]} == {}
