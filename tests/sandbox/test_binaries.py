"""Compiled programs on disk: read back only as they were written, bounded, private, and of use after a restart."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.interface import Job, RunResult, Status, TestInput
from sandbox.namespaces.backend import NamespacesConfig, NamespacesSandbox
from sandbox.namespaces.binaries import BinaryStore

NAME, OTHER = "a" * 64, "b" * 64
LIMIT = 1 << 20


def kept(folder: Path, limit: int = LIMIT) -> BinaryStore:
    store = BinaryStore(str(folder / "binaries"), limit)
    store.write(NAME, b"program", 1.5)
    return store


def test_what_was_written_is_read_back_by_another_store_of_the_folder(tmp_path: Path) -> None:
    kept(tmp_path)
    assert kept(tmp_path).read(NAME) == (b"program", 1.5)
    assert BinaryStore(str(tmp_path / "binaries"), LIMIT).read(NAME) == (b"program", 1.5)
    assert (tmp_path / "binaries").stat().st_mode & 0o777 == 0o700
    assert BinaryStore(str(tmp_path / "binaries"), LIMIT).read(OTHER) is None


def _flip(at: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.chmod(0o600)
        path.write_bytes(data)

    return change


def _cut(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])


def _swap(path: Path) -> None:
    BinaryStore(str(path.parent), LIMIT).write(OTHER, b"another program", 0.1)
    os.replace(path.parent / OTHER, path)


def _empty(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(b"")


@pytest.mark.parametrize("change", [_flip(0), _flip(9), _flip(43), _flip(-1), _cut, _swap, _empty])
def test_a_file_that_is_not_what_was_written_is_thrown_away(tmp_path: Path, change: Callable[[Path], None]) -> None:
    store = kept(tmp_path)
    path = tmp_path / "binaries" / NAME
    change(path)
    assert store.read(NAME) is None
    assert not path.exists()


def test_no_link_and_no_pipe_is_followed(tmp_path: Path) -> None:
    store = kept(tmp_path)
    path = tmp_path / "binaries" / NAME
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert store.read(NAME) is None
    path.unlink()
    os.mkfifo(path)
    assert store.read(NAME) is None


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o755, 0o701])
def test_a_folder_that_others_may_enter_is_not_used(tmp_path: Path, mode: int) -> None:
    store = kept(tmp_path)
    (tmp_path / "binaries").chmod(mode)
    assert store.read(NAME) is None
    store.write(OTHER, b"x", 0.0)
    assert not (tmp_path / "binaries" / OTHER).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a folder away")
def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    store = kept(tmp_path)
    os.chown(tmp_path / "binaries", 65_534, 65_534)
    assert store.read(NAME) is None


def test_a_folder_that_is_a_link_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "binaries").symlink_to(tmp_path / "real")
    store = kept(tmp_path)
    assert store.read(NAME) is None
    assert list((tmp_path / "real").iterdir()) == []


def test_the_least_recently_used_leave_first(tmp_path: Path) -> None:
    store = BinaryStore(str(tmp_path / "binaries"), 1_000)
    names = [letter * 64 for letter in "abcdef"]
    for age, name in enumerate(names):
        store.write(name, bytes(200), 0.0)
        if (tmp_path / "binaries" / name).exists():
            os.utime(tmp_path / "binaries" / name, (age, age))
        store.read(names[0])  # looked at again and again
    assert [bool(store.read(name)) for name in names] == [True, False, False, True, True, True]
    store.write("9" * 64, bytes(1_000), 0.0)
    assert store.read("9" * 64) is None, "larger than all there is"
    assert sum(path.stat().st_size for path in (tmp_path / "binaries").iterdir()) <= 1_000


def test_what_a_killed_service_left_half_written_goes(tmp_path: Path) -> None:
    store = kept(tmp_path)
    left, fresh = tmp_path / "binaries" / ".0123", tmp_path / "binaries" / ".4567"
    left.write_bytes(b"half")
    fresh.write_bytes(b"half")
    os.utime(left, (0, 0))
    store.write(OTHER, b"x", 0.0)
    assert (left.exists(), fresh.exists()) == (False, True)


def test_nothing_is_kept_without_room(tmp_path: Path) -> None:
    assert kept(tmp_path, 0).read(NAME) is None
    assert not (tmp_path / "binaries").exists()


def test_a_disk_that_fails_harms_nobody(tmp_path: Path) -> None:
    (tmp_path / "binaries").write_text("no folder")
    assert kept(tmp_path).read(NAME) is None


# ---- with the compiler -----------------------------------------------------------------------------------------------

SOURCE = "#include <bits/stdc++.h>\nint main() { std::cout << 42; }\n"
BROKEN = "int main() { return 0 }\n"


async def first_result(sandbox: NamespacesSandbox, source: str, **files: bytes) -> RunResult:
    async with contextlib.aclosing(sandbox.run(Job("cpp", source, (TestInput(b""),), files=files))) as results:
        return await anext(results)


async def compiles(folder: Path, *sources: str) -> tuple[list[RunResult], int]:
    """The first results of programs in a service of its own, and how many of them it compiled."""
    sandbox = NamespacesSandbox(NamespacesConfig(slots=2, python=sys.executable, cache_dir=str(folder), binaries_disk_bytes=1 << 28))
    await sandbox.start()
    try:
        assert sandbox._compiler is not None
        before = sandbox._compiler.compiled
        return [await first_result(sandbox, source) for source in sources], sandbox._compiler.compiled - before
    finally:
        await sandbox.close()


@pytest.mark.isolation
@pytest.mark.compiler
async def test_a_restarted_service_compiles_nothing_again(tmp_path: Path) -> None:
    first, compiled = await compiles(tmp_path, SOURCE, BROKEN, SOURCE)
    assert [result.status for result in first] == [Status.FINISHED, Status.COMPILE_ERROR, Status.FINISHED]
    assert compiled == 2
    second, compiled = await compiles(tmp_path, SOURCE)
    assert (second[0].stdout, compiled) == (b"42", 0)
    for path in (tmp_path / "binaries").iterdir():
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    third, compiled = await compiles(tmp_path, SOURCE)
    assert (third[0].stdout, compiled) == (b"42", 1)
