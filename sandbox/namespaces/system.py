"""System calls that the standard library lacks, through ctypes, for x86-64 and arm64.

`PyDLL` keeps the interpreter lock: these calls are short, and a raw `clone` must not return into a released interpreter.
"""

from __future__ import annotations

import ctypes
import os
from _socket import CMSG_SPACE, SCM_RIGHTS, SOL_SOCKET, socket

_libc = ctypes.PyDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long

_NUMBERS = {"x86_64": {"clone": 56, "seccomp": 317, "capset": 126}, "aarch64": {"clone": 220, "seccomp": 277, "capset": 91}}
_CLOSE_RANGE = 436
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_CHILD_SETTID = 0x01000000
CLONE_PIDFD = 0x00001000
SIGCHLD = 17

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
MNT_DETACH = 2

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_GET_TID_ADDRESS = 1, 4, 38, 40


def machine() -> str:
    """The architecture's name as `uname -m` prints it."""
    return os.uname().machine


def numbers() -> dict[str, int]:
    """Numbers of the calls that have no wrapper in the C library."""
    return _NUMBERS[machine()]


def supported() -> bool:
    """Whether this architecture's system calls are known here."""
    return machine() in _NUMBERS


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """`mount(2)`. Raises OSError."""
    names = [None if text is None else text.encode() for text in (source, target, kind)]
    _checked(_libc.mount(*names, ctypes.c_ulong(flags), data.encode()), f"mount {target}")


def bind(source: str, target: str, *, read_only: bool = True) -> None:
    """Bind-mount a file or folder, without set-user-id and devices. Raises OSError."""
    mount(source, target, None, MS_BIND | MS_REC)
    flags = MS_REMOUNT | MS_BIND | MS_NOSUID | (MS_RDONLY if read_only else 0)
    try:
        mount(None, target, None, flags | MS_NODEV)
    except PermissionError:  # in a user namespace the flags of the original mount are locked: keep those it has
        mount(None, target, None, flags | _locked_flags(target))


def _locked_flags(target: str) -> int:
    have = os.statvfs(target).f_flag
    pairs = (
        (os.ST_NODEV, MS_NODEV),
        (os.ST_NOEXEC, MS_NOEXEC),
        (os.ST_NOSUID, MS_NOSUID),
        (os.ST_NOATIME, 1024),
        (os.ST_RELATIME, 1 << 21),
    )
    return sum(ours for theirs, ours in pairs if have & theirs)


def umount(target: str) -> None:
    """Detach a mount. Raises OSError."""
    _checked(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    """`pivot_root(2)`. Raises OSError."""
    _checked(_syscall(_PIVOT_ROOT[machine()], new.encode(), old.encode()), "pivot_root")


def unshare(flags: int) -> None:
    """`unshare(2)`. Raises OSError."""
    _checked(_libc.unshare(flags), "unshare")


def prctl(option: int, value: int) -> None:
    """`prctl(2)` with one argument. Raises OSError."""
    zero = ctypes.c_ulong(0)
    _checked(_libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero), "prctl")


