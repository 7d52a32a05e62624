"""Who gets in: bounded room, shared fairly between keys, and the drain before a stop.

Room is counted in requests, rollouts, bytes of bodies, and estimated seconds of work that wait for workers and for the sandbox. Where there
are several keys, one of them may take `ALPHA` times its weight of what is *free*: a flood stops short of filling anything, and whoever
comes with nothing in flight finds room (dynamic thresholds, Choudhury and Hahne 1998).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from reward_service.errors import RequestError
from reward_service.server.bounds import INLINE_BYTES
from reward_service.server.keys import Account

RETRY_FULL_S = 2
RETRY_DRAINING_S = 5
RETRY_MOST_S = 60
ALPHA = 4.0  # a single flood gets 4/5 of the room, two get 4/9 each
REQUESTS, ROLLOUTS, BYTES, WORKERS, SANDBOX = "requests", "rollouts", "bytes", "workers", "sandbox"
COSTS = (WORKERS, SANDBOX)  # estimated seconds of work per slot, waiting or running
WHAT: Mapping[str, str] = {
    REQUESTS: "as many requests as this server takes are in flight",
    ROLLOUTS: "as many rollouts as this server takes are in flight",
    BYTES: "the bodies in flight hold all the memory there is for them",
    WORKERS: "the workers have enough to do for as long as anything may wait here",
    SANDBOX: "the sandbox has enough to do for as long as anything may wait here",
}


class NoRoom(RequestError):
    """The server's state, not the request's fault: 429 where it is full, 503 where it stops; come back in `retry_after_s`."""

    def __init__(self, cause: str, message: str, status: int, retry_after_s: int) -> None:
        super().__init__("", message, status)
        self.cause = cause
        self.retry_after_s = retry_after_s


def draining() -> NoRoom:
    """The refusal of a server that stops."""
    return NoRoom("draining", "the server is stopping", 503, RETRY_DRAINING_S)


class Admission:
    """What is in flight, and whether more may come. `limits` by resource; `count_keys` says how many keys compete. Of one event loop."""

    def __init__(self, limits: Mapping[str, float], count_keys: Callable[[], int] = lambda: 1) -> None:
        self.limits = dict(limits)
        self.held: dict[str, float] = dict.fromkeys(limits, 0.0)
        self.draining = False
        self._count_keys = count_keys
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def requests(self) -> int:
        """Requests in flight."""
        return int(self.held[REQUESTS])

    @property
    def rollouts(self) -> int:
        """Rollouts in flight."""
        return int(self.held[ROLLOUTS])

    @property
    def held_bytes(self) -> int:
        """Bytes of the bodies in flight."""
        return int(self.held[BYTES])

    def enter(self, account: Account, length: int = 0) -> Ticket:
        """Admit a request before anything of it is read; the ticket, a context manager, gives everything back.

        Raises:
            NoRoom: 503 while draining, 429 where too many requests are in flight, or for a body of that `length` too much work is.
        """
        if self.draining:
            raise draining()
        ticket = Ticket(self, account)
        full = [cost for cost in COSTS if self.held[cost] >= self.limits[cost]]
        # What a request needs is known when it is read: a small one may be, as long as one of the queues has room.
        if len(full) == len(COSTS) or (full and length > INLINE_BYTES):
            raise self._no_room(full[0], 1.0)
        ticket.hold(REQUESTS, 1)
        return ticket

    def drain(self) -> None:
        """Let nobody in from now on."""
        self.draining = True

    async def idle(self) -> None:
        """Return once nothing is in flight."""
        await self._idle.wait()

    def take(self, account: Account, resource: str, count: float) -> None:
        """Count what an account takes.

        Raises:
            NoRoom: 429.
        """
        held, own = self.held[resource], account.held.get(resource, 0.0)
        free = self.limits[resource] - held
        alone = resource in COSTS and held < 1e-6  # more work than may ever wait is still done by a server that does nothing else
        if count > free and not alone:
            raise self._no_room(resource, count - free)
        if own > 0 and self._count_keys() > 1 and own + count > ALPHA * account.weight * free:
            raise self._no_room(resource, own + count - ALPHA * account.weight * free)
        self._add(account, resource, count)

    def give_back(self, account: Account, resource: str, count: float) -> None:
        """Count what an account gives back."""
        self._add(account, resource, -count)

    def _add(self, account: Account, resource: str, count: float) -> None:
        self.held[resource] += count
        account.held[resource] = account.held.get(resource, 0.0) + count
        if resource == REQUESTS:
            if self.held[REQUESTS]:
                self._idle.clear()
            else:
                self._idle.set()

    def _no_room(self, resource: str, excess: float) -> NoRoom:
        """Of work, what is too much now will be done in about as many seconds."""
        wait_s = min(RETRY_MOST_S, max(1, math.ceil(excess))) if resource in COSTS else RETRY_FULL_S
        return NoRoom(resource, WHAT[resource], 429, wait_s)


class Ticket:
    """What one request, or the work that several of them share, holds of the server's room until it leaves."""

    def __init__(self, admission: Admission, account: Account) -> None:
        self.account = account
        self._admission = admission
        self._held: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def another(self) -> Ticket:
        """A ticket of the same account that holds nothing yet."""
        return Ticket(self._admission, self.account)

    def hold(self, resource: str, count: float) -> None:
        """Take room.

        Raises:
            NoRoom: 429: it would be too much, together with all that is in flight.
        """
        if count:
            self._admission.take(self.account, resource, count)
            self._held[resource] = self._held.get(resource, 0.0) + count

    def hold_bytes(self, count: int) -> None:
        """Take room for that many more bytes of the body. Raises NoRoom."""
        self.hold(BYTES, count)

    def give_back(self, resource: str, count: float) -> None:
        """Give a part back, at most what is held."""
        count = min(count, self._held.get(resource, 0.0))
        if count > 0:
            self._held[resource] -= count
            self._admission.give_back(self.account, resource, count)

    def close(self) -> None:
        """Give everything back."""
        held, self._held = self._held, {}
        for resource, count in held.items():
            self._admission.give_back(self.account, resource, count)


def check_quota(account: Account, rollouts: int) -> None:
    """Take a request's rollouts out of its key's quota.

    Raises:
        NoRoom: 429: the quota is used up.
    """
    wait_s = account.spend(rollouts)
    if wait_s > 0:
        raise NoRoom("quota", "the key's rollouts per minute are used up", 429, min(RETRY_MOST_S, math.ceil(wait_s)))
