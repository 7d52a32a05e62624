"""Several runners as one sandbox: bounded, warm, the freest first; what a runner that dies was doing is done again elsewhere.

A *source* says which runners there should be, again and again: those that are missing are started, those that have ended are replaced,
those that are no longer wanted leave once they are idle. Jobs wait for a free slot; they fail only where no runner of their language has
lived for `patience_s`.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from sandbox.interface import Job, RunResult, SandboxUnavailable, Session
from sandbox.link import RunnerGone

PATIENCE_S = 60.0
_TEND_S = 0.5
_RETRY_S, _RETRY_MOST_S = 0.25, 8.0
_FAILOVERS = 4


class Member(Protocol):
    """One runner: a sandbox that may end."""

    @property
    def languages(self) -> frozenset[str]:
        """See `sandbox.interface.Sandbox`."""
        ...

    @property
    def slots(self) -> int:
        """See `sandbox.interface.Sandbox`."""
        ...

    @property
    def busy(self) -> int:
        """Slots that are in use as far as it last said, whoever uses them."""
        ...

    @property
    def spent(self) -> bool:
        """Whether it has served enough and should be replaced."""
        ...

    @property
    def notes(self) -> Mapping[str, str]:
        """What works there, and how."""
        ...

    @property
    def tools(self) -> Mapping[str, str]:
        """The versions of what runs programs there."""
        ...

    @property
    def ended(self) -> asyncio.Future[str]:
        """Done, with the reason, once it is of no use any more."""
        ...

    async def start(self) -> None:
        """Make ready. Raises SandboxUnavailable."""
        ...

    def run(self, job: Job) -> AsyncGenerator[RunResult, None]:
        """See `sandbox.interface.Sandbox`."""
        ...

    def talk(self, *jobs: Job) -> AbstractAsyncContextManager[tuple[Session | RunResult, ...]]:
        """See `sandbox.interface.Sandbox`."""
        ...

    async def close(self) -> None:
        """End it, and all that it started."""
        ...


Source = Callable[[], Awaitable[Mapping[str, Callable[[], Member]]]]


class _Runner:
    """A living runner, and how many jobs of ours it has."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.jobs = 0
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def living(self) -> bool:
        return not self.member.ended.done()

    @property
    def free(self) -> int:
        """Slots left for a job of ours; at least 1 where others of its users fill it, and 0 where our own jobs do."""
        slots = self.member.slots
        return 0 if not self.living or self.jobs >= slots else max(1, slots - max(self.jobs, self.member.busy))

    def take(self) -> None:
        self.jobs += 1
        self.idle.clear()

    def give_back(self) -> None:
        self.jobs -= 1
        if not self.jobs:
            self.idle.set()


class _Place:
    """Where a runner is or should be."""

    def __init__(self, make: Callable[[], Member]) -> None:
        self.make = make
        self.runner: _Runner | None = None
        self.starting: asyncio.Task[None] | None = None
        self.retry_at, self.failures = 0.0, 0
        self.why = ""


