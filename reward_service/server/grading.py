"""One request to grade, from its first byte to its answer's last: an ASGI response that reads, grades and writes."""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import replace

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from reward_service.errors import Cancelled
from reward_service.pipeline import grade_groups, summarize
from reward_service.records import Grade, Group, Outcome, Reason
from reward_service.server.admission import Ticket
from reward_service.server.answers import HEARTBEAT, encode_grade, end_line, grade_line, service_fields, whole_answer
from reward_service.server.bodies import Body, check_headers, receive_into
from reward_service.server.logs import NOTES
from reward_service.server.requests import GradeRequest
from reward_service.server.service import Service

HEARTBEAT_S = 5.0
TURN_GRADES = 64  # after that many grades in a row the event loop gets its turn
STREAM_TYPE = "application/x-ndjson"
JSON_TYPE = "application/json"


class GradingResponse(Response):
    """Reads the request itself, so that room is taken before a byte is read and given back after the last one is sent."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service
        self._arrived_s = asyncio.get_running_loop().time()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request.

        Raises:
            RequestError, Overloaded: before the answer has begun; the application's handlers make it a refusal.
        """
        headers = Headers(scope=scope)
        settings, stages = self._service.settings, self._service.metrics.stage_seconds
        with self._service.admission.enter() as ticket, Body(check_headers(headers, settings.max_body_bytes)) as body:
            try:
                with stages.labels("receive").time():
                    await receive_into(body, receive, settings.max_body_bytes, settings.body_wait_s, ticket.hold_bytes)
                await _unless_gone(receive, self._work(body, ticket, wants_stream(headers.get("accept", "")), send, scope.get(NOTES, {})))
            except Cancelled:
                self._service.metrics.disconnects.inc()

    async def _work(self, body: Body, ticket: Ticket, stream: bool, send: Send, notes: dict[str, object]) -> None:
        stages = self._service.metrics.stage_seconds
        with stages.labels("read").time():
            request = await self._service.read(body)
            if body.file is not None:
                await asyncio.to_thread(body.close)  # not held while grading, and not freed by the event loop
        ticket.hold_rollouts(request.rollouts)
        async with self._service.test_sets.lease(request.groups) as groups:
            await self._grade(replace(request, groups=tuple(groups)), stream, send, notes)

    async def _grade(self, request: GradeRequest, stream: bool, send: Send, notes: dict[str, object]) -> None:
        stages = self._service.metrics.stage_seconds
        run = Run(self._service, request, self._arrived_s + request.deadline_s)
        with stages.labels("grade").time():
            async with run:
                if stream:
                    await self._send_stream(run, send)
                else:
                    await run.finished()
        if not stream:
            with stages.labels("answer").time():
                await self._send_whole(run, send)
        notes.update(groups=len(request.groups), rollouts=request.rollouts, **run.counts())

    async def _send_stream(self, run: Run, send: Send) -> None:
        await send(_start(STREAM_TYPE, [(b"x-accel-buffering", b"no")]))
        async for lines in run.lines():
            await send({"type": "http.response.body", "body": lines, "more_body": True})
        request = run.request
        end = end_line(run.grades, summarize(request.groups, run.grades), request.scheme, self._service_fields())
        await send({"type": "http.response.body", "body": end})

    async def _send_whole(self, run: Run, send: Send) -> None:
        request = run.request
        summaries = summarize(request.groups, run.grades)
        await send(_start(JSON_TYPE))
        for chunk in whole_answer(request.groups, run.encoded, summaries, request.scheme, self._service_fields()):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b""})

    def _service_fields(self) -> dict[str, object]:
        return service_fields(self._service.machine.versions(), asyncio.get_running_loop().time() - self._arrived_s)


class Run:
    """The grading of one request as an async context manager: grades come in while it is entered."""

    def __init__(self, service: Service, request: GradeRequest, start_by: float) -> None:
        self.request = request
        self.grades: list[Grade] = []
        self.encoded: dict[tuple[str, str], bytes] = {}
        self._service = service
        self._start_by = start_by
        self._tasks = {group.group_id: group.task for group in request.groups}
        self._fresh: list[bytes] = []
        self._news = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Run:
        self._pump = asyncio.create_task(self._grade())
        self._service.running(self._pump)
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)

    async def finished(self) -> None:
        """Return once every rollout has its grade."""
        if self._pump is not None:
            await self._pump

    async def lines(self) -> AsyncIterator[bytes]:
        """Lines of the stream: grades the moment they are known, a heartbeat every HEARTBEAT_S seconds."""
        loop = asyncio.get_running_loop()
        beat = loop.time() + HEARTBEAT_S
        while self._pump is not None and not (self._pump.done() and not self._fresh):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(beat):
                    await self._news.wait()
            self._news.clear()
            lines, self._fresh = self._fresh, []
            if loop.time() >= beat:
                lines.append(HEARTBEAT)
                beat = loop.time() + HEARTBEAT_S
            if lines:
                yield b"".join(lines)
        await self.finished()

    def counts(self) -> dict[str, int]:
        """How many rollouts have which outcome."""
        return dict(collections.Counter(grade.outcome.value for grade in self.grades))

    async def _grade(self) -> None:
        request = self.request
        effects = self._service.machine.effects(self._service.next_share(), self._start_by)
        try:
            async with contextlib.aclosing(grade_groups(request.groups, request.scheme, effects, request.detail)) as grades:
                async for grade in grades:
                    self._take(grade)
                    if len(self.grades) % TURN_GRADES == 0:
                        await asyncio.sleep(0)
        except asyncio.CancelledError:
            if not self._service.cut:
                raise
            for grade in self._cancelled():
                self._take(grade)
        finally:
            self._news.set()

    def _take(self, grade: Grade) -> None:
        encoded = encode_grade(grade)
        self.grades.append(grade)
        self.encoded[grade.group_id, grade.rollout_id] = encoded
        self._fresh.append(grade_line(encoded))
        self._news.set()
        self._service.metrics.count_grade(self._tasks[grade.group_id], grade)

    def _cancelled(self) -> Iterator[Grade]:
        """Grades of what the server's stop cut off."""
        for group in self.request.groups:
            for rollout in group.rollouts:
                if (group.group_id, rollout.rollout_id) not in self.encoded:
                    yield _unscored(group, rollout.rollout_id)


def wants_stream(accept: str) -> bool:
    """Whether an `Accept` header asks for the stream."""
    for choice in accept.split(","):
        media, _, parameters = choice.partition(";")
        if media.strip().lower() == STREAM_TYPE:
            return parameters.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _unscored(group: Group, rollout_id: str) -> Grade:
    return Grade(group.group_id, rollout_id, Outcome.UNSCORED, None, None, None, {"reason": Reason.CANCELLED.value})


def _start(media: str, headers: list[tuple[bytes, bytes]] | None = None) -> dict[str, object]:
    return {"type": "http.response.start", "status": 200, "headers": [(b"content-type", media.encode()), *(headers or [])]}


async def _unless_gone(receive: Receive, work: Coroutine[object, object, None]) -> None:
    """Do the work unless the client goes away first.

    Raises:
        Cancelled: the client went away; the work was cancelled.
    """
    worker = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({worker, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not worker.done():
            raise Cancelled("the client went away")
        worker.result()
    finally:
        worker.cancel()
        watcher.cancel()
        await asyncio.gather(worker, watcher, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
