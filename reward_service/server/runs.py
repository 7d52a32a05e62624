"""The grading of one request, for all who wait for it: the client that sent it, and its retries under the same `request_id`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Container, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from reward_service.pipeline import grade_groups, summarize
from reward_service.records import Grade, Group, GroupSummary, Outcome, Reason
from reward_service.server.admission import ROLLOUTS, Ticket, draining
from reward_service.server.answers import HEARTBEAT, encode_grade, end_line, grade_line, service_fields, whole_answer
from reward_service.server.estimates import PerRollout
from reward_service.server.metrics import Metrics
from reward_service.server.requests import GradeRequest
from reward_service.server.testsets import TestSets, names_test_sets
from reward_service.turns import Share
from reward_service.wiring import Machine

HEARTBEAT_S = 5.0
TURN_GRADES = 64  # after that many grades in a row the event loop gets its turn
REJOIN_S = 0.5  # that work with a `request_id` goes on after its last client has gone
PASSING = frozenset({Reason.DEADLINE, Reason.OVERLOADED, Reason.CANCELLED, Reason.SANDBOX_UNAVAILABLE, Reason.WORKER_LOST})

Key = tuple[str, str]  # group_id, rollout_id


class Host(Protocol):
    """What a run needs of the service. `cut`: whether the service's stop ends all runs, so that they say what they know."""

    machine: Machine
    test_sets: TestSets
    metrics: Metrics
    cut: bool

    def running(self, task: asyncio.Task[None]) -> None:
        """Remember a task that grades, so that the service's stop can cancel it."""
        ...

    def ended(self, task: asyncio.Task[None]) -> None:
        """Forget it: it grades no more."""
        ...


