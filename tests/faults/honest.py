"""`python -m tests.faults.honest PORT COUNT`: the p99 of single rollouts in seconds, measured by a process that does nothing else."""

from __future__ import annotations

import asyncio
import sys
import time

from tests.faults.served import Connections, body, math_group, percentile

PAUSE_S = 0.02


async def main(port: int, count: int) -> None:
    connections, seconds = Connections(port), list[float]()
    for number in range(count):
        data = body(math_group(f"h{number}", 1, str(time.monotonic_ns())))
        begun_s = time.perf_counter()
        assert (await connections.post(data))[0] == 200
        seconds.append(time.perf_counter() - begun_s)
        await asyncio.sleep(PAUSE_S)
    connections.close()
    sys.stdout.write(f"{percentile(seconds, 0.99)}\n")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
