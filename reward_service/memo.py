"""Work that is done once: results of pure work by key, shared by whoever asks at the same time, and kept for who asks later."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import msgspec

V = TypeVar("V")
S = TypeVar("S")
KEY_BYTES = 20

_encode = msgspec.msgpack.encode


class _Running(Generic[V, S]):
    """One computation, or several racing ones, of the same result."""

    def __init__(self) -> None:
        self.known: asyncio.Future[V] = asyncio.get_running_loop().create_future()  # cancelled where all leaders fail
        self.leaders: list[S] = []
        self._waiting: list[asyncio.Future[None]] = []

    async def settled(self) -> None:
        """Return once `known` is done. A future of one's own costs a fifth of what `asyncio.wait` does."""
        waiter: asyncio.Future[None] = self.known.get_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    def settle(self, value: V) -> None:
        """Tell the result, the first time, to all who wait."""
        if not self.known.done():
            self.known.set_result(value)
            self._tell()

    def give_up(self) -> None:
        """Tell all who wait that nobody computes any more, unless it is known."""
        if self.known.cancel():
            self._tell()

    def _tell(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)


class Memo(Generic[V, S]):
    """Results by key; the least recently used leave first. Belongs to one event loop.

    Whoever asks while the same is being computed waits for that, unless the first asker may be further back in a queue (`ahead` says
    whether it is not): then both queue, and whichever is done first serves the other. Failures are not kept, and fail nobody but their
    own asker.
    """

    def __init__(self, max_entries: int, ahead: Callable[[S, S], bool]) -> None:
        self.hits = 0
        self.joined = 0
        self.misses = 0
        self._max_entries = max_entries
        self._ahead = ahead
        self._known: OrderedDict[bytes, V] = OrderedDict()
        self._running: dict[bytes, _Running[V, S]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def peek(self, key: bytes) -> V | None:
        """What is known by now, for whoever computes and has had to wait."""
        return self._known.get(key)

    async def get(self, key: bytes, asker: S, compute: Callable[[], Awaitable[V]], *, keep: bool = True) -> V:
        """The result for a key; `asker` is whose turn `compute` will wait for. Raises what `compute` raises."""
        while True:
            if key in self._known:
                self.hits += 1
                self._known.move_to_end(key)
                return self._known[key]
            running = self._running.get(key)
            if running is None or not any(self._ahead(leader, asker) for leader in running.leaders):
                self.misses += 1
                return await self._lead(key, asker, compute, keep)
            await running.settled()
            if not running.known.cancelled():
                self.joined += 1
                return running.known.result()

    async def _lead(self, key: bytes, asker: S, compute: Callable[[], Awaitable[V]], keep: bool) -> V:
        running = self._running.setdefault(key, _Running())
        running.leaders.append(asker)
        try:
            value = await (compute() if len(running.leaders) == 1 else self._race(running, compute))
            if keep:
                self._keep(key, value)
            running.settle(value)
            return value
        finally:
            running.leaders.remove(asker)
            if not running.leaders:
                del self._running[key]
                running.give_up()

    async def _race(self, running: _Running[V, S], compute: Callable[[], Awaitable[V]]) -> V:
        """Compute, unless another one is done first."""
        work = asyncio.ensure_future(compute())
        try:
            await asyncio.wait({work, running.known}, return_when=asyncio.FIRST_COMPLETED)
            if work.done() or running.known.cancelled():
                return await work
            self.joined += 1
            return running.known.result()
        finally:
            if not work.done():
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)

    def _keep(self, key: bytes, value: V) -> None:
        self._known[key] = value
        self._known.move_to_end(key)
        if len(self._known) > self._max_entries:
            self._known.popitem(last=False)


def key_of(*parts: object) -> bytes:
    """A key of JSON-like parts and dataclasses of these; texts may hold lone surrogates."""
    try:
        encoded = _encode(parts)
    except UnicodeEncodeError:
        encoded = repr(parts).encode("ascii", "backslashreplace")
    return hashlib.blake2b(encoded, digest_size=KEY_BYTES).digest()