class Run:
    """Grades come in while it works; afterwards it is the answer. `known` are grades that an earlier run of the same came to.

    Whoever makes it lets it work: by `begin`, in a task of its own that several may listen to, or by `work_alone`, in the task that asks.
    """

    def __init__(
        self, service: Host, request: GradeRequest, arrived_s: float, share: Share, ticket: Ticket, known: Sequence[Grade] = ()
    ) -> None:
        self.scheme = request.scheme
        self.rollouts = request.rollouts
        self.groups = len(request.groups)
        self.grades: list[Grade] = []
        self.size_bytes = 0
        self.summaries: Sequence[GroupSummary] = ()
        self.share = share
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_end: Callable[[Run], None] = lambda run: None
        self._service = service
        self._request = request
        self._arrived_s = arrived_s
        self._ticket = ticket
        self._needs: dict[str, PerRollout] = {}
        self._tasks = {group.group_id: group.task for group in request.groups}
        self._keys = [(group.group_id, rollout.rollout_id) for group in request.groups for rollout in group.rollouts]
        self._encoded: dict[Key, bytes] = {}
        self._service_fields: dict[str, object] = {}
        self._listeners = 0
        self._rejoinable = request.request_id is not None
        self._news: asyncio.Future[None] | None = None
        self._started_s = asyncio.get_running_loop().time()
        self._latencies_s: list[float] = []
        for grade in known:
            self._take(grade)
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Work in a task of its own."""
        self._task = asyncio.create_task(self._work(self._request))
        self._service.running(self._task)
        self._task.add_done_callback(self._service.ended)

    async def work_alone(self) -> None:
        """Work here, for this one client: a task of its own, and waiting for it, takes as long as grading a short answer.

        Raises what refuses the request, and what ended the work.
        """
        task = asyncio.current_task()
        assert task is not None
        self._service.running(task)
        try:
            await self._work(self._request)
        except asyncio.CancelledError:
            if not self._was_cut():
                raise
            task.uncancel()
        finally:
            self._service.ended(task)
        refusal = self.opened.exception()
        if refusal is not None:
            del self.opened  # by its traceback a refusal leads back here, and to the whole body: only a search for cycles would find them
            try:
                raise refusal
            finally:
                del refusal

    @property
    def done(self) -> bool:
        """Whether nothing more will come."""
        return self._task is not None and self._task.done()

    def needs_per_rollout(self, needs: dict[str, PerRollout]) -> None:
        """Room that a rollout's grade gives back."""
        self._needs = needs

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Be one of those who wait; when the last one goes, the work ends: at once, or where a retry may join it after REJOIN_S."""
        self._listeners += 1
        try:
            yield
        finally:
            self._listeners -= 1
            if not self._listeners and self._task is not None and not self._task.done():
                if self._rejoinable:
                    asyncio.get_running_loop().call_later(REJOIN_S, self._end_unless_joined)
                else:
                    self._task.cancel()
                    await asyncio.gather(self._task, return_exceptions=True)

    async def open(self) -> None:
        """Return once everything that the work needs is there. Raises what refuses the request."""
        if not self.opened.done() and self._task is not None:
            await asyncio.wait({self.opened, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if self.opened.done():
            self.opened.result()

    async def finished(self) -> None:
        """Return once every rollout has its grade. Raises what ended the work."""
        assert self._task is not None
        if not self._task.done():
            await asyncio.wait({self._task})
        self._task.result()

    async def lines(self) -> AsyncIterator[bytes]:
        """Lines of the stream: grades the moment they are known, a heartbeat every HEARTBEAT_S seconds."""
        assert self._task is not None
        loop = asyncio.get_running_loop()
        beat = loop.time() + HEARTBEAT_S
        told = 0
        while not self.done or told < len(self.grades):
            if told == len(self.grades):
                if self._news is None:
                    self._news = loop.create_future()
                await asyncio.wait({self._news, self._task}, timeout=max(0.0, beat - loop.time()), return_when=asyncio.FIRST_COMPLETED)
            fresh = self.grades[told : told + TURN_GRADES]
            told += len(fresh)
            lines = [grade_line(self._encoded[grade.group_id, grade.rollout_id]) for grade in fresh]
            if loop.time() >= beat:
                lines.append(HEARTBEAT)
                beat = loop.time() + HEARTBEAT_S
            if lines:
                yield b"".join(lines)
        await self.finished()

    def end_line(self) -> bytes:
        """The last line of the stream."""
        return end_line(self.grades, self.summaries, self.scheme, self._service_fields)

    def whole_answer(self) -> Iterator[bytes]:
        """The JSON answer in pieces."""
        encoded = (self._encoded[key] for key in self._keys)
        return whole_answer(encoded, self.summaries, self.scheme, self._service_fields)

    def counts(self) -> dict[str, int]:
        """How many rollouts have which outcome."""
        found: dict[str, int] = {}
        for grade in self.grades:
            found[grade.outcome.value] = found.get(grade.outcome.value, 0) + 1
        return found

    def final_grades(self) -> list[Grade]:
        """The grades that a repetition would not change."""
        return [grade for grade in self.grades if grade.outcome is not Outcome.UNSCORED or grade.detail.get("reason") not in PASSING]

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _end_unless_joined(self) -> None:
        if not self._listeners and self._task is not None:
            self._task.cancel()

    def _was_cut(self) -> bool:
        """Whether the service's stop ended the work before it was open: then that refuses the request."""
        return self._service.cut and self.opened.done() and self.opened.exception() is not None

    async def _work(self, request: GradeRequest) -> None:
        try:
            if not names_test_sets(request.groups):
                self.opened.set_result(None)
                await self._grade(replace(request, groups=_without(request.groups, self._encoded)) if self._encoded else request)
                self._finish(request)
                return
            async with self._service.test_sets.lease(request.groups) as groups:
                self.opened.set_result(None)
                await self._grade(replace(request, groups=_without(groups, self._encoded) if self._encoded else tuple(groups)))
            self._finish(request)
        except BaseException as error:
            if self.opened.done():
                raise
            cut = isinstance(error, asyncio.CancelledError) and self._service.cut
            self.opened.set_exception(draining() if cut else error)
            self.opened.exception()  # seen, also where nobody waits any more
            if not isinstance(error, Exception):
                raise
        finally:
            self._ticket.close()
            self.share.leave()
            self.on_end(self)

    async def _grade(self, request: GradeRequest) -> None:
        service = self._service
        effects = service.machine.effects(self.share, self._arrived_s + request.deadline_s)
        try:
            async with contextlib.aclosing(grade_groups(request.groups, request.scheme, effects, request.detail)) as grades:
                async for grade in grades:
                    self._take(grade)
                    self._note(request, grade)
                    if len(self.grades) % TURN_GRADES == 0:
                        await asyncio.sleep(0)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not service.cut or task is None:
                raise
            task.uncancel()  # what was meant to end is the grading, not the answer
            for grade in _cancelled(request.groups, self._encoded):
                self._take(grade)
                self._note(request, grade)

    def _take(self, grade: Grade) -> None:
        encoded = encode_grade(grade)
        self.grades.append(grade)
        self._encoded[grade.group_id, grade.rollout_id] = encoded
        self.size_bytes += len(encoded)
        if self._news is not None:
            self._news.set_result(None)
            self._news = None

    def _note(self, request: GradeRequest, grade: Grade) -> None:
        """Count a grade, and give back the room that it took."""
        self._latencies_s.append(asyncio.get_running_loop().time() - self._started_s)
        if self.rollouts > 1:  # the last one's is given back with all that is held
            for kind, units in self._needs.get(grade.group_id, {}).items():
                self._ticket.give_back(kind, units)
            self._ticket.give_back(ROLLOUTS, 1)
        self._service.metrics.count_grade(self._ticket.account.name, self._tasks[grade.group_id], grade)

    def _finish(self, request: GradeRequest) -> None:
        took_s = asyncio.get_running_loop().time() - self._arrived_s
        self.summaries = summarize(request.groups, self.grades)
        self._service_fields = service_fields(self._service.machine.versions(), took_s)
        self._service.metrics.count_request(self.summaries, self._latencies_s, self.share.waiting_s, took_s)


def _without(groups: Sequence[Group], known: Container[Key]) -> tuple[Group, ...]:
    """The groups with the rollouts that are not known, of those that have any."""
    left = (replace(g, rollouts=tuple(r for r in g.rollouts if (g.group_id, r.rollout_id) not in known)) for g in groups)
    return tuple(group for group in left if group.rollouts)


def _cancelled(groups: Sequence[Group], known: Container[Key]) -> Iterator[Grade]:
    """Grades of what the server's stop cut off."""
    for group in groups:
        for rollout in group.rollouts:
            if (group.group_id, rollout.rollout_id) not in known:
                detail = {"reason": Reason.CANCELLED.value}
                yield Grade(group.group_id, rollout.rollout_id, Outcome.UNSCORED, None, None, None, detail)
