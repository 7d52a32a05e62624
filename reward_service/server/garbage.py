"""When to look for garbage in cycles: in quiet moments, not whenever a thousand requests in flight have made 700 objects more.

By default Python looks through all young objects at every 700 more than before. With 1,024 single rollouts in flight these are the
requests' own, 150,000 of them, looked through again and again: a quarter of the event loop's time, and 50 ms in one piece. Almost nothing
here is in cycles: refusals that somebody waited for, with their tracebacks and what these hold.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

LOOK_S = 1.0
QUIET = 64  # requests or rollouts in flight, up to which looking takes a few milliseconds
LATEST_S = 30.0  # after which it is done whatever is in flight
THRESHOLDS = (500_000, 10, 50)  # a net against what comes between two looks: 50 MB in the smallest of objects
YOUNG = 1  # the generations that are looked through in each quiet moment: what was made since the last one


def settle() -> None:
    """Leave what is loaded by now alone: walking it again would stop the event loop for 50 ms each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


async def collect_when_quiet(in_flight: Callable[[], int]) -> None:
    """Look for garbage until cancelled."""
    clock = asyncio.get_running_loop().time
    looked_s = clock()
    while True:
        await asyncio.sleep(LOOK_S)
        if in_flight() <= QUIET or clock() - looked_s >= LATEST_S:
            gc.collect(YOUNG)
            looked_s = clock()
