# ruff: noqa: E501 - a program stands in as few lines as it can: broken strings would hide it
"""Ways into or around the kernel: system calls that open an escape, other entries, privileges, namespaces."""

from __future__ import annotations

from tests.attacks.attack import Attack, cpp, python

_CALL = """
libc.syscall.restype = ctypes.c_long
buffer = ctypes.create_string_buffer(256)
zero = ctypes.c_long(0)
def number(n): return ctypes.c_long(n)
result = libc.syscall(number({number}), {arguments})
error = ctypes.get_errno()
if result < 0 and error == 38: print('absent')
elif result >= 0 or error not in (1, 13, 37): escaped('the kernel answered', result, error)
"""


def _call(name: str, number: int, arguments: str, why: str, **more: object) -> Attack:
    """A call with arguments that do no harm: whether the kernel took it up is seen by what it says of them."""
    return python(f"call-{name}", "kernel", _CALL.format(number=number, arguments=arguments), why, **more)


_N1 = "number(-1)"
CALLS = (
    _call("ptrace", 101, "zero, zero, zero, zero", "PTRACE_TRACEME: debugging changes what a filter saw"),
    _call("process-vm-readv", 310, "number(os.getpid()), zero, zero, zero, zero, zero", "reading another's memory"),
    _call("process-vm-writev", 311, "number(os.getpid()), zero, zero, zero, zero, zero", "writing another's memory"),
    _call("kcmp", 312, "number(os.getpid()), number(os.getpid()), number(1), zero, zero", "comparing kernel objects"),
    _call("pidfd-getfd", 438, f"{_N1}, zero, zero", "taking another's descriptors"),
    _call("bpf", 321, f"{_N1}, buffer, number(128)", "programs in the kernel"),
    _call("perf-event", 298, f"buffer, {_N1}, {_N1}, {_N1}, zero", "counters of the machine"),
    _call("userfaultfd", 323, f"{_N1}", "stopping the kernel in the middle of a copy"),
    _call("io-uring-setup", 425, "zero, buffer", "system calls that no filter sees; isolate 2.6"),
    _call("io-uring-enter", 426, f"{_N1}, zero, zero, zero, zero, zero", "system calls that no filter sees"),
    _call("io-uring-register", 427, f"{_N1}, zero, zero, zero", "system calls that no filter sees"),
    _call("add-key", 248, "b'user', b'planted', b'x', number(1), number(-1)", "keyrings outlive the box; isolate 2.4"),
    _call("request-key", 249, "b'user', b'planted', zero, zero", "keyrings outlive the box"),
    _call("keyctl", 250, "zero, number(-3), number(1)", "keyrings outlive the box"),
    _call("mount", 165, "b'none', b'/nonexistent', b'tmpfs', zero, zero", "the old mount call"),
    _call("umount", 166, "b'/nonexistent', zero", "uncovering what a mount hides"),
    _call("pivot-root", 155, "b'/nonexistent', b'/nonexistent'", "another root"),
    _call("chroot", 161, "b'/nonexistent'", "the classic way out of a chroot"),
    _call("open-tree", 428, f"{_N1}, b'/nonexistent', zero", "the new mount calls: a filter on mount() misses them"),
    _call("move-mount", 429, f"{_N1}, b'', {_N1}, b'', zero", "the new mount calls"),
    _call("fsopen", 430, "b'tmpfs', zero", "the new mount calls"),
    _call("fsconfig", 431, f"{_N1}, zero, zero, zero, zero", "the new mount calls"),
    _call("fsmount", 432, f"{_N1}, zero, zero", "the new mount calls"),
    _call("fspick", 433, f"{_N1}, b'/nonexistent', zero", "the new mount calls"),
    _call("mount-setattr", 442, f"{_N1}, b'', zero, buffer, number(32)", "taking read-only away"),
    _call("unshare", 272, "zero", "namespaces of one's own bring capabilities"),
    _call("setns", 308, f"{_N1}, zero", "another's namespaces"),
    _call("name-to-handle", 303, f"{_N1}, b'/nonexistent', zero, zero, zero", "file handles pass by every mount"),
    _call("open-by-handle", 304, f"{_N1}, buffer, zero", "the escape from the first Docker (shocker)"),
    _call("fanotify", 300, "number(-1), zero", "watching the host's files"),
    _call("init-module", 175, "zero, zero, zero", "code in the kernel"),
    _call("finit-module", 313, f"{_N1}, zero, zero", "code in the kernel"),
    _call("delete-module", 176, "b'no-such-module', number(2048)", "code in the kernel"),
    _call("kexec", 246, "zero, zero, zero, number(-1)", "another kernel"),
    _call("reboot", 169, "zero, zero, zero, zero", "with the wrong magic numbers"),
    _call("swapon", 167, "b'/nonexistent', zero", "swap"),
    _call("acct", 163, "b'/nonexistent'", "accounting into a file of choice"),
    _call("clock-settime", 227, "number(99), buffer", "time for everybody, and the wall limit"),
    _call("settimeofday", 164, "zero, zero", "time for everybody"),
    _call("adjtimex", 159, "buffer", "time for everybody"),
    _call("clock-adjtime", 305, "zero, buffer", "time for everybody"),
    _call("syslog", 103, "number(10), zero, zero", "the kernel's log"),
    _call("iopl", 172, "number(3)", "ports of the hardware"),
    _call("ioperm", 173, "number(128), number(1), number(1)", "ports of the hardware"),
    _call("modify-ldt", 154, "zero, buffer, number(16)", "segments: a door to 16-bit code and old kernel bugs"),
    _call("quotactl", 179, "number(-1), zero, zero, zero", "quotas of the host's disks"),
    _call("personality", 135, "number(0x0040000)", "addresses that are not random"),
    _call("seccomp", 317, "zero, number(1), zero", "a filter that answers for another (user notification)"),
    _call("sethostname", 170, "b'planted', number(7)", "the name of the box"),
    _call("mbind", 237, "zero, zero, zero, zero, zero, zero", "memory on a node of choice"),
    _call("move-pages", 279, "zero, zero, zero, zero, zero, zero", "where pages lie"),
    _call("ioprio", 251, "number(1), zero, number(0x4000)", "priority on the disks"),
    _call("memfd-huge", 319, "b'huge', number(4)", "huge pages are set aside by the operator and charged to no memory limit"),
    _call("memfd-secret", 447, "zero", "memory that the kernel itself cannot see"),
    _call("landlock", 444, "zero, zero, number(1)", "no use for it in a box"),
    _call("inotify", 294, "zero", "watching shared files is a channel between boxes"),
    _call("lease", 72, "number(os.open(sys.executable, os.O_RDONLY)), number(1024), zero", "a lease on a shared file is a channel"),
    _call("flock", 73, "number(os.open(sys.executable, os.O_RDONLY)), number(5)", "a lock on a shared file is a channel; isolate 2.5"),
    _call("lockf", 72, "number(os.open(sys.executable, os.O_RDONLY)), number(5), buffer", "asking for a lock tells who holds it"),
)  # fmt: skip

