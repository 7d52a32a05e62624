"""Ask a light worker first, and one that holds SymPy only where that could not say."""

from __future__ import annotations

from typing import TypeVar

from reward_service.effects import Task, Workers

R = TypeVar("R")


async def run_lightly_first(workers: Workers, light: Task[R | None], full: Task[R], *args: object) -> R:
    """What `light` finds, or where that is None what `full` does.

    Raises:
        JobKilled: the arguments' fault.
        NotScored: ours.
    """
    found = await workers.run(light, *args)
    return found if found is not None else await workers.run(full, *args)
