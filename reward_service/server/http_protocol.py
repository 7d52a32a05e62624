"""HTTP/1.1 of uvicorn with bounds on a request's head and on peers that stand still, and refusals in the form that docs/protocol.md states.

Neither uvicorn nor its parser bounds a head: a header of any length, at any pace, would be held before the application is asked. Nor does
it bound how long a peer may leave its answer unread, which would be held as long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from reward_service.server.refusals import error_body

GONE = "reward_service.gone"  # in an ASGI scope: takes what to call when the client goes away, and gives what takes that back
IS_HERE = "reward_service.is_here"  # in an ASGI scope: whether the whole body has arrived
MAX_HEAD_BYTES = 65_536  # request line and headers; those of trainers and proxies have about 1 KiB
HEAD_S = 30.0  # from a head's first byte to its last
UNREAD_S = 60.0  # that a full connection takes nothing more
SLOW_HEAD = f"the request line and headers took more than {HEAD_S:g} seconds"
NO_HTTP = "the request is no HTTP/1.1: its first line, a header, the content length or a chunk"
LONG_HEAD = f"the request line and headers have more than {MAX_HEAD_BYTES} bytes"
REASONS: Mapping[int, str] = {400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large"}


class Joined:
    """What uvicorn writes an answer to: a head that states a length goes with the body, which follows at once, in one write."""

    __slots__ = ("_begun", "_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self._begun = False  # a body may look like a head

    def write(self, data: bytes) -> None:
        """Write it, or keep it for the next."""
        if self._head:
            data, self._head = self._head + data, b""
        elif not self._begun and not data.startswith(b"HTTP/1.1 100 "):
            self._begun = True
            if b"\r\ncontent-length: " in data:
                self._head = data
                return
        self._transport.write(data)

    def close(self) -> None:
        """Write what is kept, and close."""
        if self._head:
            self.write(b"")
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether it is closing."""
        return self._transport.is_closing()


class BoundedHttp(HttpToolsProtocol):
    """One connection, from its first byte on (silent_connections.py)."""

    _head_bytes = 0  # of the head that is arriving; 0 between heads
    _in_head = True
    _refused = False
    _alarm: asyncio.TimerHandle | None = None  # of a head that does not end
    _stall: asyncio.TimerHandle | None = None  # of an answer that is not read
    _leave: Callable[[], None] | None = None  # what to call when the client goes away
    _lost = False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._stop_alarm()
        self._stop_stall()
        super().connection_lost(exc)
        self._lost = True
        if self._leave is not None:
            self._leave()
        if self.scope is not None:
            self.scope.pop(GONE, None)  # type: ignore[misc] # which leads back here: only a search for cycles would find both

    def pause_writing(self) -> None:
        """The peer takes nothing more for now."""
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(UNREAD_S, self.transport.abort)

    def resume_writing(self) -> None:
        """The peer takes more."""
        self._stop_stall()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, if no head grows too long."""
        if self._refused:
            return
        self._head_bytes += len(data) if self._in_head else 0
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431, LONG_HEAD)
        elif self._head_bytes == len(data) and self._in_head:  # the first of it
            self._stop_alarm()
            self._alarm = self.loop.call_later(HEAD_S, self._refuse, 408, SLOW_HEAD)

    def on_message_begin(self) -> None:
        """A request begins; maybe in the middle of what arrived."""
        self._in_head = True
        super().on_message_begin()
        self.scope[GONE] = self._watch  # type: ignore[literal-required]

    def on_headers_complete(self) -> None:
        """The head is whole: refuse it before the application is asked, or ask."""
        self._in_head, self._head_bytes = False, 0
        self._stop_alarm()
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self._refuse(431, LONG_HEAD)
            raise ValueError(LONG_HEAD)  # ends the parser
        super().on_headers_complete()
        if self.scope["method"] != "HEAD":  # whose answer has no body
            self.cycle.transport = Joined(self.transport)  # type: ignore[assignment]

    def on_message_complete(self) -> None:
        """The body is whole."""
        self._in_head = True
        self.scope[IS_HERE] = True  # type: ignore[literal-required]
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, unless something else was refused."""
        self._refuse(400, NO_HTTP)

    def _watch(self, leave: Callable[[], None]) -> Callable[[], None]:
        """Call `leave` when the client goes away; what is given back ends that. A task that waits for it would cost more."""
        self.flow.resume_reading()  # which stands still while a large body is taken in; nobody's leaving would be seen
        self._leave = leave
        if self._lost:
            leave()
        return self._unwatch

    def _unwatch(self) -> None:
        self._leave = None

    def _refuse(self, status: int, message: str) -> None:
        if self._refused:
            return
        self._refused = True
        content = orjson.dumps(error_body([("", message)]))
        lines = [
            f"HTTP/1.1 {status} {REASONS[status]}",
            "content-type: application/json",
            f"content-length: {len(content)}",
            "connection: close",
        ]
        self.transport.write("\r\n".join([*lines, "", ""]).encode("ascii") + content)
        self.transport.close()

    def _stop_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _stop_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
