"""A cell: the supervisor of one program. It compiles the source once, then forks one child per test and reports how each ended.

Runs inside the box's root, as a fork of the zygote, in a user and network namespace of its own. It never runs the candidate's code,
never reads a test's input or output, and holds no expected value. Whatever it is told comes through one socket that its children
close before the candidate's first instruction.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import select
import signal
import sys
import time
import warnings
from _socket import socket

from sandbox.namespaces import accounting, child, imports, launch, mounts, seccomp, system
from sandbox.namespaces.wire import (
    CPU_STOP,
    DIRTY,
    IN_FILES,
    MEMORY_STOP,
    NOT_READY,
    OOM,
    ORDER_BYTES,
    ORDER_IN_FILE,
    OUTPUT_STOP,
    REPLIES_BYTES,
    REPLY,
    REQUEST,
    REQUESTS_BYTES,
    STDERR_BYTES,
    STDOUT_BYTES,
    WALL_STOP,
)

_TEST_NAMESPACES = system.CLONE_NEWPID | system.CLONE_NEWNS | system.CLONE_NEWIPC | system.CLONE_NEWUTS
_TICK_S = 0.01  # where resident memory must be watched by looking
_QUIET_TICK_S = 0.05  # where a cgroup does it
_TREE_TICK_S = 0.1
_ERROR_CHARACTERS = 4000
_SOCKETS_CLOSE_S = 0.05
_SOCKETS_BYTES = 64  # of a table whose head has 57: names that a test gave its sockets are never read, or the next test could find them
_LOAD_DESCRIPTORS = 6  # of an order, a program and four counters


class Prepared:
    """What every cell needs and the zygote makes once: an object that is made in a cell lies in pages that must be copied."""

    def __init__(self, uid: int, gid: int) -> None:
        machine = system.machine()
        kinds = [(memory, cpu) for memory in (True, False) for cpu in (True, False)]
        self.cell_filter = system.Filter(seccomp.cell_filter(machine))
        self.filters = {kind: system.Filter(seccomp.candidate_filter(machine, memory=kind[0], cpu=kind[1])) for kind in kinds}
        self.speed = accounting.Speed()
        self.loop = launch.Loop() if os.path.exists(launch.LIBRARY) else None
        self.cloner = system.Cloner()
        self.program = child.Program(child.KIND_PYTHON)
        self.accounts = accounting.Accounts(())
        self.message = system.Memory(max(ORDER_BYTES, REQUESTS_BYTES))
        self.reply = system.Memory(REPLIES_BYTES)
        self.files = (
            ("/proc/self/setgroups", b"deny"),
            ("/proc/self/uid_map", b"1000 %d 1" % uid),
            ("/proc/self/gid_map", b"1000 %d 1" % gid),
        )

    def settle(self) -> None:
        """What is left to do once all modules are there; called by the frame that forks cells."""
        # below a program lie that frame's and those of start and serve, then run, _call and exec, or _compiled_turn, serve and the call
        child.prepare_interpreter(child.frames() - 1 + 2 + 3)
        system.prctl(system.PR_SET_NO_NEW_PRIVS, 1)
        core = 0 if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0 else 1
        # with 0 a core_pattern that is a pipe would still be fed; nobody can change it behind the filter
        resource.setrlimit(resource.RLIMIT_CORE, (core, core))
        self.cell_filter.install()


class Cell:
    """One program's supervisor."""

    def __init__(self, control: socket, prepared: Prepared) -> None:
        self._control = control
        self._prepared = prepared
        self._cloner = prepared.cloner
        self._filter = prepared.filters[True, True]
        self._ready = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._program = prepared.program
        self._accounts = prepared.accounts
        self._unix_sockets = os.open("/proc/self/net/unix", os.O_RDONLY | os.O_CLOEXEC)
        self._loop: launch.Loop | None = None
        self._message, self._reply = prepared.message.view, prepared.reply.view
        prepared.message.keep()
        prepared.reply.keep()

    def serve(self) -> None:
        """Load one program, then run tests until the socket closes. A test's own process comes back here, too, and runs the program."""
        self._control.send(b"hello")
        message, descriptors = system.receive(self._control, self._message, _LOAD_DESCRIPTORS)
        if not message:
            return
        order = bytes(message)
        if order == ORDER_IN_FILE:
            with open(descriptors.pop(0), "rb") as file:
                order = file.read()
        error = self._load(json.loads(order), descriptors)
        self._control.send(json.dumps({"error": error}).encode())
        if error is not None:
            return
        outcome = launch.RUNNING
        while outcome == launch.RUNNING:
            outcome = self._turn() if self._loop is None else self._compiled_turn(self._loop)
        if outcome == launch.CHILD:
            child.run(self._program)

    def _turn(self) -> int:
        """The tests of a message; CHILD in the process of one of them, CLOSED at the end, else RUNNING: there is more to do."""
        message, descriptors = system.receive(self._control, self._message, 4)
        if not message:
            return launch.CLOSED
        if descriptors:
            return self._test(_request(message), descriptors)
        outcome = launch.RUNNING
        while message and outcome == launch.RUNNING:
            request = _request(message)
            end = REQUEST.size + request.input_bytes
            outcome = self._test(request, _open_files(message[REQUEST.size : end]))
            message = message[end:]
        return outcome

    def _compiled_turn(self, loop: launch.Loop) -> int:
        """Tests until one needs more than the compiled loop can do, and that one."""
        outcome = loop.serve()
        while outcome == launch.UNUSUAL:
            request = _request(loop.request())
            if request.files:
                return self._test(request, loop.descriptors())
            loop.agree(request, self._program)
            outcome = loop.serve(pending=True)
        if outcome == launch.RUNNING:
            self._finish(_request(loop.request()), loop.descriptors(), *loop.started())
        return outcome

    # ---- loading -----------------------------------------------------------------------------------------------------

    def _load(self, order: dict[str, object], descriptors: list[int]) -> str | None:
        """Make the program ready; the error's text where it cannot be (the program's fault)."""
        self._accounts = accounts = accounting.Accounts(tuple(descriptors[1:]))
        self._filter = self._prepared.filters[accounts.memory, accounts.cpu]
        kind = str(order["kind"])
        arguments: tuple[str, ...] = tuple(order["arguments"])  # type: ignore[arg-type]
        command: tuple[str, ...] = tuple(order["command"])  # type: ignore[arg-type]
        self._program = child.Program(kind, command=command, arguments=arguments, data_bytes=int(order["data_bytes"]))  # type: ignore[call-overload]
        source_bytes = int(order["source_bytes"])  # type: ignore[call-overload]
        mounts.mount_program_folder(os.fstat(descriptors[0]).st_size)
        names = [name for name, _ in order["files"]]  # type: ignore[attr-defined]
        at = 0
        for name, size in [(order["file"], source_bytes), *order["files"]]:  # type: ignore[misc]
            _place_program(f"{mounts.PROGRAM_FOLDER}/{name}", descriptors[0], at, size)
            at += size
        mounts.seal_program_folder()
        source = os.pread(descriptors[0], source_bytes, 0) if kind == child.KIND_PYTHON else b""
        os.close(descriptors[0])
        error = self._compile_python(source, int(order["seed"]), names) if kind == child.KIND_PYTHON else None  # type: ignore[call-overload]
        accounts.set_base(forked=kind == child.KIND_PYTHON)
        loop = self._prepared.loop
        if loop is not None and error is None:
            loop.attach(
                self._control.fileno(),
                self._ready,
                self._unix_sockets,
                accounts,
                self._cloner,
                (self._prepared.message, self._prepared.reply),
            )
            loop.set_program(self._program, _TEST_NAMESPACES, self._filter, _QUIET_TICK_S if accounts.memory else _TICK_S)
            self._loop = loop
        return error

    def _compile_python(self, source: bytes, seed: int, files: list[str]) -> str | None:
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if not self._accounts.memory:
            resource.setrlimit(resource.RLIMIT_DATA, (self._program.data_bytes, hard))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._program.code = compile(source, child.PYTHON_PROGRAM, "exec", dont_inherit=True)
        except SyntaxError as error:
            return f"{type(error).__name__}: {str(error.msg)[:_ERROR_CHARACTERS]} (line {error.lineno})"
        except (ValueError, MemoryError, RecursionError, OverflowError, UnicodeError) as error:
            return f"{type(error).__name__}: {str(error)[:_ERROR_CHARACTERS]}"
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
        imports.import_named(source, apart_from=files)
        if "numpy" in sys.modules and b"random" in source:
            __import__("numpy.random")  # it is loaded when first used, which would be in every test
        sys.argv += self._program.arguments
        sys.path.insert(0, mounts.PROGRAM_FOLDER)  # not before: files that came with the program would run here, in the supervisor
        child.seed_random(seed)
        return None

    # ---- running -----------------------------------------------------------------------------------------------------

    def _test(self, request: child.Request, descriptors: list[int]) -> int:
        self._accounts.begin()
        started = time.monotonic()
        pid, pidfd = self._cloner.clone(_TEST_NAMESPACES)
        if pid == 0:
            self._become_box(request, tuple(descriptors))
            return launch.CHILD
        self._finish(request, descriptors, pid, pidfd, started)
        return launch.RUNNING

    def _become_box(self, request: child.Request, descriptors: tuple[int, ...]) -> None:
        try:
            child.enter(request, self._program, descriptors, self._ready, self._filter)
        except OSError as error:
            os.write(2, f"box: {error}\n".encode())
            os._exit(126)

    def _finish(self, request: child.Request, descriptors: list[int], pid: int, pidfd: int, started: float) -> None:
        """Wait for the end of a test or bring it about, and reply."""
        flags, watched_peak, waited_s, slowdown = self._watch(request, pid, pidfd, descriptors[1], started)
        _, status, usage = os.wait4(pid, 0)
        wall_s = time.monotonic() - started
        peak, killed = self._accounts.used_memory(request.memory_bytes)
        if killed:
            flags |= OOM
        if not self._accounts.memory:
            peak = max(watched_peak, self._accounts.resident_peak(usage.ru_maxrss << 10))
        if not self._was_ready():
            flags |= NOT_READY
        if not self._is_clean():
            flags |= DIRTY
        cpu_s = self._accounts.used_cpu_s(usage.ru_utime + usage.ru_stime)
        self._answer(request, descriptors, (request.index, flags, status, cpu_s, wall_s, waited_s, slowdown, peak))
        for descriptor in (pidfd, *descriptors):
            os.close(descriptor)

    def _answer(self, request: child.Request, descriptors: list[int], fields: tuple[float, ...]) -> None:
        """Send a reply, with the output of a test whose input came in its request."""
        if request.input_bytes == IN_FILES:
            self._control.send(REPLY.pack(*fields, IN_FILES, IN_FILES))
            return
        sizes = [os.fstat(descriptor).st_size for descriptor in descriptors[1:3]]
        if sizes[0] > STDOUT_BYTES or sizes[1] > STDERR_BYTES:
            system.send(self._control, REPLY.pack(*fields, IN_FILES, IN_FILES), descriptors[1:3])
            return
        REPLY.pack_into(self._reply, 0, *fields, *sizes)
        end = REPLY.size
        for descriptor, size in zip(descriptors[1:3], sizes, strict=True):
            end += os.preadv(descriptor, [self._reply[end : end + size]], 0)
        self._control.send(self._reply[:end])

    def _is_clean(self) -> bool:
        """Whether no socket of the test is left in the cell's network namespace: one in flight outlives its processes for a moment."""
        give_up = 0.0
        while len(os.pread(self._unix_sockets, _SOCKETS_BYTES, 0)) == _SOCKETS_BYTES:
            now = time.monotonic()
            give_up = give_up or now + _SOCKETS_CLOSE_S
            if now > give_up:
                return False
            time.sleep(0.001)
        return True

    def _was_ready(self) -> bool:
        try:
            return os.eventfd_read(self._ready) > 0
        except BlockingIOError:
            return False

    def _watch(self, request: child.Request, pid: int, pidfd: int, output: int, started: float) -> tuple[int, int, float, float]:
        """Wait for the end or bring it about.

        Returns (flags, peak resident bytes as far as looked at, seconds without a core at a stop, slowdown of the machine).
        """
        speed = self._prepared.speed.begin()
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        poller.register(self._control, 0)  # hang-up only: nobody is left to report to
        clock = (~pid << 3) | 2
        flags, peak, waited_s, next_look = 0, 0, 0.0, started + _TREE_TICK_S
        tick_s = _QUIET_TICK_S if self._accounts.memory else _TICK_S
        wait_s = min(request.cpu_s, tick_s)
        while True:
            for descriptor, _ in poller.poll(max(1, int(wait_s * 1000))):
                if descriptor != pidfd:
                    os._exit(0)
                return flags, peak, waited_s, speed.slowdown
            now = time.monotonic()
            try:
                cpu_s = time.clock_gettime(clock)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                continue  # it ended in this moment
            tree_bytes = 0
            due = now >= next_look
            if due:
                next_look = now + _TREE_TICK_S
                speed.look()
            if due or not self._accounts.memory:
                if self._accounts.memory and self._accounts.cpu:
                    cpu_s = self._accounts.used_cpu_s(cpu_s)
                else:
                    tree_cpu_s, tree_bytes = accounting.tree()
                    tree_bytes -= self._accounts.state.start_bytes
                    cpu_s = max(cpu_s, tree_cpu_s)
            peak = max(peak, tree_bytes)
            limit_s = request.cpu_s * speed.slowdown
            flags |= self._verdict(request, cpu_s >= limit_s, now - started, tree_bytes, output)
            if flags:
                waited_s = accounting.waited_s() if flags & WALL_STOP else 0.0
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                wait_s = 60.0
            else:
                wait_s = min(tick_s, limit_s - cpu_s)

    def _verdict(self, request: child.Request, cpu_used_up: bool, wall_s: float, tree_bytes: int, output: int) -> int:
        if os.fstat(output).st_size > request.output_bytes:
            return OUTPUT_STOP
        if cpu_used_up:
            return CPU_STOP
        if wall_s >= request.wall_s:
            return WALL_STOP
        if not self._accounts.memory and tree_bytes > request.memory_bytes:
            return MEMORY_STOP
        return 0


