"""Test sets on disk, by the digest of their bytes: compressed, within a bound, the least recently used ones leave first.

The folder is the only state, so that a restart finds everything, and several services may share it. A test set stands under its digest
from the moment of an atomic rename on, whole and checked; before that it is a part with a lock on it, and a part without a lock is what a
killed process left. The time of a file's last change says when it was last used. Everything here blocks: call it in a thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import zstandard

from reward_service.errors import RequestError

SUFFIX, PART_SUFFIX = ".zst", ".part"
RESERVED_BYTES = 1 << 23  # room is taken in steps of this size while an upload is written,
RESERVED_SHARE = 64  # or of this part of the bound
KEPT_SHARE = 0.9  # of the bound is left after an eviction, so that not every upload has to look at every file
SCAN_S = 60.0  # after which the folder is looked at again, since other services may write to it
YOUNG_S = 60.0  # a part that young may not have its lock yet


class NoSpace(RequestError):
    """The server's state (507): a test set does not fit here."""

    def __init__(self, message: str) -> None:
        super().__init__("", message, status=507)


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    size: int
    used_ns: int


class TestSetFiles:
    """A folder of test sets that together stay within `max_bytes` on disk. Digests are 64 hexadecimal digits. Safe to share by threads."""

    __test__ = False

    def __init__(self, folder: str, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self.step_bytes = min(RESERVED_BYTES, max_bytes // RESERVED_SHARE)
        self._lock = threading.Lock()
        self._parts: dict[str, int] = {}  # name -> bytes reserved, of this process
        self._stored_bytes = 0  # of test sets, and of other processes' parts
        self._scanned_s = float("-inf")

    @property
    def used_bytes(self) -> int:
        """Bytes of all test sets and parts, as far as known without looking."""
        return self._stored_bytes + sum(self._parts.values())

    def sweep(self) -> None:
        """Look at the folder, if it is there: remove what killed processes left, count the rest."""
        with self._lock:
            self._scan()

    def has(self, digest: str) -> bool:
        """Whether the test set is here; if so it counts as used now."""
        try:
            os.utime(self._path(digest))
        except OSError:
            return False
        return True

    def missing(self, digests: Iterable[str]) -> list[str]:
        """Those that are not here, in the order given; the others count as used now."""
        return [digest for digest in digests if not self.has(digest)]

    def open(self, digest: str) -> int | None:
        """A descriptor of the compressed bytes, or None where they are not here; they stay readable when they are evicted meanwhile."""
        try:
            return os.open(self._path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None

    def remove(self, digest: str) -> None:
        """Forget a test set."""
        with self._lock:
            self._unlink(digest + SUFFIX)

    @contextlib.contextmanager
    def part(self) -> Iterator[Part]:
        """A part to write to; what is not committed is removed.

        Raises:
            NoSpace: the server's state (507): nothing can be written here.
        """
        with _no_space():
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            file, path = tempfile.mkstemp(PART_SUFFIX, "", self._folder)
            fcntl.flock(file, fcntl.LOCK_EX)
        name = os.path.basename(path)
        try:
            yield Part(self, name, file)
        finally:
            with self._lock:
                self._parts.pop(name, None)
            os.close(file)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def _reserve(self, name: str, size: int) -> None:
        """Take room for a part of that size, at the expense of what was not used for longest."""
        with self._lock:
            self._parts[name] = self._parts.get(name, 0)
            if time.monotonic() - self._scanned_s > SCAN_S:
                self._scan()
            missing = size - self._parts[name]
            if self.used_bytes + missing > self._max_bytes:
                self._evict(missing)
            if self.used_bytes + missing > self._max_bytes:
                raise NoSpace(f"the test set does not fit into the {self._max_bytes} bytes that this server has for test sets")
            self._parts[name] = size

    def _commit(self, name: str, digest: str, size: int) -> None:
        with self._lock:
            if not self.has(digest):
                os.replace(os.path.join(self._folder, name), self._path(digest))
                self._stored_bytes += size
            self._parts.pop(name, None)

    def _evict(self, wanted: int) -> None:
        entries = self._scan()
        kept = KEPT_SHARE * self._max_bytes
        for entry in sorted(entries, key=lambda entry: entry.used_ns):
            if self.used_bytes + wanted <= kept:
                return
            self._unlink(entry.name)

    def _unlink(self, name: str) -> None:
        path = os.path.join(self._folder, name)
        with contextlib.suppress(OSError):
            size = os.stat(path).st_size
            os.unlink(path)
            self._stored_bytes -= size

    def _scan(self) -> list[_Entry]:
        """All test sets; counts them, and removes parts whose writer is gone."""
        found: list[_Entry] = []
        others = 0
        with contextlib.suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # it may be gone by now, or be somebody else's
                    if entry.name.endswith(SUFFIX):
                        stat = entry.stat(follow_symlinks=False)
                        found.append(_Entry(entry.name, stat.st_size, stat.st_mtime_ns))
                    elif entry.name.endswith(PART_SUFFIX) and entry.name not in self._parts and not _abandoned(entry):
                        others += entry.stat(follow_symlinks=False).st_size
        self._stored_bytes = others + sum(entry.size for entry in found)
        self._scanned_s = time.monotonic()
        return found

    def _path(self, digest: str) -> str:
        return os.path.join(self._folder, digest + SUFFIX)


class Part:
    """A test set that is being written; `TestSetFiles.part` makes it."""

    def __init__(self, files: TestSetFiles, name: str, file: int) -> None:
        self._files, self._name, self.file = files, name, file
        self._compress = zstandard.ZstdCompressor(level=1).compressobj()
        self._size = 0
        self._reserved = 0

    def write(self, data: bytes | memoryview) -> None:
        """Append plain bytes.

        Raises:
            NoSpace: the server's state (507).
        """
        self._append(self._compress.compress(data))

    def finish(self) -> None:
        """Write what is left and bring everything to the disk; `file` holds the whole test set from here on. Raises NoSpace."""
        self._append(self._compress.flush())
        with _no_space():
            os.fsync(self.file)

    def commit(self, digest: str) -> None:
        """Let the finished part be the test set of that digest, which the caller has checked. Raises NoSpace."""
        with _no_space():
            self._files._commit(self._name, digest, self._size)

    def _append(self, data: bytes) -> None:
        if self._size + len(data) > self._reserved:
            self._reserved = self._size + max(self._files.step_bytes, len(data))
            self._files._reserve(self._name, self._reserved)
        view = memoryview(data)
        with _no_space():
            while view:
                view = view[os.write(self.file, view) :]
        self._size += len(data)


@contextlib.contextmanager
def _no_space() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NoSpace(f"this server cannot store test sets: {error.strerror}") from error


def _abandoned(entry: os.DirEntry[str]) -> bool:
    """Whether the writer of a part is gone; then the part is removed."""
    if time.time() - entry.stat(follow_symlinks=False).st_mtime < YOUNG_S:
        return False
    file = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(entry.path)
    except BlockingIOError:
        return False
    finally:
        os.close(file)
    return True
