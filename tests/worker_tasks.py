"""Functions that the tests of the worker pool run in workers."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import time

from reward_service.records import Completion, LanguageFinding


def double(number: int) -> int:
    return 2 * number


def echo(text: str) -> str:
    return text


def lone_surrogate() -> str:
    return "a\ud800b"


def spin(seconds: float) -> int:
    """Burn CPU time."""
    end_s = time.process_time() + seconds
    while time.process_time() < end_s:
        pass
    return 1


def sleep(seconds: float) -> int:
    """Let wall time pass without using the CPU."""
    time.sleep(seconds)
    return 1


def hoard(size: int) -> int:
    return len(b"x" * size)


_leaked: list[bytes] = []


def leak(size: int) -> int:
    _leaked.append(b"x" * size)
    return size


def crash() -> int:
    return len(ctypes.string_at(0))


def fail() -> int:
    raise KeyError("secret text of a completion")


def recurse() -> int:
    return recurse() + 1


def leave() -> int:
    os._exit(0)


def quit_politely() -> int:
    raise SystemExit(3)


def kill_self() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 1


def terminate_self() -> int:
    os.kill(os.getpid(), signal.SIGTERM)
    return 1


def pid() -> int:
    return os.getpid()


def draw() -> float:
    return random.random()


def text_hash() -> int:
    return hash("a text")


def environment() -> list[str]:
    return sorted(os.environ)


def wrong_type() -> int:
    return "not a number"  # type: ignore[return-value]


def not_data() -> object:
    return object()


def swap(completion: Completion) -> Completion:
    return Completion(completion.answer, completion.thinking, completion.violation)


def finding() -> LanguageFinding:
    return LanguageFinding(True, {"spans": [{"text": "a", "language": None}]})
