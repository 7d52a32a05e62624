"""What runs inside a worker process: read a call from a socket, run it within limits, write its result; and the frames of both sides.

Started by `workers.WorkerPool` as `python -m reward_service.worker_main FD`. A frame is a 4-byte big-endian length and that many
bytes of MessagePack. Nothing is ever pickled, and only functions of the allowed packages can be named. The process ends when its
socket is closed, and is killed by the kernel when its parent dies.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import gc
import importlib
import inspect
import os
import random
import resource
import signal
import socket
import struct
import sys
import time
import typing
from collections.abc import Callable
from typing import Any

import msgspec

MAX_FRAME_BYTES = 268_435_456
_HEADER = struct.Struct(">I")
_DEATH_SIGNAL = 1  # prctl(PR_SET_PDEATHSIG)
_BACKSTOP_S = 5  # RLIMIT_CPU lies this far above an item's limit: it matters only when the parent is stuck
# A grader's stop must not look like a candidate's crash, so signals that come from outside do nothing here.
_OUTSIDE_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT)


class Setup(msgspec.Struct, array_like=True):
    """First frame to a worker: what it may use, when it retires, what it may run, what it imports before it is ready."""

    parent: int
    memory_bytes: int
    retire_items: int
    retire_bytes: int
    prefixes: tuple[str, ...]
    preload: tuple[str, ...]


class Call(msgspec.Struct, array_like=True):
    """One item: the function as `module:qualname`, and its arguments as MessagePack."""

    item: int
    function: str
    cpu_s: float
    args: msgspec.Raw


class Reply(msgspec.Struct, array_like=True):
    """How an item ended. `status` is one of `ready ok memory exception refused`; `body` the result, or a message, as MessagePack."""

    item: int
    status: str
    cpu_s: float
    retire: bool
    body: msgspec.Raw


def frame(message: msgspec.Struct) -> bytes:
    """A message with its length before it."""
    body = msgspec.msgpack.encode(message)
    return _HEADER.pack(len(body)) + body


def split_frame(data: bytearray) -> bytes | None:
    """Take one whole frame off the front of `data`, or None if it is not complete.

    Raises:
        ValueError: ours: a length beyond `MAX_FRAME_BYTES`.
    """
    if len(data) < _HEADER.size:
        return None
    (length,) = _HEADER.unpack_from(data)
    if length > MAX_FRAME_BYTES:
        raise ValueError("frame too long")
    end = _HEADER.size + length
    if len(data) < end:
        return None
    body = bytes(data[_HEADER.size : end])
    del data[:end]
    return body


def encode(value: object) -> msgspec.Raw:
    """The value as MessagePack; lone surrogates, which UTF-8 cannot carry, become U+FFFD."""
    try:
        return msgspec.Raw(msgspec.msgpack.encode(value))
    except UnicodeEncodeError:
        return msgspec.Raw(msgspec.msgpack.encode(_without_surrogates(msgspec.to_builtins(value))))


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(item) for item in value]
    return value


@functools.lru_cache(maxsize=256)
def decoder(kind: Any) -> Callable[[bytes | msgspec.Raw], Any]:
    """A function that decodes MessagePack into `kind`."""
    try:
        return msgspec.msgpack.Decoder(kind).decode
    except TypeError:
        if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
            raise
    # A dataclass with a field of the recursive alias `Json`, which msgspec cannot resolve: that field stays plain data.
    hints = typing.get_type_hints(kind)
    readers = {field.name: _field_reader(hints[field.name]) for field in dataclasses.fields(kind)}

    def decode(data: bytes | msgspec.Raw) -> Any:
        plain = msgspec.msgpack.decode(data, type=dict[str, Any])
        return kind(**{name: readers[name](value) for name, value in plain.items()})

    return decode


def _field_reader(hint: Any) -> Callable[[Any], Any]:
    try:
        msgspec.msgpack.Decoder(hint)
    except TypeError:
        return lambda value: value
    return functools.partial(msgspec.convert, type=hint)


def name_of(function: Callable[..., object]) -> str:
    """What `resolve` is given. Raises TypeError where it could not be found again."""
    name = f"{function.__module__}:{function.__qualname__}"
    if "." in function.__qualname__:
        raise TypeError(f"{name} is not a module-level function")
    return name


@functools.lru_cache(maxsize=256)
def resolve(name: str, prefixes: tuple[str, ...]) -> tuple[Callable[..., object], tuple[Callable[[msgspec.Raw], Any], ...]]:
    """The function, and a decoder for each of its parameters, read from its annotations.

    Raises:
        LookupError: ours: the name is not that of a function in an allowed package.
    """
    module_name, _, qualname = name.partition(":")
    if not any(module_name == prefix or module_name.startswith(prefix + ".") for prefix in prefixes):
        raise LookupError("module not allowed")
    function = getattr(importlib.import_module(module_name), qualname, None)
    if not callable(function) or getattr(function, "__module__", None) != module_name:
        raise LookupError("no such function")
    hints = typing.get_type_hints(function)
    return function, tuple(decoder(hints.get(parameter, Any)) for parameter in inspect.signature(function).parameters)


def main() -> None:
    """Serve calls from the socket whose descriptor is the only argument, until it is closed."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    data = bytearray()
    setup = msgspec.msgpack.decode(_receive(channel, data), type=Setup)
    _leave_with(setup.parent)
    for number in _OUTSIDE_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    try:
        for name in setup.preload:
            importlib.import_module(name)
    except ImportError as error:
        channel.sendall(frame(Reply(0, "refused", 0.0, True, encode(f"{type(error).__name__}: {error}"))))
        return
    _limit(setup.memory_bytes)
    gc.collect()
    gc.freeze()
    channel.sendall(frame(Reply(0, "ready", 0.0, False, encode(None))))
    _serve(channel, data, setup)


