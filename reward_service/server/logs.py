"""Log lines: one JSON object each on standard error. Ours are written as they are made, the HTTP server's come through `logging`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

import orjson
import structlog

NOTES = "reward_service.notes"  # of an ASGI scope: what the request's log line says besides its status


def configure_logs(level: str) -> None:
    """Write log lines of `level` and above; whoever calls this owns the process."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_encode)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
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
