"""Test sets on disk: bounds, rests of killed writers, a folder that several services share."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import zstandard

from reward_service.server import testset_files
from reward_service.server.testset_files import NoSpace, TestSetFiles

A, B, C = (character * 64 for character in "abc")
WRITER = """
import sys, time
from reward_service.server.testset_files import TestSetFiles
with TestSetFiles(sys.argv[1], 1 << 30).part() as part:
    part.write(b"x" * 1_000_000)
    print("written", flush=True)
    time.sleep(60)
"""


def stored(files: TestSetFiles, digest: str, size: int) -> None:
    """Store bytes that do not compress."""
    with files.part() as part:
        part.write(b"".join(hashlib.sha256(b"%s %d" % (digest.encode(), n)).digest() for n in range(size // 32)))
        part.finish()
        part.commit(digest)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_committed_is_there_and_what_is_not_is_gone(tmp_path: Path) -> None:
    files = TestSetFiles(str(tmp_path / "new"), 1 << 20)
    assert files.missing([A, B]) == [A, B]
    with files.part() as part:
        part.write(b"plain")
        part.finish()
        part.commit(A)
    with files.part() as part:
        part.write(b"never committed")
    assert files.missing([A, B]) == [B]
    descriptor = files.open(A)
    assert descriptor is not None
    with open(descriptor, "rb") as file:
        assert zstandard.ZstdDecompressor().decompressobj().decompress(file.read()) == b"plain"
    assert names(tmp_path / "new") == [f"{A}.zst"]
    assert files.used_bytes == (tmp_path / "new" / f"{A}.zst").stat().st_size


@pytest.mark.parametrize("sizes", [(30_000, 30_000, 30_000, 30_000, 30_000), (99_000, 1_000, 99_000), (10_000,) * 30])
def test_the_bound_holds_at_every_moment(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    files = TestSetFiles(str(tmp_path), 110_000)
    for number, size in enumerate(sizes):
        digest = hashlib.sha256(b"%d" % number).hexdigest()
        stored(files, digest, size)
        assert files.has(digest)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 110_000
        assert files.used_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_what_never_fits_is_refused_and_leaves_nothing_behind(tmp_path: Path) -> None:
    files = TestSetFiles(str(tmp_path), 50_000)
    with pytest.raises(NoSpace):
        stored(files, A, 60_000)
    assert names(tmp_path) == []
    stored(files, A, 40_000)
    assert files.has(A)


def test_parts_that_are_being_written_count_and_are_not_evicted(tmp_path: Path) -> None:
    files = TestSetFiles(str(tmp_path), 100_000)
    with files.part() as part:
        part.write(os.urandom(70_000))
        part.finish()
        with pytest.raises(NoSpace):
            stored(files, B, 60_000)
        part.commit(A)
    assert files.has(A)
    stored(files, B, 60_000)
    assert (files.has(A), files.has(B)) == (False, True)


def test_services_that_share_a_folder_see_each_others_sets_and_keep_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testset_files, "SCAN_S", 0.0)
    one, other = TestSetFiles(str(tmp_path), 100_000), TestSetFiles(str(tmp_path), 100_000)
    stored(one, A, 60_000)
    assert other.has(A)
    os.utime(tmp_path / f"{A}.zst", (1, 1))
    stored(other, B, 60_000)
    assert (one.has(A), one.has(B)) == (False, True)


def test_an_open_test_set_stays_readable_when_it_is_evicted(tmp_path: Path) -> None:
    files = TestSetFiles(str(tmp_path), 100_000)
    stored(files, A, 60_000)
    descriptor = files.open(A)
    assert descriptor is not None
    stored(files, B, 60_000)
    assert not files.has(A)
    with open(descriptor, "rb") as file:
        assert len(file.read()) > 50_000


def test_the_rest_of_a_killed_writer_is_swept_and_a_living_ones_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testset_files, "YOUNG_S", 0.0)
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        try:
            assert writer.stdout.readline() == b"written\n"
            files = TestSetFiles(str(tmp_path), 1 << 30)
            files.sweep()
            assert len(names(tmp_path)) == 1
        finally:
            os.kill(writer.pid, signal.SIGKILL)
    assert len(names(tmp_path)) == 1
    files.sweep()
    assert names(tmp_path) == []
    assert files.used_bytes == 0


def test_a_part_too_young_to_have_its_lock_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "young.part").write_bytes(b"12345")
    (tmp_path / "old.part").write_bytes(b"12345")
    os.utime(tmp_path / "old.part", (1, 1))
    files = TestSetFiles(str(tmp_path), 1 << 20)
    files.sweep()
    assert names(tmp_path) == ["young.part"]
    assert files.used_bytes == 5


def test_many_threads_at_once_keep_the_books(tmp_path: Path) -> None:
    files = TestSetFiles(str(tmp_path), 100_000)
    failures: list[Exception] = []

    def work(salt: int) -> None:
        for number in range(10):
            try:
                stored(files, hashlib.sha256(b"%d" % (number % 7 + salt)).hexdigest(), 8_000)
            except NoSpace as error:
                failures.append(error)

    threads = [threading.Thread(target=work, args=(salt,)) for salt in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert files.used_bytes == sum(sizes) <= 100_000
    assert all(name.endswith(".zst") for name in names(tmp_path))