_NAMESPACES = {
    "mount": 0x20000,
    "cgroup": 0x2000000,
    "uts": 0x4000000,
    "ipc": 0x8000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
}
CLONES = tuple(
    python(
        f"clone-{name}",
        "kernel",
        f"libc.syscall.restype = ctypes.c_long\nz = ctypes.c_long(0)\npid = libc.syscall(ctypes.c_long(56), ctypes.c_long({flag | 17}), z, z, z, z)\n"
        "if pid == 0: os._exit(0)\nif pid > 0:\n    os.waitpid(pid, 0)\n    escaped('a namespace of its own')",
        "a namespace by clone's flags: a filter on unshare() misses it",
    )
    for name, flag in _NAMESPACES.items()
)
CLONE3 = python(
    "clone3-user",
    "kernel",
    "import struct\nlibc.syscall.restype = ctypes.c_long\n"
    "args = ctypes.create_string_buffer(struct.pack('8Q', 0x10000000, 0, 0, 0, 17, 0, 0, 0))\n"
    "pid = libc.syscall(ctypes.c_long(435), args, ctypes.c_long(64))\nif pid == 0: os._exit(0)\n"
    "if pid > 0:\n    os.waitpid(pid, 0)\n    escaped('clone3')",
    "clone3's flags lie in memory, where a filter cannot look",
)
JOIN = python(
    "join-namespaces",
    "kernel",
    "for n in os.listdir('/proc/self/ns'):\n    fd = os.open('/proc/self/ns/' + n, os.O_RDONLY)\n"
    "    if libc.setns(fd, 0) == 0: escaped('joined', n)",
    "through the links of its own namespaces",
)

