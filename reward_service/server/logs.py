"""Log lines: one JSON object each on standard error. Ours are written as they are made, the HTTP server's come through `logging`."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import BinaryIO

import orjson
import structlog

IN_REQUEST: ContextVar[str] = ContextVar("request", default="")  # the id of the request that a line is written for
BEHIND_S = 0.05  # that lines below `warning` may be written late: a write for each costs more than grading a short answer
NOTES = "reward_service.notes"  # of an ASGI scope: what the request's log line says besides its status


class Lines:
    """Writes lines to a file: those of a running event loop that can wait together, BEHIND_S after the first; the others at once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._waiting: deque[bytes] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._lock = threading.Lock()

    def info(self, line: bytes) -> None:
        """Write a line soon."""
        self._waiting.append(line)
        if self._timer is not None and not self._timer.cancelled():
            return
        try:
            self._timer = asyncio.get_running_loop().call_later(BEHIND_S, self.flush)
        except RuntimeError:  # no event loop, as in a thread
            self.flush()

    def error(self, line: bytes) -> None:
        """Write a line now, after those that wait."""
        self._waiting.append(line)
        self.flush()

    debug = msg = info
    warning = critical = error

    def flush(self) -> None:
        """Write what waits. Where nobody reads the log any more, the lines are lost and the service goes on."""
        self._timer = None
        with self._lock:
            lines = [self._waiting.popleft() for _ in range(len(self._waiting))]
            if lines:
                with contextlib.suppress(OSError):
                    self._file.write(b"\n".join([*lines, b""]))
                    self._file.flush()


def configure_logs(level: str) -> None:
    """Write log lines of `level` and above; whoever calls this owns the process."""
    lines = Lines(sys.stderr.buffer)
    atexit.register(lines.flush)
    shared: list[structlog.typing.Processor] = [
        _name_request,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_encode)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def _encode(event: object, default: Callable[[object], object] | None = None, **_: object) -> bytes:
    return orjson.dumps(event, default=default or repr)


def _name_request(_: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    request = IN_REQUEST.get()
    if request:
        event.setdefault("request", request)
    return event
