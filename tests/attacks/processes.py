"""Which processes of candidates there are."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess

from sandbox.docker import ContainerRunner
from sandbox.interface import Sandbox
from sandbox.pool import Pool

_LEVELS = 3  # pid namespaces of the zygote, the cell and the test


def candidates(sandbox: Sandbox) -> set[int]:
    """Processes that run inside of a test's pid namespace below whoever runs the sandbox. Others on this machine may run sandboxes, too."""
    parents, depths = {}, {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/status") as file:
                status = dict(line.split(":", 1) for line in file)
                parents[int(name)] = int(status["PPid"])
                depths[int(name)] = len(status["NSpid"].split())
    found = set()
    for root in _roots(sandbox):
        below, more = set(), {root}
        while more:
            more = {pid for pid, parent in parents.items() if parent in more}
            below |= more
        found |= {pid for pid in below if depths[pid] >= depths.get(root, 0) + _LEVELS}
    return found


def _roots(sandbox: Sandbox) -> set[int]:
    """The processes that make boxes, or their ancestors: this one, or the first ones of containers."""
    members = [place.runner.member for place in sandbox._places.values() if place.runner] if isinstance(sandbox, Pool) else []
    ours = {_first_process(member.container) for member in members if isinstance(member, ContainerRunner)}
    if members and not ours and shutil.which("docker") is not None:
        label = "label=com.docker.compose.service=sandbox"
        composed = subprocess.run(["docker", "ps", "--quiet", "--filter", label], capture_output=True, text=True).stdout.split()
        ours = {_first_process(name) for name in composed}
    return {os.getpid(), *ours}


@functools.cache
def _first_process(container: str) -> int:
    return int(subprocess.run(["docker", "inspect", "-f", "{{.State.Pid}}", container], capture_output=True, text=True, check=True).stdout)
