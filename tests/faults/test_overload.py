"""Ten times more than the service can do: it does what it can, says no at once to the rest, and grades nothing wrong."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field

import pytest

from tests.faults.served import ADD, Connections, body, code_group, percentile, served

pytestmark = [pytest.mark.soak, pytest.mark.isolation]
SECONDS = float(os.environ.get("FAULT_SECONDS", "60"))
BURN = "import time\nend = time.process_time() + {seconds}\nwhile time.process_time() < end: pass\n" + ADD
TIMES = 10
CLIENTS = 4  # as many as keep the slots busy


@dataclass
class Load:
    """What became of the requests: seconds by outcome, and when the good ones came."""

    connections: Connections
    seconds: dict[str, list[float]] = field(default_factory=lambda: collections.defaultdict(list))
    good_s: list[float] = field(default_factory=list)
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def send(self, burn_s: float, cpu_s: float = 4) -> None:
        data = body(code_group(f"g{next(self.numbers)}", 1, BURN.format(seconds=burn_s), cpu_s))
        begun_s = time.monotonic()
        status, headers, content = await self.connections.post(data)
        if status == 429:
            assert int(headers["retry-after"]) >= 1
            outcome = "shed"
        else:
            assert status == 200, content
            grade = json.loads(content)["grades"][0]
            outcome = grade["outcome"] if grade["outcome"] != "unscored" else grade["detail"]["reason"]
            self.good_s.append(time.monotonic())
        self.seconds[outcome].append(time.monotonic() - begun_s)

    async def closed(self, clients: int, seconds: float, burn_s: float) -> None:
        """So many clients, one request after the other."""
        end_s = time.monotonic() + seconds

        async def client() -> None:
            while time.monotonic() < end_s:
                await self.send(burn_s)

        await asyncio.gather(*(client() for _ in range(clients)))

    async def open(self, rate: float, seconds: float, burn_s: float, cpu_s: float = 4) -> None:
        """So many requests a second, whatever becomes of them."""
        begun_s, sent = time.monotonic(), set[asyncio.Task[None]]()
        while (now_s := time.monotonic() - begun_s) < seconds:
            while len(sent) < now_s * rate:
                sent.add(asyncio.create_task(self.send(burn_s, cpu_s)))
            await asyncio.sleep(0.005)
        await asyncio.gather(*sent)

    async def rate(self, seconds: float, work: Coroutine[None, None, None]) -> float:
        """How many requests a second are done in the first so many seconds of some load, on cores that the load itself leaves free."""
        begun_s, own_s = time.monotonic(), time.process_time()
        used_s = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(seconds, lambda: used_s.set_result(time.process_time() - own_s))
        await work
        free = 1 - await used_s / seconds / len(os.sched_getaffinity(0))
        return sum(begun_s < at <= begun_s + seconds for at in self.good_s) / seconds / free


async def test_ten_times_the_capacity() -> None:
    """Capacity is measured by the same jobs just before and just after, so that a machine that changes meanwhile is seen to."""
    with served(max_queue_s=5) as server:
        load = Load(Connections(server.port))
        await load.closed(2, 2, 0.05)
        before = await load.rate(SECONDS / 4, load.closed(CLIENTS, SECONDS / 4, 0.05))
        memory, descriptors = server.memory_bytes(), server.descriptors()
        load.seconds.clear()
        overloaded = await load.rate(SECONDS, load.open(TIMES * before, SECONDS, 0.05))
        outcomes, shed_p99 = {name: len(all_) for name, all_ in load.seconds.items()}, percentile(load.seconds["shed"], 0.99)
        load.connections.close()
        await asyncio.sleep(2)
        grown, opened = server.memory_bytes() - memory, server.descriptors() - descriptors
        after = await load.rate(SECONDS / 4, load.closed(CLIENTS, SECONDS / 4, 0.05))
        load.connections.close()
    found = {"before": before, "overloaded": overloaded, "after": after, "goodput": 2 * overloaded / (before + after)}
    print(json.dumps({**found, "shed_p99_s": shed_p99, "grown_bytes": grown, "opened": opened, "outcomes": outcomes}))  # noqa: T201
    assert set(outcomes) == {"correct", "shed"}
    assert set(load.seconds) == {"correct", "shed"}
    assert grown < 64 << 20
    assert opened <= 5


async def test_load_and_a_hog_make_no_honest_program_too_slow() -> None:
    with served(max_queue_s=8) as server, hog():
        load = Load(Connections(server.port))
        await load.open(TIMES * len(os.sched_getaffinity(0)) / 2.5, min(SECONDS, 30), 2.5)
        load.connections.close()
    print(json.dumps({name: len(all_) for name, all_ in load.seconds.items()}))  # noqa: T201 - figures for bench/README.md
    assert load.seconds["correct"]
    assert set(load.seconds) <= {"correct", "shed"}


@contextlib.contextmanager
def hog() -> collections.abc.Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()
