"""Starts native programs through `launch.c`, compiled once per machine by the compiler that the programs need anyway."""

from __future__ import annotations

import ctypes
import os

from sandbox.namespaces import child, system

LIBRARY = "/runtime/launch.so"  # inside the box's root
SOURCE = os.path.join(os.path.dirname(__file__), "launch.c")
COMPILE_FLAGS = ("-O2", "-shared", "-fPIC", "-x", "c")
_LIMITS = 10


class _Plan(ctypes.Structure):
    """`struct plan` of launch.c, field by field."""

    _fields_ = (
        ("descriptors", ctypes.c_int32 * 3),
        ("ready", ctypes.c_int32),
        ("flags", ctypes.c_int64),
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
    )


def _strings(values: list[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(values) + 1))(*values, None)


def load() -> ctypes.PyDLL:
    """The compiled `launch.c`. Raises OSError where it is not shown or does not fit."""
    library = ctypes.PyDLL(LIBRARY)
    library.launch.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    return library


class Launcher:
    """Launches one program again and again."""

    def __init__(self, library: ctypes.PyDLL, command: tuple[str, ...], ready: int, flags: int, candidate_filter: system.Filter) -> None:
        self._launch = library.launch
        self._pidfd = ctypes.c_int(-1)
        environment = [os.fsencode(f"{name}={value}") for name, value in os.environ.items()]
        arguments = [text.encode("utf-8", "replace") for text in command]
        self._kept = (_strings(arguments), _strings(environment), candidate_filter)  # what the plan points to
        numbers = system.numbers()
        self._plan = _Plan(ready=ready, flags=flags, filter=candidate_filter.address, path=arguments[0])
        self._plan.arguments, self._plan.environment = self._kept[0], self._kept[1]
        self._plan.seccomp_number, self._plan.capset_number = numbers["seccomp"], numbers["capset"]

    def launch(self, request: child.Request, program: child.Program, descriptors: tuple[int, ...]) -> tuple[int, int]:
        """(pid, pidfd) of the program in its box. Raises OSError where no process can be made."""
        plan = self._plan
        plan.descriptors[:] = descriptors
        plan.tmpfs_options = child.tmpfs_options(request)
        limits = child.limits(request, program)
        plan.limits[:] = [name for name, _, _ in limits] + [-1] * (_LIMITS - len(limits))
        for index, (_, soft, hard) in enumerate(limits):
            plan.soft[index], plan.hard[index] = soft & 0xFFFFFFFFFFFFFFFF, hard & 0xFFFFFFFFFFFFFFFF
        pid = self._launch(ctypes.byref(plan), ctypes.byref(self._pidfd))
        if pid < 0:
            raise OSError(-pid, f"launch: {os.strerror(-pid)}")
        return pid, self._pidfd.value
