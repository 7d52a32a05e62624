"""What happens in a test's own process, from the fork to the candidate's first instruction, and after its last.

This process is the init of a fresh pid namespace: when it ends, the kernel ends whatever it started. Nothing here decides a verdict:
by the time the candidate's code runs, no descriptor, capability or system call is left that reaches the supervisor.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import gc
import os
import resource
import sys
import types
from typing import NoReturn

from sandbox.namespaces import mounts, system

KIND_PYTHON, KIND_NATIVE, KIND_COMPILE = "python", "native", "compile"
NATIVE_PROGRAM = f"{mounts.PROGRAM_FOLDER}/main"
PYTHON_PROGRAM = f"{mounts.PROGRAM_FOLDER}/main.py"
_RLIMIT_SIGPENDING, _RLIMIT_MSGQUEUE = 11, 12  # the standard library does not name them
MAIN = types.ModuleType("__main__")  # the program's own
_COMPILED = f"{mounts.WORKING_FOLDER}/main"


class Request:
    """One test as the supervisor was asked to run it; the fields of `wire.REQUEST`."""

    __slots__ = (
        "cpu_s",
        "disk_bytes",
        "disk_inodes",
        "files",
        "index",
        "input_bytes",
        "memory_bytes",
        "output_bytes",
        "processes",
        "wall_s",
    )

    def __init__(self, *fields: float) -> None:
        self.index, self.input_bytes = int(fields[0]), int(fields[1])
        self.cpu_s, self.wall_s = fields[2:4]
        self.memory_bytes, self.output_bytes, self.processes, self.disk_bytes, self.disk_inodes = map(int, fields[4:])
        self.files: tuple[tuple[str, int], ...] = ()  # names and sizes, in the order of their bytes in a fourth descriptor


class Program:
    """What a cell runs: a code object, a binary at `NATIVE_PROGRAM`, or a compiler's command line.

    `data_bytes` is RLIMIT_DATA where no cgroup bounds memory, -1 for none.
    """

    __slots__ = ("arguments", "code", "command", "data_bytes", "kind")

    def __init__(self, kind: str, command: tuple[str, ...] = (), arguments: tuple[str, ...] = (), data_bytes: int = -1) -> None:
        self.kind = kind
        self.command = command
        self.arguments = arguments
        self.data_bytes = data_bytes
        self.code: types.CodeType | None = None


def enter(request: Request, program: Program, descriptors: tuple[int, ...], ready: int, candidate_filter: system.Filter) -> None:
    """Become the box. `ready` is an eventfd that says the set-up is complete. Raises OSError."""
    _isolate(request, program, descriptors, candidate_filter)
    os.eventfd_write(ready, 1)  # from here on a death is the program's
    system.close_from(3)


def run(program: Program) -> None:
    """Run the program in the box that this process has become; never returns."""
    if program.kind == KIND_PYTHON:
        assert program.code is not None
        gc.enable()
        leave(_call(program.code, MAIN.__dict__))
    elif program.kind == KIND_NATIVE:
        _execute(NATIVE_PROGRAM, program.arguments)
    else:
        _compile(program.command)
    os._exit(127)


def _isolate(request: Request, program: Program, descriptors: tuple[int, ...], candidate_filter: system.Filter) -> None:
    os.setsid()  # a process group of its own: kill(0) must not reach the supervisor
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    system.mount("tmpfs", mounts.TEST_FOLDER, "tmpfs", system.MS_NOSUID | system.MS_NODEV, tmpfs_options(request).decode())
    for name in ("work", "tmp", "shm"):
        os.mkdir(f"{mounts.TEST_FOLDER}/{name}")
    os.chdir(mounts.WORKING_FOLDER)
    if request.files:
        _place_files(request.files, descriptors[3])
    system.mount("proc", "/proc", "proc", system.MS_NOSUID | system.MS_NODEV | system.MS_NOEXEC | system.MS_RDONLY, "subset=pid")
    for number, soft, hard in limits(request, program):
        resource.setrlimit(number, (soft, hard))
    system.drop_capabilities()
    candidate_filter.install()


def _place_files(files: tuple[tuple[str, int], ...], source: int) -> None:
    """Write a test's files into its working folder."""
    at = 0
    for name, size in files:
        target = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        end = at + size
        while at < end:
            at += os.sendfile(target, source, at, end - at)
        os.close(target)


def tmpfs_options(request: Request) -> bytes:
    """Mount options of a test's own file system."""
    placed = sum(size for _, size in request.files)
    return b"size=%d,nr_inodes=%d,mode=755" % (request.disk_bytes + placed, request.disk_inodes + len(request.files))


