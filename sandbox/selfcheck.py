"""The conformance list that every backend passes, and the canary attacks that run at every start.

A check is a job and a pure look at its results. `CONFORMANCE` says what the contract means; `CANARIES` try to get out: a probe prints
`escaped` and what it reached, so that a protection that is off shows itself and does not pass for one that works.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sandbox.interface import Job, Limits, RunResult, Sandbox, SandboxError, Status, TestInput

_ADVICE = "this machine's isolation is incomplete; programs are refused until it holds"


@dataclass(frozen=True, slots=True)
class Check:
    """One job, and what is wrong with its results (None where nothing is)."""

    name: str
    job: Job
    fault: Callable[[Sequence[RunResult]], str | None]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. `advice` says what to do where it failed."""

    name: str
    ok: bool
    detail: str
    advice: str = ""


async def run_checks(sandbox: Sandbox, checks: Sequence[Check]) -> list[Finding]:
    """One finding per check whose language runs here, in order."""
    return [await _run(sandbox, check) for check in checks if check.job.language in sandbox.languages]


async def run_selfcheck(sandbox: Sandbox) -> list[Finding]:
    """Conformance and canaries."""
    return await run_checks(sandbox, (*CONFORMANCE, *CANARIES))


async def _run(sandbox: Sandbox, check: Check) -> Finding:
    try:
        async with contextlib.aclosing(sandbox.run(check.job)) as results:
            seen = [result async for result in results]
    except SandboxError as error:
        return Finding(check.name, False, f"{type(error).__name__}: {error}", _ADVICE)
    fault = check.fault(seen)
    return Finding(check.name, fault is None, fault or "holds", "" if fault is None else _ADVICE)


# ---- what the contract means -----------------------------------------------------------------------------------------


def _statuses(*wanted: Status) -> Callable[[Sequence[RunResult]], str | None]:
    def fault(results: Sequence[RunResult]) -> str | None:
        got = [result.status for result in results]
        return None if got == list(wanted) else f"expected {[status.value for status in wanted]}, got {[status.value for status in got]}"

    return fault


def _prints(*wanted: bytes) -> Callable[[Sequence[RunResult]], str | None]:
    def fault(results: Sequence[RunResult]) -> str | None:
        for index, (result, expected) in enumerate(zip(results, wanted, strict=False)):
            if result.index != index or result.status is not Status.FINISHED or result.stdout != expected:
                return f"input {index}: {result.status.value}, printed {result.stdout[:80]!r}, stderr {result.stderr[-120:]!r}"
        return None if len(results) == len(wanted) else f"{len(results)} results for {len(wanted)} inputs"

    return fault


def _python(source: str, *inputs: bytes, limits: Limits | None = None, output_bytes: int = 1 << 20) -> Job:
    tests = tuple(TestInput(data, output_bytes) for data in inputs or (b"",))
    return Job("python", source, tests, limits or Limits(cpu_s=2.0))


def _cpp(source: str, *inputs: bytes, limits: Limits | None = None) -> Job:
    return Job("cpp", source, tuple(TestInput(data, 1 << 20) for data in inputs or (b"",)), limits or Limits(cpu_s=2.0))


_MEBIBYTE = 1 << 20
_ECHO = "import sys\nsys.stdout.buffer.write(sys.stdin.buffer.read())\n"
_TOUCH = (
    "import os\nprint(sorted(os.listdir('.')), sorted(os.listdir('/tmp')))\nopen('a', 'w').write('x')\nopen('/tmp/b', 'w').write('x')\n"
)
_STATE = "import builtins\nprint(getattr(builtins, 'planted', 'clean'))\nbuiltins.planted = 'dirty'\n"

