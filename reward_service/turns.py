"""A fair, bounded gate: flows share the slots by weight, their requests take turns, and the shortest goes first.

Three levels, each in virtual time (start-time fair queueing, Goyal, Vin and Cheng 1996, by the clock of an ideal server that is shared):

- a *flow* (a key and a class of priority) gets slot time in proportion to its weight, however many requests it has;
- a flow's *requests* (each a `Share`) get the same, the one that has had least first, and of several the shortest: a single completion goes
  before the next item of a batch of thousands, and the batch is never starved by singles;
- a request's items are served shortest first.

Costs are estimated when an item asks, charged when it gets its slot, and corrected by the time that it held it.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import Callable
from types import TracebackType

from reward_service.errors import DeadlineExceeded

DEFAULT_COST_S = 0.01
LEAST_COST_S = 1e-4  # what a turn costs at least: one that held its slot for no time has still had its turn
_REMEMBERED_FLOWS = 1024
_STALE = 64  # entries of a heap that may be out of date before it is built anew


class Share:
    """One request's share of the machine: its flow, and for how long anything of it has waited (`waiting_s`).

    `single`: the request has one rollout.
    """

    __slots__ = ("flow", "lines", "single", "waiting_s", "weight")

    def __init__(self, flow: str, weight: float = 1.0, *, single: bool = False) -> None:
        if not weight > 0:
            raise ValueError("weight must be above 0")
        self.flow = flow
        self.weight = weight
        self.single = single
        self.waiting_s = 0.0
        self.lines: dict[Turns, _Line] = {}

    def leave(self) -> None:
        """Forget where it stood, once nothing of it waits or runs; these know it, and only a search for cycles would find both."""
        self.lines.clear()


class _Line:
    """The waiters of one share at one gate."""

    def __init__(self, share: Share, flow: _Flow) -> None:
        self.share, self.flow = share, flow
        self.tag = 0.0
        self.version = 0
        self.queued = False
        self.waiting = 0
        self.since = 0.0
        self.waiters: list[tuple[float, int, asyncio.Future[None]]] = []

    def next_alive(self) -> tuple[float, asyncio.Future[None]] | None:
        """Take the cheapest waiter that still waits."""
        while self.waiters:
            cost_s, _, waiter = heapq.heappop(self.waiters)
            if not waiter.done():
                return cost_s, waiter
        return None


class _Flow:
    """The lines of one flow."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.weight = 1.0
        self.tag = 0.0
        self.now = 0.0
        self.served = 0  # tick of its last turn
        self.queued = 0  # lines that wait
        self._heap: list[tuple[float, float, int, int, _Line]] = []
        self._numbers = itertools.count()

    def add(self, line: _Line) -> None:
        """Put a line with waiters where it belongs, also one that stands in the heap already."""
        if not line.queued:
            line.queued = True
            line.tag = max(line.tag, self.now)
            self.queued += 1
        line.version += 1
        # By the start of service, not its end: estimates that fall while thousands wait must not let each newcomer pass them all.
        heapq.heappush(self._heap, (line.tag, line.waiters[0][0], next(self._numbers), line.version, line))
        if len(self._heap) > 2 * self.queued + _STALE:
            self._heap = [entry for entry in self._heap if entry[4].queued and entry[3] == entry[4].version]
            heapq.heapify(self._heap)

    def pop(self) -> tuple[_Line, float, asyncio.Future[None]] | None:
        """Take the waiter whose turn it is."""
        while self._heap:
            _, _, _, version, line = heapq.heappop(self._heap)
            if not line.queued or version != line.version:
                continue
            found = line.next_alive()
            if found is None:
                self._leave(line)
                continue
            self.charge(line, found[0])
            if line.waiters:
                self.add(line)
            else:
                self._leave(line)
            return line, *found
        return None

    def charge(self, line: _Line, cost_s: float) -> None:
        """Let a line, the flow and its clock advance by what a turn costs, or was estimated wrong by."""
        line.tag += cost_s
        self.tag += cost_s / self.weight
        self.now += cost_s / max(1, self.queued)

    def _leave(self, line: _Line) -> None:
        line.queued = False
        self.queued -= 1


