"""One end of a socket between the service and a zygote or a cell: messages with descriptors, on the running loop."""

from __future__ import annotations

import asyncio
import collections
import os
import socket
import struct
from collections.abc import Sequence

from sandbox.interface import RunnerLost

_MESSAGE_BYTES = 65536
_ANCILLARY_BYTES = socket.CMSG_SPACE(12) + socket.CMSG_SPACE(8)  # credentials, two descriptors


class Channel:
    """One end of a SOCK_SEQPACKET pair on the running loop."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._messages: collections.deque[tuple[bytes, tuple[int, ...]]] = collections.deque()
        self._waiter: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self.ended = False
        self.peer_pid = 0
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._loop.add_reader(sock.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        while True:
            try:
                message, ancillary, _, _ = self._socket.recvmsg(_MESSAGE_BYTES, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                break
            except OSError:
                message, ancillary = b"", []
            if not message:
                self.ended = True
                self._loop.remove_reader(self._socket.fileno())
                break
            descriptors: tuple[int, ...] = ()
            for level, kind, data in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                    self.peer_pid = struct.unpack("3i", data[:12])[0]
                elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    descriptors = struct.unpack(f"{len(data) // 4}i", data[: len(data) // 4 * 4])
            self._messages.append((message, descriptors))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def is_open(self) -> bool:
        """Whether the other side is still there, looked at now and not at the event loop's next turn."""
        if not self.ended:
            self._on_readable()
        return not self.ended

    async def receive(self, within_s: float) -> tuple[bytes, tuple[int, ...]]:
        """The next message and its descriptors, the caller's to close. Raises TimeoutError, and RunnerLost where the other side is gone."""
        if not self._messages:
            timer = self._loop.call_later(within_s, self._expire)  # far cheaper than a task that waits, once per test
            try:
                await self._arrival()
            finally:
                timer.cancel()
        return self._messages.popleft()

    async def _arrival(self) -> None:
        while not self._messages:
            if self.ended:
                raise RunnerLost("the supervisor's channel closed")
            self._waiter = self._loop.create_future()
            await self._waiter

    def _expire(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(TimeoutError())

    def send(self, message: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send one message with descriptors. Raises RunnerLost."""
        try:
            if descriptors:
                socket.send_fds(self._socket, [message], descriptors)
            else:
                self._socket.send(message)
        except OSError as error:
            raise RunnerLost("the supervisor is gone") from error

    def close(self) -> None:
        """Close this end; the other side then ends itself."""
        if self._socket.fileno() >= 0:
            if not self.ended:
                self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
        while self._messages:
            for descriptor in self._messages.popleft()[1]:
                os.close(descriptor)
        self.ended = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