PRIVILEGES = (
    python("capabilities", "privileges",
           "status = dict(line.split(':', 1) for line in open('/proc/self/status') if ':' in line)\n"
           "for key in ('CapEff', 'CapPrm', 'CapInh', 'CapAmb'):\n    if int(status[key], 16): escaped(key, status[key].strip())",
           "THREATS 4: CapEff = CapPrm = 0"),
    python("no-new-privileges", "privileges",
           "status = open('/proc/self/status').read()\nif 'NoNewPrivs:\\t1' not in status: escaped('may gain privileges by exec')\n"
           "if 'Seccomp:\\t2' not in status: escaped('no filter')", "THREATS 4: NNP = 1 and a filter in force"),
    python("uid", "privileges", "if 0 in (*os.getresuid(), *os.getresgid(), *os.getgroups()): escaped(os.getresuid(), os.getresgid())",
           "never root, in no namespace"),
    python("become-root", "privileges",
           "import subprocess\nfor call in (lambda: os.setuid(0), lambda: os.setresuid(0, 0, 0), lambda: os.setgid(0), lambda: os.setgroups([0])):\n"
           "    try: call()\n    except OSError: continue\n    escaped('became root')\n    break", "by the calls that are for it"),
    python("exec-gains", "privileges",
           "import subprocess\nout = subprocess.run([sys.executable, '-S', '-c', 'print(open(\"/proc/self/status\").read())'], capture_output=True,"
           " text=True).stdout\nif 'CapEff:\\t0000000000000000' not in out or 'Seccomp:\\t2' not in out: escaped('exec brings privileges', out[:50])",
           "filters and the lack of capabilities must last beyond exec"),
    python("keep-in-child", "privileges",
           "pid = os.fork()\nif pid == 0:\n    r = libc.ptrace(0, 0, 0, 0)\n    os._exit(7 if r == 0 else 0)\n"
           "status = os.waitpid(pid, 0)[1]\nif os.WIFEXITED(status) and os.WEXITSTATUS(status) == 7: escaped('a child is not filtered')",
           "the filter must hold in children"),
    python("huge-priority-limits", "privileges",
           "import resource\nfor n in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE, resource.RLIMIT_MEMLOCK):\n"
           "    soft, hard = resource.getrlimit(n)\n    try: resource.setrlimit(n, (hard + 1, hard + 1))\n    except (OSError, ValueError): continue\n"
           "    escaped('raised a limit', n)", "raising one's own limits", control="none", no_control="even root may be without CAP_SYS_RESOURCE"),
    python("tty", "privileges",
           "import fcntl, pty\ntry:\n    m, s = pty.openpty()\n    escaped('has terminals')\nexcept OSError: pass\n"
           "try:\n    fcntl.ioctl(0, 0x5412, b'x')\n    escaped('TIOCSTI')\nexcept OSError: pass", "typing into a terminal that is not ours",
           control="none", no_control="the control has no terminals either"),
)  # fmt: skip

_I386 = """
unsigned int result;
asm volatile("int $0x80" : "=a"(result) : "a"({number}), "b"({b}), "c"({c}), "d"({d}) : "memory");
"""
ENTRIES = (
    cpp("int80-getpid", "entries", _I386.format(number=20, b=0, c=0, d=0) + 'escaped("32-bit entry");',
        "the 32-bit table has other numbers: a filter for 64 bits misreads them; isolate 2.6"),
    cpp("int80-socketcall", "entries",
        "static unsigned args[3] = {2, 1, 0};\n" + _I386.format(number=102, b=1, c="(unsigned)(unsigned long)args", d=0) +
        'escaped("socketcall");', "socket() by the 32-bit table"),
    cpp("int80-ptrace", "entries", _I386.format(number=26, b=0, c=0, d=0) + 'escaped("ptrace");', "ptrace by the 32-bit table"),
    cpp("x32-getpid", "entries",
        'long r = syscall(0x40000000L + 39); if (r > 0) escaped("x32"); else puts("absent");', "numbers of the x32 interface"),
    cpp("x32-bit-socket", "entries",
        'long r = syscall(0x40000000L + 41, 2, 1, 0); if (r >= 0) escaped("x32 socket"); else puts("absent");', "socket() by the x32 interface"),
    cpp("unknown-call", "entries",
        'for (long n = 468; n < 700; n++) { long r = syscall(n, -1, -1, -1, -1, -1, -1); if (r >= 0 || errno != ENOSYS) escaped("call"); }',
        "calls that the filter's author could not know", control="none", no_control="this kernel has none of them"),
    cpp("constructor", "entries", 'puts("main");', "before main, when a wrapper might not have set up yet",
        top='static int early = [] { long r = syscall(SYS_ptrace, 0, 0, 0, 0); if (r == 0) { printf("escaped: early\\n"); fflush(stdout); } return 0; }();'),
)  # fmt: skip

ATTACKS: tuple[Attack, ...] = (*CALLS, *CLONES, CLONE3, JOIN, *PRIVILEGES, *ENTRIES)
