"""A real HTTP server on loopback that answers by a script, well or badly."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Reply:
    """One scripted answer; `cut` sends only so many bytes of the body that was announced, `drop` none at all."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    chunked: bool = False
    cut: int | None = None
    drop: bool = False
    delay_s: float = 0.0


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    port: int


class Service:
    """Answers from `replies` in order (the last one again and again) and keeps what it was asked."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.seen: list[Seen] = []
        self.url = ""
        self.lock = threading.Lock()

    def next_reply(self, seen: Seen) -> Reply:
        with self.lock:
            self.seen.append(seen)
            return self.replies[0] if len(self.replies) == 1 else self.replies.pop(0)


def _handler_of(service: Service) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5

        def do_GET(self) -> None:
            self.do_POST()

        def do_PUT(self) -> None:
            self.do_POST()

        def do_HEAD(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            reply = service.next_reply(Seen(self.command, self.path, dict(self.headers), body, self.client_address[1]))
            time.sleep(reply.delay_s)
            if reply.drop:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header(*(("Transfer-Encoding", "chunked") if reply.chunked else ("Content-Length", str(len(reply.body)))))
            self.end_headers()
            if self.command == "HEAD":
                return
            sent = reply.body[: reply.cut]
            if reply.chunked:
                for start in range(0, len(sent), 7):
                    piece = sent[start : start + 7]
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                if reply.cut is None:
                    self.wfile.write(b"0\r\n\r\n")
            else:
                self.wfile.write(sent)
            self.close_connection = self.close_connection or reply.cut is not None

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextlib.contextmanager
def scripted_service() -> Iterator[Service]:
    """A service on a free port; fill its `replies` before calling it."""
    service = Service()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(service))
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
