"""Who gets in: bounded room, shared fairly between keys, and the drain before a stop.

Room is counted in requests, rollouts, bytes of bodies, and estimated seconds of work that wait for workers and for the sandbox. Work is
held in units of its kind, at the price of a unit as it is known now: what was let in as cheap and turns out to be dear fills the room.
Where there are several keys, one of them may take `ALPHA` times its weight of what is *free*: a flood stops short of filling anything, and
whoever comes with nothing in flight finds room (dynamic thresholds, Choudhury and Hahne 1998).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from reward_service.costs import ANSWER
from reward_service.errors import RequestError
from reward_service.server.bounds import INLINE_BYTES
from reward_service.server.keys import Account
from reward_service.wiring import PROGRAM

RETRY_FULL_S = 2
RETRY_DRAINING_S = 5
RETRY_MOST_S = 60
ALPHA = 4.0  # a single flood gets 4/5 of the room, two get 4/9 each
REQUESTS, ROLLOUTS, BYTES, WORKERS, SANDBOX = "requests", "rollouts", "bytes", "workers", "sandbox"
LANGUAGE = "judge_language"
KINDS: Mapping[str, tuple[str, ...]] = {WORKERS: (ANSWER, LANGUAGE), SANDBOX: (PROGRAM,)}  # of work: its estimated seconds are bounded
USED_BY: Mapping[str, str] = {kind: resource for resource, kinds in KINDS.items() for kind in kinds}
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
    """What is in flight, and whether more may come. Of one event loop.

    `limits` are by resource; `count_keys` says how many keys compete, `price_s` what a unit of a kind of work takes of its resource.
    """

    def __init__(
        self, limits: Mapping[str, float], count_keys: Callable[[], int] = lambda: 1, price_s: Callable[[str], float] = lambda kind: 1.0
    ) -> None:
        self.limits = dict(limits)
        self.draining = False
        self._held: dict[str, float] = dict.fromkeys((*limits, *USED_BY), 0.0)  # of work by kind, in units
        self._count_keys = count_keys
        self._price_s = price_s
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def requests(self) -> int:
        """Requests in flight."""
        return int(self._held[REQUESTS])

    @property
    def rollouts(self) -> int:
        """Rollouts in flight."""
        return int(self._held[ROLLOUTS])

    @property
    def held_bytes(self) -> int:
        """Bytes of the bodies in flight."""
        return int(self._held[BYTES])

    @property
    def held(self) -> dict[str, float]:
        """What is in use, by resource; of work in estimated seconds."""
        return {resource: self._of(self._held, resource) for resource in self.limits}

    def enter(self, account: Account, length: int = 0) -> Ticket:
        """Admit a request before anything of it is read; the ticket, a context manager, gives everything back.

        Raises:
            NoRoom: 503 while draining, 429 where too many requests are in flight, or for a body of that `length` too much work is.
        """
        if self.draining:
            raise draining()
        ticket = Ticket(self, account)
        full = [resource for resource in KINDS if self._of(self._held, resource) >= self.limits[resource]]
        # What a request needs is known when it is read: a small one may be, as long as one of the queues has room.
        if len(full) == len(KINDS) or (full and length > INLINE_BYTES):
            raise self._no_room(full[0], 1.0)
        ticket.hold(REQUESTS, 1)
        return ticket

    def drain(self) -> None:
        """Let nobody in from now on."""
        self.draining = True

    async def idle(self) -> None:
        """Return once nothing is in flight."""
        await self._idle.wait()

    def take(self, account: Account, what: str, count: float) -> None:
        """Count what an account takes of a resource, or how many units of a kind of work it asks for, divided by the slots for it.

        Raises:
            NoRoom: 429.
        """
        resource, needed = what, count
        used_by = USED_BY.get(what)
        if used_by is not None:
            resource, needed = used_by, count * self._price_s(what)
        held = self._of(self._held, resource)
        free = self.limits[resource] - held
        # More work than may ever wait is still done by a server that does nothing else.
        if needed > free and (used_by is None or held >= 1e-6):
            raise self._no_room(resource, needed - free)
        if self._count_keys() > 1:
            own = self._of(account.held, resource)
            if own > 0 and own + needed > ALPHA * account.weight * free:
                raise self._no_room(resource, own + needed - ALPHA * account.weight * free)
        self._add(account, what, count)

    def give_back(self, account: Account, what: str, count: float) -> None:
        """Count what an account gives back."""
        self._add(account, what, -count)

    def _of(self, held: Mapping[str, float], resource: str) -> float:
        """What stands in `held` of a resource."""
        kinds = KINDS.get(resource)
        if kinds is None:
            return held.get(resource, 0.0)
        found = 0.0
        for kind in kinds:
            units = held.get(kind)
            if units:
                found += units * self._price_s(kind)
        return found

    def _add(self, account: Account, what: str, count: float) -> None:
        held = self._held[what] = self._held[what] + count
        account.held[what] = account.held.get(what, 0.0) + count
        if what == REQUESTS:
            if held:
                self._idle.clear()
            else:
                self._idle.set()

    def _no_room(self, resource: str, excess: float) -> NoRoom:
        """Of work, what is too much now will be done in about as many seconds."""
        wait_s = min(RETRY_MOST_S, max(1, math.ceil(excess))) if resource in KINDS else RETRY_FULL_S
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

    def hold(self, what: str, count: float) -> None:
        """Take room, as `Admission.take` says.

        Raises:
            NoRoom: 429: it would be too much, together with all that is in flight.
        """
        if count:
            self._admission.take(self.account, what, count)
            self._held[what] = self._held.get(what, 0.0) + count

    def hold_bytes(self, count: int) -> None:
        """Take room for that many more bytes of the body. Raises NoRoom."""
        self.hold(BYTES, count)

    def give_back(self, what: str, count: float) -> None:
        """Give a part back, at most what is held."""
        count = min(count, self._held.get(what, 0.0))
        if count > 0:
            self._held[what] -= count
            self._admission.give_back(self.account, what, count)

    def close(self) -> None:
        """Give everything back."""
        held, self._held = self._held, {}
        for what, count in held.items():
            if count:
                self._admission.give_back(self.account, what, count)


def check_quota(account: Account, rollouts: int) -> None:
    """Take a request's rollouts out of its key's quota.

    Raises:
        NoRoom: 429: the quota is used up.
    """
    wait_s = account.spend(rollouts)
    if wait_s > 0:
        raise NoRoom("quota", "the key's rollouts per minute are used up", 429, min(RETRY_MOST_S, math.ceil(wait_s)))