CONFORMANCE: tuple[Check, ...] = (
    Check(
        "inputs and outputs are bytes, in order",
        _python(_ECHO, b"\xff\x00\n", b"", b"b" * 300_000),
        _prints(b"\xff\x00\n", b"", b"b" * 300_000),
    ),
    Check("an exit code other than 0 is the program's failure", _python("raise SystemExit(3)"), _statuses(Status.RUNTIME_ERROR)),
    Check("an uncaught exception is the program's failure", _python("1 / 0"), _statuses(Status.RUNTIME_ERROR)),
    Check("a crash is the program's failure", _python("import ctypes\nctypes.string_at(0)"), _statuses(Status.RUNTIME_ERROR)),
    Check("os._exit before any output is no success of ours to invent", _python("import os\nos._exit(1)"), _statuses(Status.RUNTIME_ERROR)),
    Check("a source that does not parse gives one compile error", _python("def (", b"1", b"2"), _statuses(Status.COMPILE_ERROR)),
    Check("CPU time is judged", _python("while True: pass", limits=Limits(cpu_s=0.3)), _statuses(Status.TIME_LIMIT_EXCEEDED)),
    Check(
        "CPU time of children counts",
        _python("import os\nfor _ in range(3): os.fork()\nwhile True: pass", limits=Limits(cpu_s=0.4)),
        _statuses(Status.TIME_LIMIT_EXCEEDED),
    ),
    Check(
        "the wall clock is a net",
        _python("import time\ntime.sleep(60)", limits=Limits(cpu_s=0.1)),
        _statuses(Status.TIME_LIMIT_EXCEEDED),
    ),
    Check(
        "memory below the limit passes",
        _python(f"b = bytearray({90 * _MEBIBYTE})\nprint(len(b))", limits=Limits(memory_bytes=100 * _MEBIBYTE)),
        _statuses(Status.FINISHED),
    ),
    Check(
        "memory above the limit is a memory limit, not a crash",
        _python(f"b = bytearray({110 * _MEBIBYTE})\nprint(len(b))", limits=Limits(memory_bytes=100 * _MEBIBYTE)),
        _statuses(Status.MEMORY_LIMIT_EXCEEDED),
    ),
    Check(
        "memory of children counts",
        _python(
            f"import os, time\nfor _ in range(4):\n    if os.fork() == 0:\n        b = bytearray({40 * _MEBIBYTE})\n"
            "        time.sleep(1)\n        os._exit(0)\nfor _ in range(4): os.wait()\n",
            limits=Limits(memory_bytes=100 * _MEBIBYTE),
        ),
        _statuses(Status.MEMORY_LIMIT_EXCEEDED),
    ),
    Check("a MemoryError is a memory limit", _python(f"bytearray({1 << 45})"), _statuses(Status.MEMORY_LIMIT_EXCEEDED)),
    Check("output above its cap is an output limit", _python("while True: print('x' * 4096)"), _statuses(Status.OUTPUT_LIMIT_EXCEEDED)),
    Check("each test starts in an empty folder", _python(_TOUCH, b"", b""), _prints(b"[] []\n", b"[] []\n")),
    Check("each test starts with a clean interpreter", _python(_STATE, b"", b""), _prints(b"clean\n", b"clean\n")),
    Check(
        "a forbidden system call is a policy violation",
        _python("import ctypes\nctypes.CDLL(None).ptrace(0, 0, 0, 0)"),
        _statuses(Status.POLICY_VIOLATION),
    ),
    Check(
        "one failing test does not end the others",
        _python("x = int(input())\nprint(1 // x)", b"1", b"0", b"1"),
        _statuses(Status.FINISHED, Status.RUNTIME_ERROR, Status.FINISHED),
    ),
    Check(
        "C++ runs",
        _cpp("#include <bits/stdc++.h>\nint main() { long a; std::cin >> a; std::cout << a + 1; }", b"1", b"41"),
        _prints(b"2", b"42"),
    ),
    Check(
        "C++ that does not compile gives one compile error", _cpp("int main() { return x; }", b"1", b"2"), _statuses(Status.COMPILE_ERROR)
    ),
    Check("a C++ abort is the program's failure", _cpp("#include <cstdlib>\nint main() { abort(); }"), _statuses(Status.RUNTIME_ERROR)),
    Check(
        "C++ memory above the limit is a memory limit",
        _cpp("#include <vector>\nint main() { std::vector<char> v(400 << 20, 1); return v[5] - 1; }"),
        _statuses(Status.MEMORY_LIMIT_EXCEEDED),
    ),
    Check(
        "a bad_alloc is a memory limit",
        _cpp("#include <vector>\nint main() { std::vector<char> v(1L << 45); }"),
        _statuses(Status.MEMORY_LIMIT_EXCEEDED),
    ),
)


# ---- attacks ---------------------------------------------------------------------------------------------------------


def contained(results: Sequence[RunResult]) -> str | None:
    """None where no probe printed `escaped` and each run either ended well or was stopped by the sandbox."""
    for result in results:
        if b"escaped" in result.stdout:
            return result.stdout[:200].decode("utf-8", "replace").strip()
        if result.status is Status.RUNTIME_ERROR:
            return f"the probe itself failed: {result.stderr[-200:]!r}"
    return None


