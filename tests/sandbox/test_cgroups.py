"""Who may make cgroups where, and what is left of those whose owners are gone."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.interface import RunnerLost, SandboxUnavailable
from sandbox.namespaces.backend import NamespacesConfig, NamespacesSandbox
from sandbox.namespaces.cgroups import _ENTER, Cgroups
from sandbox.namespaces.process import Zygote, ZygoteConfig


@pytest.fixture
def place() -> str:
    """Where this machine lets us make cgroups."""
    found = Cgroups.open()
    if found is None:
        pytest.skip("no cgroup is delegated here")
    found.close()
    return os.path.dirname(found.path)


def opened_again_and_again(times: int) -> list[str]:
    """What went wrong when a service is started so many times."""
    wrong = []
    for _ in range(times):
        found = Cgroups.open()
        if found is None:
            wrong.append("none")
            continue
        try:
            found.take().limit(1 << 20)
        except OSError as error:
            wrong.append(str(error))
        found.close()
    return wrong


def test_services_that_start_at_once_do_not_sweep_each_other(place: str) -> None:
    """One that does not get its cgroup would bound memory more weakly than the one beside it, and nobody would know."""
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert [wrong for found in pool.map(opened_again_and_again, [25] * 6) for wrong in found] == []


def test_a_cgroup_whose_memory_is_still_being_freed_is_not_used(place: str) -> None:
    """What is freed later would be room above the next program's bound: it once held twice its memory."""
    found = Cgroups.open()
    assert found is not None
    memory = os.memfd_create("held")
    try:
        used = found.take()
        fill = f"{_ENTER} >/dev/fd/{memory}"
        with used.doors() as doors:
            command = ["/bin/sh", "-c", fill, "sh", *map(str, doors)]
            with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(*doors, memory)) as process:
                if not doors:
                    used.admit(process.pid)
                process.communicate(bytes(32 << 20))
        assert used.is_empty()
        assert used.held_bytes() > 16 << 20
        found.give_back(used)
        assert found.take() is not used
        os.ftruncate(memory, 0)
        assert found.take() is used
    finally:
        os.close(memory)
        found.close()


@pytest.mark.parametrize("content", ["nothing", "files", "version 2 without memory"])
def test_a_folder_that_is_no_cgroup_is_refused_and_named(tmp_path: Path, content: str) -> None:
    """A folder that an operator names is used or an error: never the weaker mode in silence."""
    if content == "files":
        (tmp_path / "memory").mkdir()
        (tmp_path / "cpuacct").mkdir()
    elif content != "nothing":
        (tmp_path / "cgroup.subtree_control").write_text("cpu\n")
    with pytest.raises(SandboxUnavailable, match=f"(?s){tmp_path}.*deploy/delegate-cgroup"):
        Cgroups.open(str(tmp_path))


def test_a_folder_that_was_delegated_is_used_and_left_empty(tmp_path: Path, place: str) -> None:
    if not place.startswith("/sys/fs/cgroup/memory"):
        pytest.skip("needs version 1 of cgroups")
    made = [Path(place.replace("memory", controller, 1)) / f"delegated-{os.getpid()}" for controller in ("memory", "cpuacct")]
    if not os.access(made[1].parent, os.W_OK):
        made[1] = Path("/sys/fs/cgroup/cpuacct", made[1].name)
    try:
        for folder, name in zip(made, ("memory", "cpuacct"), strict=True):
            folder.mkdir()
            (tmp_path / name).symlink_to(folder)
        (tmp_path / "memory" / "reward-sandbox-left").mkdir()
        found = Cgroups.open(str(tmp_path))
        assert found is not None
        group = found.take()
        group.limit(1 << 20)
        assert len(group.open_counters()) == 4, "CPU time is counted, too"
        assert not (made[0] / "reward-sandbox-left").exists(), "what a dead runner left is removed"
        found.close()
        assert not [entry for folder in made for entry in folder.iterdir() if entry.is_dir()]
    finally:
        for folder in made:
            folder.rmdir()


def test_threads_take_cgroups_of_their_own_and_none_once_they_are_closed(place: str) -> None:
    found = Cgroups.open()
    assert found is not None
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            groups = list(pool.map(lambda _: found.take(), range(16)))
            assert len({group.path for group in groups}) == 16
            list(pool.map(found.give_back, groups[::2]))
    found.close()
    found._free.clear()
    with pytest.raises(FileNotFoundError):
        found.take()
    assert not os.path.exists(found.path)


async def test_a_cgroup_in_which_something_lives_is_not_used_again(place: str) -> None:
    """The end of a zygote is heard of before its cells are gone; their memory would count as the next program's."""
    found = Cgroups.open()
    assert found is not None
    zygote = Zygote(ZygoteConfig(sys.executable, {}, (), None, (), 64_999, 1 << 20), found)
    group, ended = found.take(), asyncio.get_running_loop().create_future()
    with group.doors() as doors:
        left = subprocess.Popen(["/bin/sh", "-c", _ENTER, "sh", *map(str, doors)], stdin=subprocess.PIPE, pass_fds=doors)
        group.admit(left.pid)
    try:
        while group.is_empty():
            await asyncio.sleep(0.01)
        free = len(found._free)
        zygote._bury(ended, group)
        ended.set_result(9)
        await asyncio.sleep(0.2)
        assert len(found._free) == free
        left.communicate()  # it ends
        await asyncio.gather(*zygote._burials)
        assert found._free[-1] is group
    finally:
        left.kill()
        left.communicate()
        found.close()


async def test_forks_that_fail_keep_no_cgroup_and_are_told_at_once(place: str) -> None:
    sandbox = NamespacesSandbox(NamespacesConfig(slots=1, python=sys.executable))
    await sandbox.start()
    try:
        zygote, cgroups = sandbox._zygotes["python"], sandbox._cgroups
        assert cgroups is not None
        assert zygote._channel is not None
        await zygote.spawn()
        await asyncio.gather(*zygote._burials)
        groups, waiting, send = len(os.listdir(cgroups.path)), len(zygote._ended), zygote._channel.send
        zygote._channel.send = lambda message, descriptors: send(message, descriptors[:1])  # type: ignore[method-assign] # no room for doors
        for _ in range(10):
            with pytest.raises(RunnerLost):
                await zygote._new_cell()
            await asyncio.gather(*zygote._burials)
        assert len(os.listdir(cgroups.path)) <= groups + 1
        assert len(zygote._ended) == waiting
        zygote._channel.send = send  # type: ignore[method-assign]
        assert (await zygote._new_cell()).pid
    finally:
        await sandbox.close()
