"""The filters, run by a small interpreter of classic BPF: what is killed, refused and allowed, by number."""

from __future__ import annotations

import errno
import struct

import pytest

from sandbox.namespaces import seccomp

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
NAMESPACES = (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
X86_64, ARM64, I386 = 0xC000003E, 0xC00000B7, 0x40000003


def run(program: bytes, number: int, args: tuple[int, ...] = (), arch: int = X86_64) -> int:
    data = struct.pack("<iIQ6Q", number - (1 << 32) if number >= 1 << 31 else number, arch, 0, *(*args, *(0,) * (6 - len(args))))
    instructions = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]
    accumulator, at = 0, 0
    while True:
        code, yes, no, value = instructions[at]
        at += 1
        if code == 0x20:
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif code == 0x06:
            return value
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[code]
            at += yes if holds else no


@pytest.mark.parametrize(
    ("name", "number", "args", "wanted"),
    [
        ("read", 0, (), ALLOW), ("openat", 257, (), ALLOW), ("execve", 59, (), ALLOW), ("futex", 202, (), ALLOW), ("mmap", 9, (), ALLOW),
        ("ptrace", 101, (), KILL), ("bpf", 321, (), KILL), ("io_uring_setup", 425, (), KILL), ("keyctl", 250, (), KILL),
        ("userfaultfd", 323, (), KILL), ("perf_event_open", 298, (), KILL), ("open_by_handle_at", 304, (), KILL), ("fsopen", 430, (), KILL),
        ("clock_settime", 227, (), KILL), ("process_vm_writev", 311, (), KILL), ("kexec_load", 246, (), KILL),
        ("socket unix", 41, (1, 1), ALLOW), ("socket inet", 41, (2, 1), ERRNO | errno.EACCES),
        ("socket vsock", 41, (40, 1), ERRNO | errno.EACCES),
        ("socketpair unix", 53, (1, 1), ALLOW), ("socketpair inet", 53, (2, 1), ERRNO | errno.EACCES),
        ("fcntl getfl", 72, (0, 3), ALLOW), ("fcntl setlk", 72, (0, 6), ERRNO | errno.ENOLCK), ("flock", 73, (), ERRNO | errno.ENOLCK),
        ("ioctl tcgets", 16, (0, 0x5401), ALLOW), ("ioctl tiocsti", 16, (0, 0x5412), ERRNO | errno.EPERM),
        ("personality query", 135, (0xFFFFFFFF,), ALLOW), ("personality no-randomize", 135, (0x40000,), ERRNO | errno.EPERM),
        ("clone3", 435, (), ERRNO | errno.ENOSYS), ("a call of a later kernel", 600, (), ERRNO | errno.ENOSYS),
        ("x32 getpid", 0x40000000 + 39, (), KILL), ("x32 open", 0x40000002, (), KILL),
    ],
)  # fmt: skip
def test_cell_filter(name: str, number: int, args: tuple[int, ...], wanted: int) -> None:
    assert run(seccomp.cell_filter("x86_64"), number, args) == wanted


@pytest.mark.parametrize("number", [0, 39, 59, 231])
def test_another_entry_into_the_kernel_is_killed_whatever_it_calls(number: int) -> None:
    assert run(seccomp.cell_filter("x86_64"), number, arch=I386) == KILL
    assert run(seccomp.cell_filter("x86_64"), number, arch=ARM64) == KILL


@pytest.mark.parametrize(
    ("name", "number", "args", "wanted"),
    [
        ("read", 0, (), ALLOW), ("mount", 165, (), KILL), ("umount2", 166, (), KILL), ("unshare", 272, (), KILL), ("setns", 308, (), KILL),
        ("pivot_root", 155, (), KILL), ("chroot", 161, (), KILL), ("seccomp", 317, (), KILL),
        ("fork", 56, (17,), ALLOW), ("thread", 56, (0x3D0F00,), ALLOW),
        *((f"clone with {flag:#x}", 56, (flag | 17,), KILL) for flag in NAMESPACES),
    ],
)  # fmt: skip
def test_test_filter(name: str, number: int, args: tuple[int, ...], wanted: int) -> None:
    assert run(seccomp.candidate_filter("x86_64"), number, args) == wanted


