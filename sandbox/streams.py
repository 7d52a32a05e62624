"""Messages over a connection of the running event loop, in bounded memory, with a sign of life from the other side."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable
from typing import cast

from sandbox.framing import COUNT_BOUNDS, Bounds, Decoder, Kind, Message, Violation, decode_count, encode, encode_count

PING_S = 2.0
_HELD_BYTES = 8_388_608  # of messages that nobody has taken yet; beyond, the other side has to wait
_SOON_S = 0.003  # how long a message may wait for others to cross with: each crossing wakes two processes
_SOON_BYTES = 65_536
_PAUSED_AT = 262_144  # bytes of ours that the kernel has not taken; beyond, we wait


class Gone(Exception):
    """The connection has ended. The message says why, as far as known."""


class Stream(asyncio.Protocol):
    """One connection. Pings are answered by themselves, with `busy()`; `peer_busy` is what the last pong said.

    `silence_s` is after how long without a word the other side counts as dead; the service is who asks for one (`start_pings`).
    """

    def __init__(self, bounds: Bounds, silence_s: float, *, busy: Callable[[], int] = lambda: 0) -> None:
        self._loop = asyncio.get_running_loop()
        self._decoder = Decoder(bounds)
        self._silence_s, self._pings, self._busy = silence_s, False, busy
        self._transport: asyncio.Transport | None = None
        self._messages: collections.deque[Message] = collections.deque()
        self._held = 0
        self._reading_paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._soon = bytearray()
        self._soon_alarm: asyncio.TimerHandle | None = None
        self._heard = self._loop.time()
        self.peer_busy = 0
        self.ended: asyncio.Future[str] = self._loop.create_future()

    # ---- what the event loop calls -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = transport = cast(asyncio.Transport, transport)  # other event loops have classes of their own
        transport.set_write_buffer_limits(high=_PAUSED_AT)
        self._heard = self._loop.time()
        self._look()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._heard = self._loop.time()
        try:
            for message in self._decoder.feed(data):
                self._on_message(message)
        except Violation as violation:
            self.fail(f"what it says breaks the protocol: {violation}")

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`."""
        self.fail("it closed the connection")
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.fail("it closed the connection" if error is None else f"the connection broke: {error}")

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        if self._writable is not None:
            self._writable.set_result(None)
            self._writable = None

    def _on_message(self, message: Message) -> None:
        if message.kind is Kind.PING:
            self.write(encode_count(Kind.PONG, self._busy()))
            return
        if message.kind is Kind.PONG:
            self.peer_busy = decode_count(message)
            return
        self._messages.append(message)
        self._held += len(message.head) + len(message.body)
        if self._held > _HELD_BYTES and not self._reading_paused and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()
        self._wake()

    def _look(self) -> None:
        if self.ended.done():
            return
        if not self._reading_paused and self._loop.time() - self._heard > self._silence_s:
            self.fail(f"nothing was heard of it for {self._silence_s:g} s")
            return
        if self._pings:
            self.write(Message(Kind.PING))
        self._alarm = self._loop.call_later(min(PING_S, self._silence_s / 3), self._look)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # ---- what its owner calls ------------------------------------------------------------------------------------------

    def allow(self, bounds: Bounds) -> None:
        """Which messages may come from now on."""
        self._decoder.bounds = {**bounds, Kind.PONG: COUNT_BOUNDS} if self._pings else bounds

    @property
    def waiting(self) -> bool:
        """Whether a message can be received at once."""
        return bool(self._messages)

    async def wait(self) -> None:
        """Wait until a message can be received at once. Raises Gone once all that came is taken."""
        while not self._messages:
            if self.ended.done():
                raise Gone(self.ended.result())
            self._waiter = self._loop.create_future()
            await self._waiter

    async def receive(self) -> Message:
        """The next message but pings and pongs. A cancelled call loses none. Raises Gone once all that came is taken."""
        await self.wait()
        message = self._messages.popleft()
        self._held -= len(message.head) + len(message.body)
        if self._reading_paused and self._held < _HELD_BYTES // 2 and self._transport is not None and not self.ended.done():
            self._reading_paused = False
            self._heard = self._loop.time()
            self._transport.resume_reading()
        return message

    def write(self, message: Message) -> None:
        """Send without waiting; nothing happens once the connection has ended."""
        if self._transport is not None and not self.ended.done():
            if self._soon:
                self._soon += encode(message)
                self._flush()
            else:
                self._transport.write(encode(message))

    def _flush(self) -> None:
        if self._soon_alarm is not None:
            self._soon_alarm.cancel()
            self._soon_alarm = None
        data, self._soon = self._soon, bytearray()
        if data and self._transport is not None and not self.ended.done():
            self._transport.write(data)

    async def send_soon(self, message: Message) -> None:
        """Send within a few milliseconds, together with what else comes until then. Raises Gone."""
        self._soon += encode(message)
        if len(self._soon) > _SOON_BYTES:
            self._flush()
            await self._drain()
        elif self._soon_alarm is None:
            self._soon_alarm = self._loop.call_later(_SOON_S, self._flush)

    async def send(self, message: Message) -> None:
        """Send, and wait while the other side is slow to take it. Raises Gone."""
        self.write(message)
        await self._drain()

    async def _drain(self) -> None:
        while self._writable is not None and not self.ended.done():
            await asyncio.shield(self._writable)
        if self.ended.done():
            raise Gone(self.ended.result())

    def start_pings(self, silence_s: float) -> None:
        """Ask for a sign of life from now on, and take the other side for dead after so long without one."""
        self._pings, self._silence_s = True, silence_s

    def fail(self, why: str) -> None:
        """End the connection at once; whoever waits learns why. The first reason counts."""
        if not self.ended.done():
            self.ended.set_result(why)
            if self._alarm is not None:
                self._alarm.cancel()
            if self._soon_alarm is not None:
                self._soon_alarm.cancel()
            self.resume_writing()
            if self._transport is not None:
                self._transport.abort()
        self._wake()

    async def finish(self, message: Message) -> None:
        """Send a last message and end the connection once it is on its way."""
        self.write(message)
        if self._transport is not None and not self.ended.done():
            self._transport.close()
        await asyncio.sleep(0)
