"""Which processes of candidates there are."""

from __future__ import annotations

import contextlib
import os

_LEVELS = 3  # pid namespaces of the zygote, the cell and the test


def candidates() -> set[int]:
    """Processes that run below this one inside of a test's pid namespace. Others on this machine may run sandboxes, too."""
    parents, depths = {}, {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/status") as file:
                status = dict(line.split(":", 1) for line in file)
                parents[int(name)] = int(status["PPid"])
                depths[int(name)] = len(status["NSpid"].split())
    found, more = set(), {os.getpid()}
    while more:
        more = {pid for pid, parent in parents.items() if parent in more}
        found |= more
    return {pid for pid in found if depths[pid] >= depths[os.getpid()] + _LEVELS}
