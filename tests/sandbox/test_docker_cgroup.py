"""Runners in containers that were given a cgroup to divide: memory of programs is bounded by the kernel there, too."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from sandbox.docker import ContainerRunner, DockerConfig, containers
from sandbox.engine import cgroup_options
from sandbox.interface import Job, Limits, RunResult, SandboxUnavailable, Status, TestInput
from sandbox.pool import Pool
from sandbox.selfcheck import CANARIES, CONFORMANCE, Check, run_checks
from tests.sandbox.runners import delegated_cgroup, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.containers]
FIRST = Path("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists()
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a cgroup away")


@pytest.fixture(scope="module")
def cgroup() -> Any:
    with delegated_cgroup() as name:
        yield name


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pool(cgroup: str) -> AsyncIterator[Pool]:
    found = Pool(containers(DockerConfig(slots=2, cgroup=cgroup, strict=True)))
    await found.start()
    yield found
    await found.close()


def made(cgroup: str) -> list[str]:
    """Folders of runners in the cgroup."""
    folder = f"/sys/fs/cgroup/{'memory' if FIRST else ''}{cgroup}"
    return [name for name in os.listdir(folder) if name.startswith("reward-sandbox-")]


async def results(pool: Pool, job: Job) -> list[RunResult]:
    async with contextlib.aclosing(pool.run(job)) as found:
        return [result async for result in found]


@needs_root
@pytest.mark.parametrize("check", [*CONFORMANCE, *CANARIES], ids=lambda check: check.name)
async def test_the_contract_is_kept(pool: Pool, check: Check) -> None:
    (finding,) = await run_checks(pool, [check])
    assert finding.ok, finding.detail


@needs_root
async def test_it_says_how_memory_is_bounded(pool: Pool) -> None:
    assert pool.describe()["memory accounting"] == f"cgroup v{1 if FIRST else 2}"


UNSEEN = {
    "anonymous files": "import os\nf = os.memfd_create('a')\nfor _ in range({blocks}): os.write(f, bytes(1 << 20))",
    "shared pages": "import mmap\nm = mmap.mmap(-1, {blocks} << 20)\nfor k in range({blocks}): m[k << 20 : (k + 1) << 20] = bytes(1 << 20)",
    "files in the box": "open('/tmp/a', 'wb').write(bytes({blocks} << 18))\nm = bytearray({blocks} * 3 << 18)",
}


@needs_root
@pytest.mark.parametrize("name", UNSEEN)
@pytest.mark.parametrize(("blocks", "status"), [(40, Status.FINISHED), (80, Status.MEMORY_LIMIT_EXCEEDED)])
async def test_memory_that_no_process_shows_counts(pool: Pool, name: str, blocks: int, status: Status) -> None:
    job = Job("python", UNSEEN[name].format(blocks=blocks), (TestInput(b""),), Limits(memory_bytes=64 << 20))
    assert [result.status for result in await results(pool, job)] == [status]


@needs_root
async def test_a_container_sees_that_folder_and_nothing_else_of_the_machine(pool: Pool, cgroup: str) -> None:
    for place in pool._places.values():
        assert place.runner is not None
        assert isinstance(place.runner.member, ContainerRunner)
        shown = subprocess.run(["docker", "inspect", place.runner.member.container], capture_output=True, text=True, check=True).stdout
        mounts = json.loads(shown)[0]["Mounts"]
        assert mounts
        assert all(mount["Source"].startswith("/sys/fs/cgroup/") and mount["Source"].endswith(cgroup) for mount in mounts)


@needs_root
async def test_what_killed_containers_leave_in_it_goes_with_the_next(pool: Pool, cgroup: str) -> None:
    before = set(made(cgroup))
    assert len(before) == 2
    for place in pool._places.values():
        assert place.runner is not None
        assert isinstance(place.runner.member, ContainerRunner)
        subprocess.run(["docker", "kill", place.runner.member.container], capture_output=True, check=True)
    assert await until(lambda: len(made(cgroup)) == 2 and before.isdisjoint(made(cgroup)), 30)
    assert [result.stdout for result in await results(pool, Job("python", "print(1)", (TestInput(b""),)))] == [b"1\n"]


async def test_a_cgroup_that_is_not_there_is_named() -> None:
    config = DockerConfig(slots=1, cgroup="/reward-runners-nowhere")
    with pytest.raises(SandboxUnavailable, match=r"reward-runners-nowhere.*deploy/delegate-cgroup"):
        await Pool(containers(config), patience_s=5).start()


@needs_root
async def test_a_cgroup_of_somebody_else_is_refused_without_a_weaker_mode() -> None:
    with delegated_cgroup("-not-theirs") as name:
        for folder in Path("/sys/fs/cgroup").glob(f"*{name}" if FIRST else name[1:]):
            os.chown(folder, 0, 0)
        with pytest.raises(SandboxUnavailable, match=r"no cgroup.*/run/cgroup.*deploy/delegate-cgroup"):
            await Pool(containers(DockerConfig(slots=1, cgroup=name)), patience_s=5).start()


async def test_what_each_version_takes() -> None:
    first, second = cgroup_options("/a/b", "1"), cgroup_options("/a/b", "2")
    assert [(mount["Source"], mount["Target"], mount["Type"], mount["ReadOnly"]) for mount in first["mounts"]] == [
        ("/sys/fs/cgroup/memory/a/b", "/run/cgroup/memory", "bind", False),
        ("/sys/fs/cgroup/cpuacct/a/b", "/run/cgroup/cpuacct", "bind", False),
    ]
    assert [(mount["Source"], mount["Target"]) for mount in second["mounts"]] == [("/sys/fs/cgroup/a/b", "/run/cgroup")]
    assert (second["cgroup_parent"], second["cgroupns"]) == ("/a/b", "host")
    assert cgroup_options("/runners.slice", "2")["cgroup_parent"] == "runners.slice"