def _serve(channel: socket.socket, data: bytearray, setup: Setup) -> None:
    calls = msgspec.msgpack.Decoder(Call)
    # Not ru_maxrss: across fork and exec it carries the parent's peak.
    statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    held = _resident_bytes(statm)
    served = 0
    while True:
        call = calls.decode(_receive(channel, data))
        status, body, cpu_s = _run(call, setup.prefixes)
        served += 1
        growth = _resident_bytes(statm) - held
        retire = status == "memory" or served >= setup.retire_items or growth > setup.retire_bytes
        channel.sendall(frame(Reply(call.item, status, cpu_s, retire, body)))


def _resident_bytes(statm: int) -> int:
    return int(os.pread(statm, 128, 0).split()[1]) * resource.getpagesize()


def _run(call: Call, prefixes: tuple[str, ...]) -> tuple[str, msgspec.Raw, float]:
    start_s = time.process_time()
    try:
        function, readers = resolve(call.function, prefixes)
        parts = msgspec.msgpack.decode(call.args, type=list[msgspec.Raw])
        args = [read(part) for read, part in zip(readers, parts, strict=False)]
    except (LookupError, ImportError, TypeError, msgspec.ValidationError) as error:
        return "refused", encode(f"{call.function}: {type(error).__name__}"), 0.0
    seed()
    limit_s = int(start_s + call.cpu_s) + _BACKSTOP_S
    resource.setrlimit(resource.RLIMIT_CPU, (limit_s, resource.RLIM_INFINITY))
    # The border of the process: whatever the item raises must become data here, SystemExit included, or the worker would die.
    try:
        result = function(*args)
    except MemoryError:
        return "memory", encode(None), time.process_time() - start_s
    except BaseException as error:  # noqa: BLE001
        return "exception", encode(type(error).__name__), time.process_time() - start_s
    cpu_s = time.process_time() - start_s
    try:
        return "ok", encode(result), cpu_s
    except (TypeError, ValueError, RecursionError) as error:
        return "refused", encode(f"{call.function}: result is not data ({type(error).__name__})"), cpu_s


def seed() -> None:
    """Make whatever draws random numbers repeat for each item, whatever ran before it."""
    random.seed(0)
    sympy_random = sys.modules.get("sympy.core.random")
    if sympy_random is not None:
        sympy_random.seed(0)


def _receive(channel: socket.socket, data: bytearray) -> bytes:
    while (body := split_frame(data)) is None:
        chunk = channel.recv(262_144)
        if not chunk:
            raise SystemExit(0)  # the parent closed its end
        data += chunk
    return body


def _leave_with(parent: int) -> None:
    """Be killed when the parent dies; it may have died before this took effect."""
    ctypes.CDLL(None, use_errno=True).prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(0)


def _limit(memory_bytes: int) -> None:
    """Let items have `memory_bytes` of private memory beyond what the warm interpreter holds."""
    with open("/proc/self/status", encoding="ascii") as status:
        held = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData:"))
    resource.setrlimit(resource.RLIMIT_DATA, (held + memory_bytes, held + memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


if __name__ == "__main__":
    main()
