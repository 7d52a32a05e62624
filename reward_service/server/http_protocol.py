"""HTTP/1.1 of uvicorn with a bound on a request's head, and refusals of the protocol in the one form that docs/protocol.md states.

Neither uvicorn nor its parser bounds a head: a header of any length would be held before the application is asked.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from reward_service.server.refusals import error_body

MAX_HEAD_BYTES = 65_536  # request line and headers; those of trainers and proxies have about 1 KiB
NO_HTTP = "the request is no HTTP/1.1: its first line, a header, the content length or a chunk"
LONG_HEAD = f"the request line and headers have more than {MAX_HEAD_BYTES} bytes"
REASONS: Mapping[int, str] = {400: "Bad Request", 431: "Request Header Fields Too Large"}


class BoundedHttp(HttpToolsProtocol):
    """One connection."""

    _head_bytes = 0  # of the head that is arriving; 0 between heads
    _in_head = True
    _refused = False

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, if no head grows too long."""
        if self._refused:
            return
        self._head_bytes += len(data) if self._in_head else 0
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431, LONG_HEAD)

    def on_message_begin(self) -> None:
        """A request begins; maybe in the middle of what arrived."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is whole: refuse it before the application is asked, or ask."""
        self._in_head, self._head_bytes = False, 0
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self._refuse(431, LONG_HEAD)
            raise ValueError(LONG_HEAD)  # ends the parser
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is whole."""
        self._in_head = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, unless something else was refused."""
        self._refuse(400, NO_HTTP)

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
