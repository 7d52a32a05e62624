"""System-call filters as classic BPF, built from tables. Pure.

Two programs, because installing one costs time in proportion to its length (half a microsecond an instruction, and the kernel tries every
call number on it) and happens once per test for the second:
`cell_filter` is installed once, in the process that all cells are forked from, and forbids what neither they nor a candidate need;
`candidate_filter` is installed in each test's process right before the candidate's code and forbids the rest: what the supervisor itself
needed to make namespaces.

A forbidden call either kills the process (`policy_violation`), where no honest program makes it, or fails with an error number, where
run-time libraries try it and cope.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable

# numbers: (x86-64, arm64); None where the architecture lacks the call
_KILL: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272), "pidfd_getfd": (438, 438),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "open_tree_attr": (467, 467),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "syslog": (103, 116), "iopl": (172, None), "ioperm": (173, None),
    "modify_ldt": (154, None), "vhangup": (153, 58), "nfsservctl": (180, 42), "lookup_dcookie": (212, 18),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262), "fanotify_mark": (301, 263),
    "uselib": (134, None), "ustat": (136, None), "sysfs": (139, None), "memfd_secret": (447, 447),
}  # fmt: skip
_REFUSE: dict[str, tuple[int | None, int | None, int]] = {
    # the C library falls back to clone, whose flags a filter can read
    "clone3": (435, 435, errno.ENOSYS),
    # shared inodes of the read-only runtime must not become a channel between boxes
    "flock": (73, 32, errno.ENOLCK), "inotify_init": (253, None, errno.ENOSYS), "inotify_init1": (294, 26, errno.ENOSYS),
    "io_setup": (206, 0, errno.ENOSYS), "move_pages": (279, 239, errno.EPERM), "migrate_pages": (256, 238, errno.EPERM),
    "sched_setaffinity": (203, 122, errno.EPERM), "sched_setscheduler": (144, 119, errno.EPERM), "sched_setattr": (314, 274, errno.EPERM),
    "sched_setparam": (142, 118, errno.EPERM), "ioprio_set": (251, 30, errno.EPERM), "process_madvise": (440, 440, errno.EPERM),
    "mbind": (237, 235, errno.EPERM), "set_mempolicy": (238, 237, errno.EPERM), "set_mempolicy_home_node": (450, 450, errno.EPERM),
    "landlock_create_ruleset": (444, 444, errno.ENOSYS), "landlock_add_rule": (445, 445, errno.ENOSYS),
    "landlock_restrict_self": (446, 446, errno.ENOSYS), "sethostname": (170, 161, errno.EPERM), "setdomainname": (171, 162, errno.EPERM),
}  # fmt: skip
# what a cell's supervisor itself needed; a candidate has no use for it
_KILL_IN_TEST: dict[str, tuple[int | None, int | None]] = {
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97), "setns": (308, 268),
    "seccomp": (317, 277),
}  # fmt: skip

# what no cgroup would count
_REFUSE_UNCOUNTED: dict[str, tuple[int | None, int | None]] = {"memfd_create": (319, 279), "shmget": (29, 194), "mq_open": (240, 180)}

_SOCKET, _SOCKETPAIR = (41, 198), (53, 199)
_FCNTL, _CLONE, _PERSONALITY, _IOCTL = (72, 25), (56, 220), (135, 92), (16, 29)
_MMAP, _MEMFD_CREATE, _SHMGET = (9, 222), (319, 279), (29, 194)
_SETRLIMIT, _PRLIMIT, _PRCTL, _RT_SIGACTION = (160, 164), (302, 261), (157, 167), (13, 134)
_SYNC, _SYNCFS = (162, 81), (306, 267)
_KILL_CALLS = {"kill": ((62, 129), 1), "tkill": ((200, 130), 1), "tgkill": ((234, 131), 2)}  # numbers, and which argument is the signal
_HUGE_PAGES = {"mmap": (_MMAP, 3, 0x40000), "memfd_create": (_MEMFD_CREATE, 1, 0x4), "shmget": (_SHMGET, 2, 0o4000)}
_PR_SCHED_CORE, _RLIMIT_CORE, _SIGCHLD = 62, 4, 17
_FATAL_SIGNALS = (4, 7, 8, 9, 11)  # SIGILL SIGBUS SIGFPE SIGKILL SIGSEGV
_AF_UNIX = 1
_NAMESPACE_FLAGS = 0x7E020080  # every CLONE_NEW*, time namespaces included
_LOCK_COMMANDS = (5, 6, 7, 36, 37, 38, 1024, 1026)  # F_GETLK F_SETLK F_SETLKW F_OFD_GETLK F_OFD_SETLK F_OFD_SETLKW F_SETLEASE F_NOTIFY
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_HIGHEST_KNOWN = 467  # whatever a later kernel adds is unknown here, so refused

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000

_LOAD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_AT, _ARCH_AT, _ARG0_AT, _ARG1_AT, _ARG2_AT = 0, 4, 16, 24, 32  # offsets in seccomp_data (low words of the arguments, little endian)


def _op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("<HBBI", code, yes, no, value)


def _answer(number: int, action: int) -> bytes:
    return _op(_JEQ, number, 0, 1) + _op(_RET, action)


def _when(number: int, body: list[bytes]) -> bytes:
    """If the call's number matches, run `body` (which must end in a return)."""
    code = b"".join(body)
    return _op(_JEQ, number, 0, len(code) // 8) + code


def _only_unix(number: int) -> bytes:
    return _when(number, [_op(_LOAD, _ARG0_AT), _op(_JEQ, _AF_UNIX, 0, 1), _op(_RET, _ALLOW), _op(_RET, _ERRNO | errno.EACCES)])


def _refuse_values(number: int, offset: int, values: Iterable[int], error: int) -> bytes:
    body = [_op(_LOAD, offset)]
    for value in values:
        body += [_op(_JEQ, value, 0, 1), _op(_RET, _ERRNO | error)]
    return _when(number, [*body, _op(_RET, _ALLOW)])


def _refuse_flag(number: int, argument: int, flag: int) -> bytes:
    """Refuse a call in whose argument a flag is set."""
    body = [_op(_LOAD, _ARG0_AT + 8 * argument), _op(_JSET, flag, 0, 1), _op(_RET, _ERRNO | errno.EPERM), _op(_RET, _ALLOW)]
    return _when(number, body)


def _refuse_pair(number: int, offset: int, value: int, pointer_at: int) -> bytes:
    """Refuse a call that changes (its pointer is not null) what `value` names."""
    body = [_op(_LOAD, offset), _op(_JEQ, value, 1, 0), _op(_RET, _ALLOW)]
    body += [_op(_LOAD, pointer_at), _op(_JEQ, 0, 0, 3), _op(_LOAD, pointer_at + 4), _op(_JEQ, 0, 0, 1)]  # both words of the pointer
    return _when(number, [*body, _op(_RET, _ALLOW), _op(_RET, _ERRNO | errno.EPERM)])


def _for(machine: str, table: dict[str, tuple[int | None, int | None]]) -> list[int]:
    column = 0 if machine == "x86_64" else 1
    return [row[column] for row in table.values() if row[column] is not None]  # type: ignore[misc]


def cell_filter(machine: str) -> bytes:
    """The program under which every cell runs. `machine` is `x86_64` or `aarch64`."""
    column = 0 if machine == "x86_64" else 1
    program = [_op(_LOAD, _ARCH_AT), _op(_JEQ, _ARCHITECTURES[machine], 1, 0), _op(_RET, _KILL_PROCESS), _op(_LOAD, _NUMBER_AT)]
    if machine == "x86_64":
        program += [_op(_JGE, _X32_BIT, 0, 1), _op(_RET, _KILL_PROCESS)]
    program += [_answer(number, _KILL_PROCESS) for number in _for(machine, _KILL)]
    program += [_op(_JGE, _HIGHEST_KNOWN + 1, 0, 1), _op(_RET, _ERRNO | errno.ENOSYS)]
    for row in _REFUSE.values():
        number = row[column]
        if number is not None:
            program.append(_answer(number, _ERRNO | row[2]))
    program += [_only_unix(_SOCKET[column]), _only_unix(_SOCKETPAIR[column])]
    program.append(_refuse_values(_FCNTL[column], _ARG1_AT, _LOCK_COMMANDS, errno.ENOLCK))
    program.append(_refuse_values(_IOCTL[column], _ARG1_AT, (_TIOCSTI, _TIOCLINUX), errno.EPERM))
    query = [_op(_LOAD, _ARG0_AT), _op(_JEQ, 0, 1, 0), _op(_JEQ, 0xFFFFFFFF, 0, 1), _op(_RET, _ALLOW), _op(_RET, _ERRNO | errno.EPERM)]
    program.append(_when(_PERSONALITY[column], query))
    program += [_refuse_flag(numbers[column], argument, flag) for numbers, argument, flag in _HUGE_PAGES.values()]
    program.append(_refuse_values(_PRCTL[column], _ARG0_AT, (_PR_SCHED_CORE,), errno.EPERM))
    for numbers, argument in _KILL_CALLS.values():
        program.append(_fatal_to_init(numbers[column], _ARG0_AT + 8 * argument))
    program.append(_refuse_values(_SETRLIMIT[column], _ARG0_AT, (_RLIMIT_CORE,), errno.EPERM))
    program.append(_refuse_pair(_PRLIMIT[column], _ARG1_AT, _RLIMIT_CORE, _ARG2_AT))
    program += [_answer(numbers[column], _ERRNO) for numbers in (_SYNC, _SYNCFS)]  # `done`, and nothing of it: no disk is theirs
    return b"".join([*program, _op(_RET, _ALLOW)])


def candidate_filter(machine: str, *, memory: bool = True, cpu: bool = True) -> bytes:
    """The program installed in each test's process, on top of `cell_filter`.

    Where no cgroup counts `memory`, calls whose memory only a cgroup could see are refused; where none counts `cpu`, so are handlers of
    SIGCHLD, since the time of children that nobody waits for would be lost.
    """
    column = 0 if machine == "x86_64" else 1
    program = [_op(_LOAD, _NUMBER_AT), *[_answer(number, _KILL_PROCESS) for number in _for(machine, _KILL_IN_TEST)]]
    flags = [_op(_LOAD, _ARG0_AT), _op(_JSET, _NAMESPACE_FLAGS, 0, 1), _op(_RET, _KILL_PROCESS), _op(_RET, _ALLOW)]
    program.append(_when(_CLONE[column], flags))
    if not memory:
        program += [_answer(number, _ERRNO | errno.ENOSYS) for number in _for(machine, _REFUSE_UNCOUNTED)]
    if not cpu:
        program.append(_refuse_pair(_RT_SIGACTION[column], _ARG0_AT, _SIGCHLD, _ARG1_AT))
    return b"".join([*program, _op(_RET, _ALLOW)])


def _fatal_to_init(number: int, signal_at: int) -> bytes:
    """A fatal signal to process 1, which the kernel would ignore: a program that kills itself is dead, as in a bare run.

    Real faults need no rule, since the kernel forces them, and `abort` ends in one. Signals that ask (SIGTERM, SIGALRM) stay ignored.
    """
    fatal = [_op(_JEQ, value, len(_FATAL_SIGNALS) - place, 0) for place, value in enumerate(_FATAL_SIGNALS)]
    target = [_op(_LOAD, _ARG0_AT), _op(_JEQ, 1, 1, 0), _op(_JEQ, 0, 0, 1), _op(_RET, _KILL_PROCESS), _op(_RET, _ALLOW)]
    return _when(number, [_op(_LOAD, signal_at), *fatal, _op(_RET, _ALLOW), *target])
