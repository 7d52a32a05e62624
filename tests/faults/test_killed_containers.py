"""Containers of the docker backend are killed under load: no grade changes, no request is lost, nothing is left."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from sandbox.engine import LABEL, OWNER_LABEL
from tests.faults.served import served
from tests.faults.test_kills import SECONDS, graded
from tests.sandbox.runners import delegated_cgroup

pytestmark = [pytest.mark.soak, pytest.mark.containers]


def docker(*arguments: str) -> str:
    """What the engine says; nothing where the container is just gone."""
    return subprocess.run(["docker", *arguments], capture_output=True, text=True).stdout


def containers_of(pid: int) -> list[str]:
    """Ids of the containers that this service started, running or not."""
    lines = docker("ps", "--all", "--no-trunc", "--filter", f"label={LABEL}", "--format", f'{{{{.ID}}}} {{{{.Label "{OWNER_LABEL}"}}}}')
    pairs = (line.split(" ", 1) for line in lines.splitlines())
    return [name for name, owner in pairs if json.loads(owner)["pid"] == pid]


def kill_one(pid: int, chosen: random.Random) -> str | None:
    """Kill -9 a container of the service, or one of the processes in it; which, or None where there was none."""
    names = containers_of(pid)
    if not names:
        return None
    name = chosen.choice(names)
    if chosen.random() < 0.5:
        return "container" if docker("kill", name) else None
    inside = [int(line) for line in docker("top", name, "-eo", "pid").split()[1:]]
    if not inside:
        return None
    with contextlib.suppress(ProcessLookupError):
        os.kill(chosen.choice(inside), signal.SIGKILL)
        return "process"
    return None


async def kill_at_random(pid: int, go_on: Callable[[], bool]) -> collections.Counter[str]:
    chosen, killed = random.Random(5), collections.Counter[str]()
    while go_on():
        await asyncio.sleep(chosen.uniform(0.2, 4))
        what = await asyncio.to_thread(kill_one, pid, chosen)
        if what is not None:
            killed[what] += 1
    return killed


@pytest.fixture(params=["without cgroups", "with cgroups"])
def settings(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Settings of the backend."""
    if request.param == "without cgroups":
        yield {"sandbox": "docker"}
        return
    if os.geteuid() != 0:
        pytest.skip("needs root, to give a cgroup away")
    with delegated_cgroup() as name:
        yield {"sandbox": "docker", "docker_cgroup": name, "strict": "true"}


async def test_no_grade_changes_while_containers_are_killed(settings: dict[str, str]) -> None:
    end_s = 0.0

    def go_on() -> bool:
        return time.monotonic() < end_s

    with served(**settings, sandbox_slots=2) as server:
        end_s = time.monotonic() + SECONDS
        killing = asyncio.create_task(kill_at_random(server.pid, go_on))
        disturbed = await graded(server.port, itertools.count(), go_on)
        killed = await killing
        assert server.process.poll() is None
        losses, replaced = server.metric("reward_sandbox_losses_total"), server.metric("reward_sandbox_runners_replaced_total")
        numbers = sorted(disturbed)
        assert numbers == list(range(len(numbers))), "a request is lost"
    end_s = time.monotonic() + 10
    while left := containers_of(server.pid):
        assert go_on(), left
        await asyncio.sleep(0.2)
    found = {"killed": killed, "losses": losses, "replaced": replaced, "requests": len(disturbed), "seconds": SECONDS}
    print(json.dumps(found))  # noqa: T201 - figures for bench/README.md
    assert killed["container"]
    assert killed["process"]
    assert replaced, "an operator sees it"
    with served(**settings, sandbox_slots=2) as server:
        undisturbed = await graded(server.port, iter(numbers), lambda: True)
    assert {number: (grades, undisturbed[number]) for number, grades in disturbed.items() if grades != undisturbed[number]} == {}
