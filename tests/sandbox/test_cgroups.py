"""Who may make cgroups where, and what is left of those whose owners are gone."""

from __future__ import annotations

import concurrent.futures
import os
from pathlib import Path

import pytest

from sandbox.interface import SandboxUnavailable
from sandbox.namespaces.cgroups import Cgroups


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
