"""Kept HTTP connections under a deadline: what `client.py` sends its requests over. Standard library only, Python 3.9 or newer."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import math
import os
import random
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator

CHUNK_BYTES = 1 << 18
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 20.0


class Answer:
    """A response being read; its connection is kept only when it was read to its end."""

    def __init__(self, pool: Pool, connection: http.client.HTTPConnection, deadline: float) -> None:
        self._pool, self._connection, self._deadline = pool, connection, deadline
        self._socket = connection.sock  # http.client forgets it where the other side will close the connection
        self._response = connection.getresponse()
        self._whole = False
        self.status = self._response.status
        self.retry_after = self._response.getheader("Retry-After")
        self.text = b""

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()
        if self._whole:
            self._pool.give_back(self._connection)
        else:
            self._connection.close()

    def read(self) -> None:
        """Read everything into `text`, and close."""
        with self:
            self.text = b"".join(self.chunks())

    def chunks(self, silence_s: float = math.inf) -> Iterator[bytes]:
        """The body as it arrives.

        Raises:
            TimeoutError: nothing came for `silence_s` seconds, or the deadline passed.
            http.client.IncompleteRead: the body ended too early.
        """
        while not self._response.isclosed():  # Python 3.13 closes it, and the socket, with the last byte of the body
            self._socket.settimeout(min(silence_s, left_s(self._deadline)))
            chunk = self._response.read1(CHUNK_BYTES)
            if not chunk:
                break
            yield chunk
        if self._response.length:  # http.client lets a body pass that ends too early
            raise http.client.IncompleteRead(b"", self._response.length)
        self._whole = True


class Pool:
    """Kept connections to one address, the youngest first; a forked child starts with none of its parent's."""

    def __init__(self, url: str, connect_s: float, size: int, tls: ssl.SSLContext | None) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise ValueError("the service's address must look like http://host:port or https://host:port/prefix")
        self.address = f"{parts.scheme}://{parts.netloc}"
        self.connect_s = connect_s
        self._host, self._port, self._prefix = parts.hostname, parts.port, parts.path.rstrip("/")
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._size = size
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []

    def take(self) -> http.client.HTTPConnection | None:
        """A kept connection, or None."""
        if self._process != os.getpid():  # two processes that write to one socket would mix their requests
            self._process, self._lock, self._idle = os.getpid(), threading.Lock(), []
        with self._lock:
            return self._idle.pop() if self._idle else None

    def give_back(self, connection: http.client.HTTPConnection) -> None:
        """Keep a connection whose last answer was read to its end."""
        with self._lock:
            if connection.sock is not None and len(self._idle) < self._size:
                self._idle.append(connection)
                return
        connection.close()

    def clear(self) -> None:
        """Close what is kept."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def connect(self) -> http.client.HTTPConnection:
        """A new connection, not yet opened."""
        if self._tls is not None:
            return http.client.HTTPSConnection(self._host, self._port, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port)

    def exchange(
        self, connection: http.client.HTTPConnection, method: str, path: str, data: bytes | None, headers: dict[str, str], deadline: float
    ) -> Answer:
        """Send a request and read the head of its answer.

        Raises:
            OSError, http.client.HTTPException: no answer; the connection is closed.
        """
        try:
            if connection.sock is None:
                connection.timeout = min(self.connect_s, left_s(deadline))
                connection.connect()
            connection.sock.settimeout(left_s(deadline))
            # A server that refuses a large body answers and closes before it has read everything: look for the answer all the same.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, self._prefix + path, body=data, headers=headers)
            return Answer(self, connection, deadline)
        except BaseException:
            connection.close()
            raise


def left_s(deadline: float) -> float:
    """Seconds until the deadline.

    Raises:
        TimeoutError: there are none left.
    """
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("the time allowed is over")
    return seconds


def seconds_of(retry_after: str | None) -> float | None:
    """Seconds that a `Retry-After` asks for (RFC 9110, 10.2.3: seconds or an HTTP date), or None without a usable one."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def pause_s(attempts: int, retry_after: float | None) -> float:
    """How long to wait before the next attempt: a little at random, so that a thousand clients do not come back in the same instant."""
    if retry_after is not None:
        return retry_after + random.uniform(0.0, max(0.1, retry_after / 4))
    return random.uniform(0.5, 1.0) * min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(attempts - 1, 16))