def limits(request: Request, program: Program) -> list[tuple[int, int, int]]:
    """(resource, soft, hard) of a test. The hard limit of the stack stays: the program may know better than its default."""
    cpu = int(2 * request.cpu_s) + 2  # the supervisor judges CPU time to the millisecond; this is the net below it
    size = max(request.output_bytes + 1, request.disk_bytes)
    most = resource.getrlimit(resource.RLIMIT_STACK)[1]
    stack = request.memory_bytes if most == resource.RLIM_INFINITY else min(request.memory_bytes, most)
    found = [
        (resource.RLIMIT_CPU, cpu, cpu),
        (resource.RLIMIT_FSIZE, size, size),
        (resource.RLIMIT_NOFILE, 256, 256),  # also bounds what may be in flight through sockets, which is counted per user
        (_RLIMIT_SIGPENDING, 1024, 1024),
        (_RLIMIT_MSGQUEUE, 65536, 65536),
        (resource.RLIMIT_NPROC, request.processes + 1, request.processes + 1),  # the supervisor counts as one
        (resource.RLIMIT_MEMLOCK, 65536, 65536),
        (resource.RLIMIT_STACK, stack, most),
    ]
    if program.data_bytes >= 0:
        data = program.data_bytes + request.processes * stack  # each thread of a native program reserves as much as the stack may grow to
        found.append((resource.RLIMIT_DATA, data, data))
    return found


def _execute(path: str, arguments: tuple[str, ...]) -> None:
    import signal

    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execve(path, [path, *arguments], dict(os.environ))
    except OSError as error:
        os.write(2, f"cannot execute: {error.strerror}\n".encode())


def _compile(command: tuple[str, ...]) -> None:
    """Run the compiler and pour the binary into standard output, still inside the box: its path is never opened outside."""
    pid = os.posix_spawn(command[0], list(command), dict(os.environ))
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status != 0:
        os._exit(1)
    source = os.open(_COMPILED, os.O_RDONLY | os.O_NOFOLLOW)
    while os.sendfile(1, source, None, 1 << 30):
        pass
    os._exit(0)


def prepare_interpreter(depth: int) -> None:
    """Make this interpreter look as a program finds it, before anything is forked: a page written here is not copied in every test.

    `depth` is how many frames of ours lie below the program's; a bare run starts at depth one.
    """
    for name in [name for name in sys.modules if name.split(".", 1)[0] == "sandbox"]:
        del sys.modules[name]
    MAIN.__dict__.update({"__file__": PYTHON_PROGRAM, "__builtins__": builtins, "__cached__": None, "__annotations__": {}})
    sys.modules["__main__"] = MAIN
    sys.argv = [PYTHON_PROGRAM]
    sys.setrecursionlimit(1000 + depth)


def seed_random(seed: int) -> None:
    """Seed what the program could draw from, so that a grade repeats; in the supervisor, once: every test starts with a copy."""
    random = sys.modules.get("random")
    if random is not None:
        random.seed(seed)
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed(seed & 0xFFFFFFFF)


def frames() -> int:
    """How deep the caller's stack is."""
    depth = 0
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        depth, frame = depth + 1, frame.f_back
    return depth


def _call(code: types.CodeType, names: dict[str, object]) -> int:
    """Run the program's code as the interpreter would and return the exit code it would give."""
    try:
        exec(code, names)  # the candidate's code, in its own sandboxed process: this is what the sandbox is for
    except BaseException as error:  # noqa: BLE001 - every exception of the program ends it, as in a bare run
        return failed(error)
    return _finish(0)


def leave(status: int) -> NoReturn:
    """End this process; what the C library's streams hold is written first."""
    system.flush_streams()
    os._exit(status)


def failed(error: BaseException) -> int:
    """End a program that raised `error`; the exit code. To be called by the frame that ran the program."""
    return _finish(_report(error))


def _report(error: BaseException) -> int:
    """Say what a program raised as the interpreter would; the exit code it would give."""
    if isinstance(error, SystemExit):
        return _exit_code(error.code)
    if isinstance(error, MemoryError):
        os.write(2, b"MemoryError\n")
        return 1
    trace = error.__traceback__.tb_next if error.__traceback__ else None  # without the frame that ran the program, as in a bare run
    try:
        sys.excepthook(type(error), error.with_traceback(trace), trace)
    except BaseException:  # noqa: BLE001 - a broken hook of the program's is its own failure, as in a bare run
        return 1
    return 1


def finish() -> int:
    """End a program that raised nothing; the exit code."""
    return _finish(0)


def _exit_code(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF if -(2**63) <= code < 2**63 else 0xFF
    sys.stderr.write(f"{code}\n")
    return 1


def _finish(status: int) -> int:
    """What the interpreter does at its end, as far as it shows: join threads, call exit functions, flush, let go of the program's names.

    The last is for files that were never closed and objects with a `__del__`: what they hold back is written when they go.
    """
    try:
        threading = sys.modules.get("threading")
        if threading is not None:
            threading._shutdown()
        atexit._run_exitfuncs()
        if not _flush():
            status = status or 120  # the interpreter's own code for output that could not be written
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        names = MAIN.__dict__
        for name in [name for name in names if not name.startswith("__")]:
            names[name] = None
        _flush()
    except BaseException as error:  # noqa: BLE001 - a hook or a name of the program's; the interpreter would tell and go on
        with contextlib.suppress(BaseException):
            sys.__excepthook__(type(error), error, error.__traceback__)
            _flush()
    return status


def _flush() -> bool:
    """Flush the standard streams; whether standard output could be."""
    done = True
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except Exception:  # noqa: BLE001 - whatever the program put there
            done = done and stream is not sys.stdout
    return done