def _probe(name: str, source: str, *inputs: bytes) -> Check:
    return Check(name, _python(source, *inputs), contained)


_FILES = """
for path in ('/etc/shadow', '/etc/hostname', '/proc/1/environ', '/proc/kcore', '/sys/kernel', '/var/log', '/home', '/oldroot'):
    try:
        data = open(path).read()
    except IsADirectoryError:
        data = path
    except OSError:
        continue
    if path != '/proc/1/environ' or 'ONLINE_JUDGE=1' not in data:
        print('escaped: read', path)
"""
_NETWORK = """
import socket
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET, 40):
    try:
        socket.socket(family, socket.SOCK_RAW if family in (16, 17) else socket.SOCK_STREAM)
        print('escaped: socket family', family)
    except OSError:
        pass
"""
_PROCESSES = """
import os
others = [name for name in os.listdir('/proc') if name.isdigit() and int(name) != os.getpid()]
if others:
    print('escaped: sees processes', others)
try:
    os.kill(-1, 0)
    print('escaped: signalled others')
except OSError:
    pass
"""
_DESCRIPTORS = """
import os
for number in range(3, 1024):
    try:
        os.fstat(number)
        print('escaped: descriptor', number)
    except OSError:
        pass
"""
_PRIVILEGES = """
status = dict(line.split(':', 1) for line in open('/proc/self/status') if ':' in line)
for key, wanted in (('CapEff', 0), ('CapPrm', 0), ('CapInh', 0), ('NoNewPrivs', 1), ('Seccomp', 2)):
    if int(status[key].strip(), 16) != wanted:
        print('escaped:', key, status[key].strip())
if '0' in status['Uid'].split():
    print('escaped: uid 0')
"""
_WRITES = """
import os
for path in ('/etc/passwd', '/program/main.py', '/proc/self/oom_score_adj', os.__file__):
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND))
        print('escaped: can write', path)
    except OSError:
        pass
for path in ('/', '/etc', '/usr', '/dev', '/lib', '/program', '/sbin'):
    if os.access(path, os.W_OK):
        print('escaped: can write into', path)
"""
_LEFTOVERS = """
import os, socket, ctypes
libc = ctypes.CDLL(None)
found = [path for path in ('/tmp/planted', '/dev/shm/planted', 'planted') if os.path.exists(path)]
if libc.shmget(4711, 4096, 0) >= 0:
    found.append('System V shared memory')
s = socket.socket(socket.AF_UNIX)
try:
    s.connect('\\0planted')
    found.append('abstract socket')
except OSError:
    pass
if found:
    print('escaped: found', found)
for path in ('/tmp/planted', '/dev/shm/planted', 'planted'):
    open(path, 'w').write('x')
libc.shmget(4711, 4096, 0o1600)
s = socket.socket(socket.AF_UNIX)
s.bind('\\0planted')
s.listen()
if os.fork() == 0:
    os.setsid()
    import time
    time.sleep(30)
"""
_ENVIRONMENT = """
import os
allowed = {'PATH', 'HOME', 'TMPDIR', 'TZ', 'LANG', 'ONLINE_JUDGE', 'LC_CTYPE', 'PWD'}
for name in os.environ:
    if name not in allowed and not name.endswith('_NUM_THREADS') and not name.startswith('PYTHON'):
        print('escaped: environment', name)
"""
_CALL = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nif {call} >= 0:\n    print('escaped: {name}')\n"


def _call(name: str, call: str) -> Check:
    return Check(f"no {name}", _python(_CALL.format(call=call, name=name)), contained)


CANARIES: tuple[Check, ...] = (
    _probe("no file of the host is readable", _FILES),
    _probe("no network", _NETWORK),
    _probe("no other process is visible or can be signalled", _PROCESSES),
    _probe("no descriptor is inherited", _DESCRIPTORS),
    _probe("no privilege is left", _PRIVILEGES),
    _probe("nothing but the box is writable", _WRITES),
    _probe("nothing survives a test", _LEFTOVERS, b"", b"", b""),
    _probe("nothing of the service's environment is inside", _ENVIRONMENT),
    _call("new user namespace", "libc.unshare(0x10000000)"),
    _call("mount", "libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)"),
    _call("io_uring", "libc.syscall(425, 8, ctypes.create_string_buffer(120))"),
    _call("keyring", "libc.syscall(250 if __import__('platform').machine() == 'x86_64' else 219, 0, -3, 1)"),
)
