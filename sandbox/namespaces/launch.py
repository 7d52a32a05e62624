"""The supervisor's inner loop in C: lays out what `launch.c` reads, compiled once per machine by the compiler that programs need anyway."""

from __future__ import annotations

import ctypes
import os

from sandbox.namespaces import accounting, child, system
from sandbox.namespaces.wire import REQUEST

LIBRARY = "/runtime/launch.so"  # inside the box's root
SOURCE = os.path.join(os.path.dirname(__file__), "launch.c")
COMPILE_FLAGS = ("-O2", "-shared", "-fPIC", "-x", "c")
CHILD, CLOSED, UNUSUAL, RUNNING = range(4)  # `enum outcome` of launch.c
_LIMITS, _DESCRIPTORS = 10, 4


class _Plan(ctypes.Structure):
    """`struct plan` of launch.c, field by field."""

    _fields_ = (
        ("control", ctypes.c_int32),
        ("ready", ctypes.c_int32),
        ("unix_sockets", ctypes.c_int32),
        ("execute", ctypes.c_int32),
        ("flags", ctypes.c_int64),
        ("thread_id", ctypes.c_void_p),
        ("tmpfs_options", ctypes.c_char_p),
        ("filter", ctypes.c_void_p),
        ("limits", ctypes.c_int32 * _LIMITS),
        ("soft", ctypes.c_uint64 * _LIMITS),
        ("hard", ctypes.c_uint64 * _LIMITS),
        ("path", ctypes.c_char_p),
        ("arguments", ctypes.POINTER(ctypes.c_char_p)),
        ("environment", ctypes.POINTER(ctypes.c_char_p)),
        ("seccomp_number", ctypes.c_int32),
        ("capset_number", ctypes.c_int32),
        ("evaluate", ctypes.c_void_p),
        ("call", ctypes.c_void_p),
        ("as_long", ctypes.c_void_p),
        ("enable_collector", ctypes.c_void_p),
        ("code", ctypes.py_object),
        ("names", ctypes.py_object),
        ("finish", ctypes.py_object),
        ("tick_s", ctypes.c_double),
        ("accounts", ctypes.POINTER(accounting.State)),
        ("terms", ctypes.c_char * REQUEST.size),
        ("length", ctypes.c_int32),
        ("current", ctypes.c_int32),
        ("next", ctypes.c_int32),
        ("held", ctypes.c_int32),
        ("held_since_ns", ctypes.c_int64),
        ("count", ctypes.c_int32),
        ("descriptors", ctypes.c_int32 * _DESCRIPTORS),
        ("pid", ctypes.c_int32),
        ("pidfd", ctypes.c_int32),
        ("started_ns", ctypes.c_int64),
        ("message", ctypes.c_void_p),
        ("answer", ctypes.c_void_p),
    )


def _strings(values: list[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(values) + 1))(*values, None)


def _function(name: str) -> int | None:
    """The address of one of the interpreter's own functions."""
    return ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value


class Loop:
    """Serves the requests of one cell until one needs more than C can do.

    Made in the zygote, so that a cell has nothing left to do but to fill in what is its own.

    Raises:
        OSError: the compiled `launch.c` is not shown in the box, or does not fit.
    """

    def __init__(self) -> None:
        library = ctypes.PyDLL(LIBRARY)
        self._serve = library.serve
        self._serve.argtypes = (ctypes.c_void_p, ctypes.c_int)
        numbers = system.numbers()
        self._plan = plan = _Plan(seccomp_number=numbers["seccomp"], capset_number=numbers["capset"])
        self._environment = _strings([os.fsencode(f"{name}={value}") for name, value in os.environ.items()])
        plan.environment = self._environment
        plan.limits[:] = [-1] * _LIMITS
        plan.evaluate, plan.call = _function("PyEval_EvalCode"), _function("PyObject_CallNoArgs")
        plan.as_long, plan.enable_collector = _function("PyLong_AsLong"), _function("PyGC_Enable")
        self._kept: tuple[object, ...] = ()  # what the plan points to
        self._address = ctypes.byref(plan)

    def attach(
        self,
        control: int,
        ready: int,
        unix_sockets: int,
        accounts: accounting.Accounts,
        cloner: system.Cloner,
        buffers: tuple[system.Memory, system.Memory],
    ) -> None:
        """Take a cell's descriptors, accounts and buffers for what comes and goes."""
        plan = self._plan
        self._message = buffers[0].view
        plan.message, plan.answer = buffers[0].address, buffers[1].address
        plan.control, plan.ready, plan.unix_sockets, plan.thread_id = control, ready, unix_sockets, cloner.thread_id or None
        plan.accounts = ctypes.pointer(accounts.state)
        self._kept = (accounts,)

    def set_program(self, program: child.Program, flags: int, candidate_filter: system.Filter, tick_s: float) -> None:
        """What every test of this cell runs, in which namespaces, behind which filter."""
        plan = self._plan
        plan.execute, plan.flags, plan.filter, plan.tick_s = program.kind == child.KIND_NATIVE, flags, candidate_filter.address, tick_s
        self._kept = (*self._kept, candidate_filter)
        if program.kind == child.KIND_NATIVE:
            arguments = [text.encode("utf-8", "replace") for text in (child.NATIVE_PROGRAM, *program.arguments)]
            strings = _strings(arguments)
            plan.path, plan.arguments = arguments[0], strings
            self._kept = (*self._kept, strings)
        elif program.code is not None:
            plan.code, plan.names, plan.finish = program.code, child.MAIN.__dict__, child.finish

    def serve(self, pending: bool = False) -> int:
        """Serve until one of the outcomes above; `pending`: run the request that was taken last. Raises OSError."""
        try:
            outcome: int = self._serve(self._address, pending)
        except BaseException as error:  # noqa: BLE001 - only in a test's own process, where the program raised it
            child.leave(child.failed(error))
        if outcome < 0:
            raise OSError(-outcome, f"launch: {os.strerror(-outcome)}")
        return outcome

    def request(self) -> memoryview:
        """The request that was taken last, and what follows it in its message."""
        return self._message[self._plan.current : self._plan.length]

    def descriptors(self) -> list[int]:
        """Of the request that was taken last."""
        return list(self._plan.descriptors[: self._plan.count])

    def started(self) -> tuple[int, int, float]:
        """(pid, pidfd, when on the monotonic clock) of the test that is running."""
        return self._plan.pid, self._plan.pidfd, self._plan.started_ns / 1e9

    def agree(self, request: child.Request, program: child.Program) -> None:
        """Take this request's limits for what tests usually have."""
        plan = self._plan
        plan.tmpfs_options = child.tmpfs_options(request)
        limits = child.limits(request, program)
        plan.limits[:] = [name for name, _, _ in limits] + [-1] * (_LIMITS - len(limits))
        for index, (_, soft, hard) in enumerate(limits):
            plan.soft[index], plan.hard[index] = soft & 0xFFFFFFFFFFFFFFFF, hard & 0xFFFFFFFFFFFFFFFF
        ctypes.memmove(ctypes.addressof(plan) + _Plan.terms.offset, plan.message + plan.current, REQUEST.size)