def _request(message: memoryview) -> child.Request:
    request = child.Request(*REQUEST.unpack_from(message))
    if request.input_bytes == IN_FILES and len(message) > REQUEST.size:
        request.files = tuple((name, size) for name, size in json.loads(bytes(message[REQUEST.size :])))
    return request


def _open_files(data: memoryview) -> list[int]:
    """Anonymous files for a test whose input came in its request."""
    descriptors = [os.memfd_create("data", os.MFD_CLOEXEC) for _ in range(3)]
    os.write(descriptors[0], data)
    os.lseek(descriptors[0], 0, os.SEEK_SET)
    return descriptors


def _place_program(path: str, source: int, at: int, size: int) -> None:
    target = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o555)
    system.pour(source, at, size, target)
    os.close(target)


def start(control: socket, doors: list[int], prepared: Prepared) -> None:
    """Turn a fresh clone of the zygote into a cell and serve; never returns. `doors` lead into its cgroups."""
    try:
        for door in doors:
            os.write(door, b"0")
            os.close(door)
        os.setsid()
        system.prctl(system.PR_SET_PDEATHSIG, signal.SIGKILL)
        for path, text in prepared.files:
            _write(path, text)
        mounts.mount_proc()
        _write("/proc/sys/user/max_user_namespaces", b"0")  # nobody in here makes another user namespace, whatever the filter says
        Cell(control, prepared).serve()
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)
    except Exception as error:  # noqa: BLE001 - the process border: the zygote's owner must learn why
        os.write(2, f"cell: {type(error).__name__}: {error}\n".encode())
        os._exit(70)
    os._exit(0)


def _write(path: str, text: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY)  # `open` would make three objects, in pages that must be copied
    os.write(descriptor, text)
    os.close(descriptor)
