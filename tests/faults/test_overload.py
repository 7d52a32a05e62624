"""Ten times more than the service can do: it does what it can, says no at once to the rest, and grades nothing wrong."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, field

import pytest

from tests.faults.served import ADD, Connections, body, code_group, percentile, served

pytestmark = [pytest.mark.soak, pytest.mark.isolation]
SECONDS = float(os.environ.get("FAULT_SECONDS", "60"))
BURN = "import time\nend = time.process_time() + {seconds}\nwhile time.process_time() < end: pass\n" + ADD
TIMES = 10


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

    async def closed(self, clients: int, seconds: float, burn_s: float) -> float:
        """So many clients, one request after the other: how many a second are done."""
        end_s = time.monotonic() + seconds

        async def client() -> None:
            while time.monotonic() < end_s:
                await self.send(burn_s)

        before = len(self.good_s)
        await asyncio.gather(*(client() for _ in range(clients)))
        return (len(self.good_s) - before) / seconds

    async def open(self, rate: float, seconds: float, burn_s: float, cpu_s: float = 4) -> None:
        """So many requests a second, whatever becomes of them."""
        begun_s, sent = time.monotonic(), set[asyncio.Task[None]]()
        while (now_s := time.monotonic() - begun_s) < seconds:
            while len(sent) < now_s * rate:
                sent.add(asyncio.create_task(self.send(burn_s, cpu_s)))
            await asyncio.sleep(0.005)
        await asyncio.gather(*sent)


async def test_ten_times_the_capacity() -> None:
    with served(max_queue_s=5) as server:
        load = Load(Connections(server.port))
        await load.closed(2, 2, 0.05)
        capacity = await load.closed(4, 10, 0.05)
        memory, descriptors = server.memory_bytes(), server.descriptors()
        load.seconds.clear()
        begun_s, used = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
        await load.open(TIMES * capacity, SECONDS, 0.05)
        now = resource.getrusage(resource.RUSAGE_SELF)
        generator_s = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
        left = 1 - generator_s / SECONDS / len(os.sched_getaffinity(0))
        goodput = sum(begun_s < at <= begun_s + SECONDS for at in load.good_s) / SECONDS / (capacity * left)
        shed_p99 = percentile(load.seconds["shed"], 0.99)
        load.connections.close()
        await asyncio.sleep(2)
        grown, opened = server.memory_bytes() - memory, server.descriptors() - descriptors
    found = {"capacity": capacity, "goodput": goodput, "shed_p99_s": shed_p99, "grown_bytes": grown, "opened": opened}
    print(json.dumps({**found, "outcomes": {name: len(all_) for name, all_ in load.seconds.items()}}))  # noqa: T201
    assert set(load.seconds) == {"correct", "shed"}
    assert grown < 64 << 20
    assert opened <= 5


async def test_load_and_a_hog_make_no_honest_program_too_slow() -> None:
    with served(max_queue_s=8) as server, hog():
        load = Load(Connections(server.port))
        await load.open(TIMES * len(os.sched_getaffinity(0)) / 2.5, min(SECONDS, 30), 2.5)
        load.connections.close()
    print(json.dumps({name: len(all_) for name, all_ in load.seconds.items()}))  # noqa: T201
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
