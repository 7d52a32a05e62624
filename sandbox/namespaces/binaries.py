"""Compiled programs on disk, over restarts: by digest, verified when they are read, bounded, in a folder that nobody else may enter.

What is written came out of a compile box; what is read is used only where it is, byte for byte, what was written under this digest.
Everything here may fail without harm: then a program is compiled again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import stat
import struct
import time
from collections.abc import Iterator

_HEAD = struct.Struct("<8s32sd")  # magic, sha256 of what follows and the name, CPU seconds that it took to compile
_MAGIC = b"binary01"
_NAME = re.compile(r"[0-9a-f]{64}")
_STALE_S = 3600.0  # after which a file that was never finished is nobody's any more


class BinaryStore:
    """A folder of binaries; at most `limit_bytes`, of which the least recently used leave first (0: nothing is kept)."""

    def __init__(self, folder: str, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes

    def read(self, name: str) -> tuple[bytes, float] | None:
        """(binary, CPU seconds that it took to compile), or None. A file that is not what was written is thrown away."""
        try:
            with self._opened() as folder:
                descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
                with os.fdopen(descriptor, "rb") as file:
                    data = file.read() if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
                if len(data) > _HEAD.size:
                    magic, digest, cpu_s = _HEAD.unpack_from(data)
                    if magic == _MAGIC and digest == _digest(name, cpu_s, data[_HEAD.size :]):
                        os.utime(name, dir_fd=folder)
                        return data[_HEAD.size :], cpu_s
                os.unlink(name, dir_fd=folder)
        except OSError:
            pass
        return None

    def write(self, name: str, binary: bytes, cpu_s: float) -> None:
        """Keep a binary; quietly does nothing where that is not possible."""
        size = _HEAD.size + len(binary)
        if size > self._limit_bytes:
            return
        with contextlib.suppress(OSError), self._opened() as folder:
            self._make_room(folder, size)
            temporary = f".{secrets.token_hex(8)}"
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400, dir_fd=folder)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(_HEAD.pack(_MAGIC, _digest(name, cpu_s, binary), cpu_s))
                    file.write(binary)
                os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:
                os.unlink(temporary, dir_fd=folder)
                raise

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        """The folder. Raises OSError where it is not ours alone: what others could write is not run."""
        if not self._limit_bytes:
            raise FileNotFoundError(self._folder)
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(folder)
            if found.st_uid != os.geteuid() or found.st_mode & 0o077:
                raise PermissionError(self._folder)
            yield folder
        finally:
            os.close(folder)

    def _make_room(self, folder: int, size: int) -> None:
        """Remove what was used longest ago until so many bytes fit, and what was left half written."""
        files: list[tuple[float, int, str]] = []
        for name in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):  # another process makes room, too
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if _NAME.fullmatch(name):
                    files.append((found.st_mtime, found.st_size, name))
                elif time.time() - found.st_mtime > _STALE_S:
                    os.unlink(name, dir_fd=folder)
        total = sum(found[1] for found in files) + size
        for _, freed, name in sorted(files):
            if total <= self._limit_bytes:
                return
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
            total -= freed


def _digest(name: str, cpu_s: float, binary: bytes) -> bytes:
    found = hashlib.sha256(struct.pack("<d", cpu_s) + name.encode())
    found.update(binary)
    return found.digest()