class Turns:
    """`slots` permits for work that shares ask for.

    Belongs to one event loop. A cancelled or late waiter never holds or loses a permit. `clock` is the event loop's by default;
    `on_wait` is told how long each item waited.
    """

    def __init__(self, slots: int, *, clock: Callable[[], float] | None = None, on_wait: Callable[[float], None] | None = None) -> None:
        if slots < 1:
            raise ValueError("slots must be at least 1")
        self.slots = slots
        self.on_wait = on_wait
        self._clock = clock
        self._free = slots
        self._now = 0.0
        self._ticks = itertools.count(1)
        self._flows: dict[str, _Flow] = {}
        self._active: set[_Flow] = set()
        self._waiting = 0

    @property
    def busy(self) -> int:
        """Permits in use, in [0, slots]."""
        return self.slots - self._free

    @property
    def waiting(self) -> int:
        """Waiters of all shares."""
        return self._waiting

    def ahead(self, one: Share, other: Share) -> bool:
        """Whether what `one` has asked for is served no later than what `other` would ask for now, as far as can be said."""
        line, own = one.lines.get(self), other.lines.get(self)
        if not self._waiting:
            return True
        if line is None:
            return one.flow == other.flow  # it is about to ask
        if not line.waiting:
            return True  # it is being served
        return one.flow == other.flow and line.tag <= (line.flow.now if own is None else max(own.tag, line.flow.now))

    def take(
        self, share: Share, start_by: float | None = None, cost_s: float = DEFAULT_COST_S
    ) -> contextlib.AbstractAsyncContextManager[None]:
        """Hold a permit; `start_by` is a time of the event loop's clock, `cost_s` an estimate of how long it will be held.

        Raises:
            DeadlineExceeded: nobody's fault: the turn had not come by `start_by`, also when that has already passed.
        """
        return _Turn(self, share, start_by, max(cost_s, LEAST_COST_S))

    async def _begin(self, share: Share, start_by: float | None, cost_s: float) -> tuple[_Line, float]:
        """Wait for the turn; whose it is, and since when."""
        line = self._line(share)
        await self._acquire(line, start_by, cost_s)
        return line, self._time()

    def _end(self, line: _Line, started: float, cost_s: float) -> None:
        """Give the permit back, and charge what it took."""
        self._correct(line, max(LEAST_COST_S, self._time() - started) - cost_s)
        self._release()

    def _time(self) -> float:
        return asyncio.get_running_loop().time() if self._clock is None else self._clock()

    def _line(self, share: Share) -> _Line:
        line = share.lines.get(self)
        if line is None:
            flow = self._flows.get(share.flow)
            if flow is None:
                self._forget_flows()
                flow = self._flows[share.flow] = _Flow(share.flow)
            line = share.lines[self] = _Line(share, flow)
        line.flow.weight = share.weight
        return line

    def _forget_flows(self) -> None:
        if len(self._flows) >= _REMEMBERED_FLOWS:
            idle = [flow for flow in self._flows.values() if flow not in self._active and flow.tag <= self._now]
            for flow in idle:
                del self._flows[flow.name]

    async def _acquire(self, line: _Line, start_by: float | None, cost_s: float) -> None:
        loop = asyncio.get_running_loop()
        if start_by is not None and loop.time() >= start_by:
            raise DeadlineExceeded("not started before the deadline")
        if self._free > 0 and not self._active:
            line.flow.tag = max(line.flow.tag, self._now)
            line.tag = max(line.tag, line.flow.now)
            line.flow.charge(line, cost_s)
            self._grant(line.flow, cost_s)
            self._waited(0.0)
            return
        waiter: asyncio.Future[None] = loop.create_future()
        asked = self._enqueue(line, waiter, cost_s)
        alarm = None if start_by is None else loop.call_at(start_by, _expire, waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._correct(line, -cost_s)
                self._release()  # the turn came in the same moment as the cancellation
            raise
        finally:
            if alarm is not None:
                alarm.cancel()
            self._left(line, asked)

    def _enqueue(self, line: _Line, waiter: asyncio.Future[None], cost_s: float) -> float:
        asked = self._time()
        flow = line.flow
        if flow not in self._active:
            flow.tag = max(flow.tag, self._now)
            self._active.add(flow)
        heapq.heappush(line.waiters, (cost_s, next(self._ticks), waiter))
        if not line.queued or line.waiters[0][2] is waiter:
            flow.add(line)
        self._waiting += 1
        line.waiting += 1
        if line.waiting == 1:
            line.since = asked
        return asked

    def _left(self, line: _Line, asked: float) -> None:
        """A waiter waits no more, whatever the reason."""
        now = self._time()
        self._waiting -= 1
        line.waiting -= 1
        if not line.waiting:
            line.share.waiting_s += now - line.since
        self._waited(now - asked)

    def _waited(self, seconds: float) -> None:
        if self.on_wait is not None:
            self.on_wait(seconds)

    def _grant(self, flow: _Flow, cost_s: float) -> None:
        self._free -= 1
        flow.served = next(self._ticks)
        self._now += cost_s / self._weights(flow)

    def _weights(self, flow: _Flow) -> float:
        """The weights of all flows that compete now."""
        return sum(active.weight for active in self._active) or flow.weight

    def _correct(self, line: _Line, seconds: float) -> None:
        """Charge what an estimate was wrong by."""
        flow = line.flow
        flow.charge(line, seconds)
        if line.queued:
            flow.add(line)
        self._now += seconds / self._weights(flow)

    def resize(self, slots: int) -> None:
        """Have so many permits from now on. Those held beyond that end as they would; none is given out until there is room."""
        self._free += slots - self.slots
        self.slots = slots
        self._give_out()

    def _release(self) -> None:
        self._free += 1
        self._give_out()

    def _give_out(self) -> None:
        while self._free > 0 and self._active:
            flow = min(self._active, key=_due)
            found = flow.pop()
            if found is None:
                self._active.discard(flow)
                continue
            _, cost_s, waiter = found
            self._grant(flow, cost_s)
            if not flow.queued:
                self._active.discard(flow)
            waiter.set_result(None)


class _Turn:
    """One turn, as a context: a generator would take three times as long, and the event loop would remember it."""

    __slots__ = ("_begun", "_cost_s", "_share", "_start_by", "_turns")

    def __init__(self, turns: Turns, share: Share, start_by: float | None, cost_s: float) -> None:
        self._turns, self._share, self._start_by, self._cost_s = turns, share, start_by, cost_s

    async def __aenter__(self) -> None:
        self._begun = await self._turns._begin(self._share, self._start_by, self._cost_s)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        line, started = self._begun
        self._turns._end(line, started, self._cost_s)


def _due(flow: _Flow) -> tuple[float, int]:
    return flow.tag, flow.served


def _expire(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(DeadlineExceeded("not started before the deadline"))