def receive(control: socket, buffer: memoryview, count: int) -> tuple[memoryview, list[int]]:
    """One message, in `buffer`, and at most `count` descriptors; no bytes where the other side is gone. Raises OSError.

    The standard `socket` module has this, but costs every cell half a megabyte.
    """
    size, ancillary, _, _ = control.recvmsg_into([buffer], CMSG_SPACE(count * 4))
    descriptors: list[int] = []
    for level, kind, data in ancillary:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            descriptors += memoryview(data[: len(data) // 4 * 4]).cast("i")
    return buffer[:size], descriptors


def send(control: socket, message: bytes, descriptors: list[int]) -> None:
    """One message with descriptors. Raises OSError."""
    control.sendmsg([message], [(SOL_SOCKET, SCM_RIGHTS, b"".join(number.to_bytes(4, "little") for number in descriptors))])


_libc.mmap.restype = ctypes.c_void_p
_libc.write.restype = ctypes.c_ssize_t
_madvise, _munmap = _libc.madvise, _libc.munmap  # looked up before anything is forked, as all that cells call should be
_PROT_READ, _PROT_READ_WRITE, _MAP_PRIVATE_ANONYMOUS, _MAP_SHARED_POPULATE, _MADV_DONTFORK = 1, 3, 0x22, 0x8001, 10
_MAP_FAILED = ctypes.c_void_p(-1).value


class Memory:
    """Memory that a process can take from all that it forks. Made before the fork of that process, untouched, it costs it one call."""

    def __init__(self, size: int) -> None:
        """Raises OSError."""
        self._size = ctypes.c_size_t(size)
        found = _libc.mmap(None, self._size, _PROT_READ_WRITE, _MAP_PRIVATE_ANONYMOUS, -1, ctypes.c_long(0))
        if found in (None, _MAP_FAILED):
            raise OSError(ctypes.get_errno(), "mmap")
        self.address = int(found)
        self._start = ctypes.c_void_p(found)
        self.view = memoryview((ctypes.c_char * size).from_address(found)).cast("B")

    def keep(self) -> None:
        """From here on no process forked from this one has it. Raises OSError."""
        _checked(_madvise(self._start, self._size, _MADV_DONTFORK), "madvise")


def pour(source: int, at: int, size: int, target: int) -> None:
    """Write `size` bytes of a file in memory, from `at` on, to another; half the time that `sendfile` takes. Raises OSError."""
    if not size:
        return
    whole = ctypes.c_size_t(at + size)
    found = _libc.mmap(None, whole, _PROT_READ, _MAP_SHARED_POPULATE, source, ctypes.c_long(0))
    if found in (None, _MAP_FAILED):
        raise OSError(ctypes.get_errno(), "mmap")
    try:
        end = at + size
        while at < end:
            at += _checked(_libc.write(target, ctypes.c_void_p(found + at), ctypes.c_size_t(end - at)), "write")
    finally:
        _munmap(ctypes.c_void_p(found), whole)


def flush_streams() -> None:
    """Write what the streams of the C library hold."""
    _libc.fflush(None)


def close_from(first: int) -> None:
    """Close every descriptor from `first` up. Raises OSError."""
    _checked(_syscall(_CLOSE_RANGE, first, ctypes.c_uint(0xFFFFFFFF), 0), "close_range")


_capabilities_header = ctypes.create_string_buffer((0x20080522).to_bytes(4, "little") + bytes(4))
_no_capabilities = ctypes.create_string_buffer(bytes(24))


def drop_capabilities() -> None:
    """Give up every effective, permitted and inheritable capability. Raises OSError."""
    _checked(_syscall(_NUMBERS[machine()]["capset"], _capabilities_header, _no_capabilities), "capset")


class Filter:
    """A seccomp program, laid out once so that installing it allocates nothing."""

    def __init__(self, program: bytes) -> None:
        self._code = ctypes.create_string_buffer(program, len(program))
        length = (len(program) // 8).to_bytes(2, "little") + bytes(6)
        self._header = ctypes.create_string_buffer(length + ctypes.addressof(self._code).to_bytes(8, "little"), 16)
        self._number = _NUMBERS[machine()]["seccomp"]

    @property
    def address(self) -> int:
        """Where its `struct sock_fprog` lies."""
        return ctypes.addressof(self._header)

    def install(self) -> None:
        """Filter this process from here on; needs no_new_privs or CAP_SYS_ADMIN. Raises OSError."""
        # SECCOMP_SET_MODE_FILTER with SECCOMP_FILTER_FLAG_SPEC_ALLOW: side channels within a box are no boundary of ours
        _checked(_syscall(self._number, 1, 4, self._header), "seccomp")


def _thread_id_address() -> int:
    """Where the C library keeps this thread's id: a raw clone must rewrite it, or `raise()` signals a stranger."""
    address = ctypes.c_ulong(0)
    zero = ctypes.c_ulong(0)
    if _libc.prctl(PR_GET_TID_ADDRESS, ctypes.byref(address), zero, zero, zero) != 0:
        return 0
    return address.value


class Cloner:
    """Forks by the raw system call: no at-fork handlers, and a pidfd from the kernel."""

    def __init__(self) -> None:
        self._address = ctypes.c_ulong(_thread_id_address())
        self._pidfd = ctypes.c_int(-1)
        self._number = _NUMBERS[machine()]["clone"]
        self._x86 = machine() == "x86_64"
        self._settid = CLONE_CHILD_SETTID if self._address.value else 0

    @property
    def thread_id(self) -> int:
        """The address of the thread's id, which a child must rewrite; 0 where it is unknown."""
        return self._address.value

    def clone(self, flags: int) -> tuple[int, int]:
        """(0, -1) in the child, (pid, pidfd) in the parent. Raises OSError."""
        flags = flags | SIGCHLD | self._settid | CLONE_PIDFD
        zero = ctypes.c_ulong(0)
        tail = (self._address, zero) if self._x86 else (zero, self._address)
        pid = _checked(_syscall(self._number, ctypes.c_ulong(flags), zero, ctypes.byref(self._pidfd), *tail), "clone")
        return (0, -1) if pid == 0 else (pid, self._pidfd.value)


def set_default_thread_stack(size: int) -> None:
    """Stack bytes of new threads. The C library derives the default from the main thread's limit, which is far larger here."""
    attribute = ctypes.create_string_buffer(64)
    if _libc.pthread_attr_init(attribute) == 0:
        _libc.pthread_attr_setstacksize(attribute, ctypes.c_size_t(size))
        _libc.pthread_setattr_default_np(attribute)
        _libc.pthread_attr_destroy(attribute)