@pytest.mark.parametrize(
    ("name", "number", "args", "wanted"),
    [
        ("kill oneself", 62, (1, 9), KILL), ("kill one's group", 62, (0, 9), KILL), ("kill another", 62, (7, 9), ALLOW),
        ("terminate", 62, (1, 15), ALLOW),
        ("tgkill oneself", 234, (1, 1, 9), KILL), ("tkill oneself", 200, (1, 9), KILL), ("raise SIGABRT", 234, (1, 1, 6), ALLOW),
        ("raise SIGSEGV", 234, (1, 1, 11), KILL), ("raise SIGFPE", 234, (1, 1, 8), KILL), ("raise SIGILL", 62, (1, 4), KILL),
        ("raise SIGBUS", 200, (1, 7), KILL), ("raise SIGUSR1", 234, (1, 1, 10), ALLOW), ("SIGSEGV to a child", 62, (5, 11), ALLOW),
        ("core limit", 160, (4, 1), ERRNO | errno.EPERM), ("stack limit", 160, (3, 1), ALLOW),
        ("core limit by prlimit", 302, (0, 4, 0x1000), ERRNO | errno.EPERM), ("asking for it", 302, (0, 4, 0), ALLOW),
        ("core limit at a round address", 302, (0, 4, 1 << 32), ERRNO | errno.EPERM),
    ],
)  # fmt: skip
def test_what_a_program_may_not_do_to_itself(name: str, number: int, args: tuple[int, ...], wanted: int) -> None:
    assert run(seccomp.cell_filter("x86_64"), number, args) == wanted


def test_what_no_cgroup_counts_is_refused() -> None:
    weaker = seccomp.candidate_filter("x86_64", memory=False, cpu=False)
    for number in (319, 29, 240):
        assert run(weaker, number) == ERRNO | errno.ENOSYS
        assert run(seccomp.candidate_filter("x86_64"), number) == ALLOW
    assert run(weaker, 13, (17, 0x1000)) == ERRNO | errno.EPERM  # a handler of SIGCHLD
    assert run(weaker, 13, (17, 0)) == ALLOW
    assert run(weaker, 13, (2, 0x1000)) == ALLOW
    assert run(weaker, 13, (17, 1 << 32)) == ERRNO | errno.EPERM
    assert run(seccomp.candidate_filter("x86_64"), 13, (17, 0x1000)) == ALLOW


@pytest.mark.parametrize(("number", "args"), [(9, (0, 0, 3, 0x40022)), (319, (0, 4)), (29, (0, 0, 0o4000))])
def test_huge_pages_are_refused(number: int, args: tuple[int, ...]) -> None:
    assert run(seccomp.cell_filter("x86_64"), number, args) == ERRNO | errno.EPERM
    assert run(seccomp.cell_filter("x86_64"), number, (0, 0, 3, 0x22)) == ALLOW


def test_arm64_has_filters_of_its_own() -> None:
    assert run(seccomp.cell_filter("aarch64"), 117, arch=ARM64) == KILL  # ptrace
    assert run(seccomp.cell_filter("aarch64"), 63, arch=ARM64) == ALLOW  # read
    assert run(seccomp.cell_filter("aarch64"), 198, (2,), arch=ARM64) == ERRNO | errno.EACCES  # socket
    assert run(seccomp.cell_filter("aarch64"), 63, arch=X86_64) == KILL
    assert run(seccomp.candidate_filter("aarch64"), 97, arch=ARM64) == KILL  # unshare


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_jumps_fit_and_programs_are_short_enough_for_the_kernel(machine: str) -> None:
    for program in (seccomp.cell_filter(machine), seccomp.candidate_filter(machine)):
        assert len(program) % 8 == 0
        assert len(program) // 8 <= 4096