class Pool:
    """A sandbox made of runners; see `sandbox.interface.Sandbox`."""

    def __init__(self, source: Source, *, patience_s: float = PATIENCE_S) -> None:
        self._source = source
        self._patience_s = patience_s
        self._places: dict[str, _Place] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._waiting: collections.deque[tuple[frozenset[str], asyncio.Future[_Runner]]] = collections.deque()
        self._tending: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._alive_at = 0.0
        self._fault = ""
        self._languages: frozenset[str] = frozenset()
        self._seen: dict[str, float] = {}  # when a language last ran
        self._slots = 1
        self.notes: dict[str, str] = {}
        self.tools: dict[str, str] = {}
        self.replaced = 0

    @property
    def languages(self) -> frozenset[str]:
        """What the runners run, or ran until lately; while none lives, what they ran."""
        return self._languages

    @property
    def slots(self) -> int:
        """Slots of all living runners; while none lives, of those that did."""
        return self._slots

    def describe(self) -> dict[str, str]:
        """What runs here and how it is bounded, for the self-test."""
        return dict(self.notes)

    # ---- start and end -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the runners; some of them are enough. Raises SandboxUnavailable."""
        self._alive_at = asyncio.get_running_loop().time()
        self._tending = asyncio.create_task(self._tend())
        while not self._living() or self._any_first_try():
            if self._hopeless():
                fault = self._faults()
                await self.close()
                raise SandboxUnavailable(fault)
            await asyncio.sleep(0.02)
        self._take_stock()

    def _any_first_try(self) -> bool:
        return any(place.starting is not None and not place.failures for place in self._places.values()) and not self._late()

    def _late(self) -> bool:
        return asyncio.get_running_loop().time() > self._alive_at + self._patience_s

    def _hopeless(self) -> bool:
        """Whether every runner that there should be has failed twice, or none has come in time."""
        places = self._places.values()
        return not self._living() and (self._late() or (bool(places) and all(place.failures > 1 for place in places)))

    async def close(self) -> None:
        """End every runner."""
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.gather(self._tending, return_exceptions=True)
            self._tending = None
        for place in self._places.values():
            self._dismiss(place, at_once=True)
        self._places.clear()
        while self._leaving:
            await asyncio.gather(*self._leaving, return_exceptions=True)
        self._turn_away("the sandbox is closed")

    # ---- runners -------------------------------------------------------------------------------------------------------

    async def _tend(self) -> None:
        while True:
            await self._look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TEND_S):
                    await self._wake.wait()
            self._wake.clear()

    async def _look(self) -> None:
        """Compare what there is with what there should be, and start and end runners accordingly."""
        now = asyncio.get_running_loop().time()
        try:
            wanted = await self._source()
            self._fault = "" if wanted else "no runner is there"
        except (OSError, SandboxUnavailable) as error:
            wanted, self._fault = {key: place.make for key, place in self._places.items()}, str(error)
        for key in [key for key in self._places if key not in wanted]:
            self._dismiss(self._places.pop(key))
        for key, make in wanted.items():
            place = self._places.setdefault(key, _Place(make))
            if place.runner is not None and not place.runner.living:
                place.why = place.runner.member.ended.result()
                self.replaced += 1
                self._dismiss(place)
            if (place.runner is None or place.runner.member.spent) and place.starting is None and now >= place.retry_at:
                place.starting = asyncio.create_task(self._fill(place))
        if self._living():
            self._alive_at = now
        elif self._late():
            self._turn_away(self._faults())
        self._take_stock()
        self._turn_away("", self._languages)
        self._hand_out()

    async def _fill(self, place: _Place) -> None:
        """Start a runner for a place; one that is spent serves until the new one does."""
        member = place.make()
        try:
            await member.start()
        except SandboxUnavailable as error:
            place.why = str(error)
            place.failures += 1
            place.retry_at = asyncio.get_running_loop().time() + min(_RETRY_S * 2**place.failures, _RETRY_MOST_S)
            await member.close()
        except BaseException:
            await member.close()
            raise
        else:
            if place.runner is not None:
                self._let_go(place.runner)
            place.runner, place.failures, place.why = _Runner(member), 0, ""
            member.ended.add_done_callback(lambda _: self._wake.set())
        finally:
            place.starting = None
            self._wake.set()

    def _dismiss(self, place: _Place, *, at_once: bool = False) -> None:
        if place.starting is not None and (at_once or place.runner is None):
            place.starting.cancel()
            self._keep(place.starting)
        if place.runner is not None:
            self._let_go(place.runner, at_once=at_once)
            place.runner = None

    def _let_go(self, runner: _Runner, *, at_once: bool = False) -> None:
        self._keep(asyncio.create_task(self._close_when_idle(runner, at_once)))

    @staticmethod
    async def _close_when_idle(runner: _Runner, at_once: bool) -> None:
        if not at_once and runner.living:
            idle: asyncio.Future[object] = asyncio.ensure_future(runner.idle.wait())
            await asyncio.wait((idle, runner.member.ended), return_when=asyncio.FIRST_COMPLETED)
            idle.cancel()
        await runner.member.close()

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def _living(self) -> list[Member]:
        return [place.runner.member for place in self._places.values() if place.runner is not None and place.runner.living]

    def _take_stock(self) -> None:
        living = self._living()
        if not living:
            self.notes["runners"] = f"none of {len(self._places)} runs: {self._faults()}"
            return
        self._slots = sum(member.slots for member in living)
        now = asyncio.get_running_loop().time()
        self._seen |= {name: now for member in living for name in member.languages}
        self._languages = frozenset(name for name, at in self._seen.items() if now - at <= self._patience_s)
        missing = "".join(f"; {key}: {place.why}" for key, place in self._places.items() if place.runner is None and place.why)
        found = {name: _joined(member.notes.get(name) for member in living) for member in living for name in member.notes}
        self.notes.clear()
        share = "all" if len(living) == len(self._places) else f"{len(living)} of"
        self.notes.update({"runners": f"{share} {len(self._places)} run{missing}", **found})
        self.tools.clear()
        self.tools.update({name: _joined(member.tools.get(name) for member in living) for member in living for name in member.tools})

    def _faults(self) -> str:
        reasons = dict.fromkeys(f"{key}: {place.why}" for key, place in self._places.items() if place.why)
        return "; ".join(reasons) or self._fault or "no runner has come up yet"

    # ---- running -------------------------------------------------------------------------------------------------------

    async def run(self, job: Job) -> AsyncGenerator[RunResult, None]:
        """See `sandbox.interface.Sandbox.run`. What a runner that dies was doing is done again elsewhere; no result is given twice."""
        given, failovers = 0, 0
        while True:
            position = 0
            try:
                async with self._slot(job) as member, contextlib.aclosing(member.run(job)) as results:
                    async for result in results:
                        position += 1
                        if position > given:
                            given = position
                            yield result
                if position >= given:
                    return
            except RunnerGone:
                if failovers >= _FAILOVERS:
                    raise
            failovers += 1
            if failovers > _FAILOVERS:
                raise RunnerGone("one runner gave fewer results than another")

    @contextlib.asynccontextmanager
    async def talk(self, *jobs: Job) -> AsyncGenerator[tuple[Session | RunResult, ...], None]:
        """See `sandbox.interface.Sandbox.talk`."""
        async with self._slot(*jobs) as member, member.talk(*jobs) as sessions:
            yield sessions

    @contextlib.asynccontextmanager
    async def _slot(self, *jobs: Job) -> AsyncGenerator[Member, None]:
        runner = await self._acquire(frozenset(job.language for job in jobs))
        try:
            yield runner.member
        finally:
            runner.give_back()
            if runner.member.spent:
                self._wake.set()
            self._hand_out()

    async def _acquire(self, languages: frozenset[str]) -> _Runner:
        if not languages <= self._languages:
            raise SandboxUnavailable(f"{', '.join(sorted(languages - self._languages))} does not run here")
        runner = self._freest(languages) if not self._waiting else None
        if runner is not None:
            runner.take()
            return runner
        if self._tending is None:
            raise SandboxUnavailable("the sandbox is closed")
        waiter: asyncio.Future[_Runner] = asyncio.get_running_loop().create_future()
        self._waiting.append((languages, waiter))
        self._hand_out()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                waiter.result().give_back()
                self._hand_out()
            raise

    def _freest(self, languages: frozenset[str]) -> _Runner | None:
        runners = [place.runner for place in self._places.values() if place.runner is not None]
        free = [runner for runner in runners if runner.free > 0 and languages <= runner.member.languages]
        return max(free, key=lambda runner: runner.free, default=None)

    def _hand_out(self) -> None:
        """Give free slots to those that wait, the first come first."""
        left: collections.deque[tuple[frozenset[str], asyncio.Future[_Runner]]] = collections.deque()
        while self._waiting:
            languages, waiter = self._waiting.popleft()
            if waiter.done():
                continue
            runner = self._freest(languages)
            if runner is None:
                left.append((languages, waiter))
                continue
            runner.take()
            waiter.set_result(runner)
        self._waiting = left

    def _turn_away(self, why: str, runs: frozenset[str] = frozenset()) -> None:
        """Tell all that wait, but those whose languages are among what `runs`."""
        waiting, self._waiting = self._waiting, collections.deque()
        for languages, waiter in waiting:
            if languages <= runs:
                self._waiting.append((languages, waiter))
            elif not waiter.done():
                waiter.set_exception(SandboxUnavailable(why or f"{', '.join(sorted(languages - runs))} does not run here"))


def _joined(values: Iterable[str | None]) -> str:
    return " | ".join(dict.fromkeys(value for value in values if value))
