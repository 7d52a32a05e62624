"""What took how long in one request, for whoever traces it: nobody by default, where it costs a look-up.

The names: `receive`, `read`, `grade`, `answer` (the stages), `queue` (waiting for a slot), `worker`, `sandbox` (holding one).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Protocol

Attribute = str | int | float


class Recorder(Protocol):
    """Takes in what happened in one request; times are those of `time.perf_counter`."""

    def record(self, name: str, begun_s: float, ended_s: float, attributes: Mapping[str, Attribute]) -> None:
        """Something took from one time to another."""
        ...


_RECORDER: ContextVar[Recorder | None] = ContextVar("recorder", default=None)


@contextlib.contextmanager
def recording(recorder: Recorder) -> Iterator[None]:
    """Let `recorder` be told of what this task does, and the tasks that it starts."""
    token = _RECORDER.set(recorder)
    try:
        yield
    finally:
        _RECORDER.reset(token)


def note(name: str, begun_s: float, **attributes: Attribute) -> None:
    """Tell whoever traces this request, if anybody does, of what began then and ends now."""
    recorder = _RECORDER.get()
    if recorder is not None:
        recorder.record(name, begun_s, time.perf_counter(), attributes)
