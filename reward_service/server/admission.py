"""Who gets in: bounded numbers of requests, rollouts and bytes in flight, the key, and the drain before a stop."""

from __future__ import annotations

import asyncio
import hmac
from types import TracebackType
from typing import Self

from reward_service.errors import RequestError

RETRY_FULL_S = 2
RETRY_DRAINING_S = 5
BEARER = "bearer"


class NoRoom(RequestError):
    """The server's state, not the request's fault: 429 where it is full, 503 where it stops; come back in `retry_after_s`."""

    def __init__(self, cause: str, message: str, status: int, retry_after_s: int) -> None:
        super().__init__("", message, status)
        self.cause = cause
        self.retry_after_s = retry_after_s


class Admission:
    """What is in flight, and whether more may come. Belongs to one event loop."""

    def __init__(self, max_requests: int, max_rollouts: int, max_held_bytes: int) -> None:
        self.max_requests = max_requests
        self.max_rollouts = max_rollouts
        self.max_held_bytes = max_held_bytes
        self.requests = 0
        self.rollouts = 0
        self.held_bytes = 0
        self.draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    def enter(self) -> Ticket:
        """Admit a request before anything of it is read; the ticket, a context manager, gives everything back.

        Raises:
            NoRoom: 503 while draining, 429 where too many requests are in flight.
        """
        if self.draining:
            raise NoRoom("draining", "the server is stopping", 503, RETRY_DRAINING_S)
        if self.requests >= self.max_requests:
            raise NoRoom("requests", f"{self.max_requests} requests are in flight", 429, RETRY_FULL_S)
        return Ticket(self)

    def drain(self) -> None:
        """Let nobody in from now on."""
        self.draining = True

    async def idle(self) -> None:
        """Return once nothing is in flight."""
        await self._idle.wait()

    def _changed(self) -> None:
        if self.requests:
            self._idle.clear()
        else:
            self._idle.set()


class Ticket:
    """What one request holds of the server's room, until it leaves."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._rollouts = 0
        self._bytes = 0

    def __enter__(self) -> Self:
        self._admission.requests += 1
        self._admission._changed()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        admission = self._admission
        admission.requests -= 1
        admission.rollouts -= self._rollouts
        admission.held_bytes -= self._bytes
        admission._changed()

    def hold_bytes(self, count: int) -> None:
        """Take room for that many more bytes of the body.

        Raises:
            NoRoom: 429: all bodies in flight together would be too much.
        """
        if self._admission.held_bytes + count > self._admission.max_held_bytes:
            raise NoRoom("bytes", "the bodies in flight hold all the memory there is for them", 429, RETRY_FULL_S)
        self._admission.held_bytes += count
        self._bytes += count

    def hold_rollouts(self, count: int) -> None:
        """Take room for the request's rollouts.

        Raises:
            NoRoom: 429: all rollouts in flight together would be too many.
        """
        if self._admission.rollouts + count > self._admission.max_rollouts:
            raise NoRoom("rollouts", f"{self._admission.rollouts} rollouts are in flight", 429, RETRY_FULL_S)
        self._admission.rollouts += count
        self._rollouts += count


def check_key(authorization: str | None, key: str | None) -> None:
    """Let in whoever sends the key; everybody where there is none.

    Raises:
        RequestError: the client's fault (401).
    """
    if key is None:
        return
    kind, _, given = (authorization or "").partition(" ")
    if kind.lower() != BEARER or not hmac.compare_digest(given.strip().encode(), key.encode()):
        raise RequestError("", "the header `Authorization: Bearer KEY` with this server's key is needed", status=401)
