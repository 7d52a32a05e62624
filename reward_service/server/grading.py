"""One request to grade, from its first byte to its answer's last: an ASGI response that reads, grades and writes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from reward_service.errors import Cancelled
from reward_service.records import Grade
from reward_service.server.admission import ROLLOUTS, Ticket, check_quota
from reward_service.server.bodies import Body, check_headers, receive_into
from reward_service.server.estimates import estimate, total
from reward_service.server.http_protocol import GONE, IS_HERE
from reward_service.server.keys import Account
from reward_service.server.logs import NOTES
from reward_service.server.requests import GradeRequest
from reward_service.server.runs import Run
from reward_service.server.service import Service

STREAM_TYPE = "application/x-ndjson"
JSON_TYPE = "application/json"


class GradingResponse(Response):
    """Reads the request itself, so that room is taken before a byte is read and given back after the last one is sent."""

    background = None
    status_code = 200

    def __init__(self, service: Service, account: Account, headers: Mapping[str, str]) -> None:
        self._service = service  # the framework's other fields of an answer are not used, and take a while to make
        self._account = account
        self._stated = headers
        self._arrived_s = asyncio.get_running_loop().time()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request.

        Raises:
            RequestError, Overloaded: before the answer has begun; the application's handlers make it a refusal.
        """
        headers, settings, stage = self._stated, self._service.settings, self._service.metrics.stage
        encoding = check_headers(headers, settings.max_body_bytes)
        with self._service.admission.enter(self._account, _length(headers)) as ticket, Body(encoding) as body:
            try:
                begun_s = time.perf_counter()
                here = IS_HERE in scope
                await receive_into(body, receive, settings.max_body_bytes, settings.body_wait_s, ticket.hold_bytes, is_here=here)
                stage("receive", begun_s)
                await _unless_gone(
                    scope, receive, self._work(body, ticket, wants_stream(headers.get("accept", "")), send, scope.get(NOTES, {}))
                )
            except Cancelled:
                self._service.metrics.disconnects.inc()

    async def _work(self, body: Body, ticket: Ticket, stream: bool, send: Send, notes: dict[str, object]) -> None:
        stage = self._service.metrics.stage
        begun_s = time.perf_counter()
        request = await self._service.read(body)
        if body.file is not None:
            await asyncio.to_thread(body.close)  # not held while grading, and not freed by the event loop
        begun_s = stage("read", begun_s)
        notes.update(groups=len(request.groups), rollouts=request.rollouts)
        if request.request_id is not None:
            notes["request_id"] = request.request_id
        if request.request_id is None and not stream:
            run = self._start(request, ticket.another())
            await run.work_alone()
        else:
            run = self._run(request, ticket)
            async with run.listening():
                await run.open()
                if stream:
                    await self._send_stream(run, send)
                else:
                    await run.finished()
        begun_s = stage("grade", begun_s)
        if not stream:
            await self._send_whole(run, send)
            stage("answer", begun_s)
        notes.update(run.counts())

    def _run(self, request: GradeRequest, ticket: Ticket) -> Run:
        """The work on a request: its own, or under a `request_id` that of an earlier one."""

        def start(known: Sequence[Grade] = ()) -> Run:
            run = self._start(request, ticket.another(), known)
            run.begin()
            return run

        if request.request_id is None:
            return start()
        return self._service.repeats.run(self._account.name, request.request_id, request.digest, start)

    def _start(self, request: GradeRequest, room: Ticket, known: Sequence[Grade] = ()) -> Run:
        """Take room for the work, which can begin then.

        Raises:
            NoRoom: 429.
        """
        needs = estimate(request.groups, request.scheme, self._service.machine)
        try:
            room.hold(ROLLOUTS, request.rollouts)
            for kind, units in total(request.groups, needs).items():
                room.hold(kind, units)
            check_quota(self._account, request.rollouts)
        except BaseException:
            room.close()
            raise
        share = self._service.share(self._account, request.priority, single=request.rollouts == 1)
        run = Run(self._service, request, self._arrived_s, share, room, known)
        run.needs_per_rollout(needs)
        return run

    async def _send_stream(self, run: Run, send: Send) -> None:
        await send(_start(STREAM_TYPE, [(b"x-accel-buffering", b"no")]))
        async for lines in run.lines():
            await send({"type": "http.response.body", "body": lines, "more_body": True})
        await send({"type": "http.response.body", "body": run.end_line()})

    async def _send_whole(self, run: Run, send: Send) -> None:
        chunks = run.whole_answer()
        first, second = next(chunks), next(chunks, None)
        if second is None:
            await send(_start(JSON_TYPE, [(b"content-length", str(len(first)).encode())]))
            await send({"type": "http.response.body", "body": first})
            return
        await send(_start(JSON_TYPE))
        for chunk in (first, second):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b""})


def wants_stream(accept: str) -> bool:
    """Whether an `Accept` header asks for the stream."""
    for choice in accept.split(","):
        media, _, parameters = choice.partition(";")
        if media.strip().lower() == STREAM_TYPE:
            return parameters.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _length(headers: Mapping[str, str]) -> int:
    """The length of the body that the headers state; 0 where they state none."""
    length = headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() and len(length) < 19 else 0


def _start(media: str, headers: list[tuple[bytes, bytes]] | None = None) -> dict[str, object]:
    return {"type": "http.response.start", "status": 200, "headers": [(b"content-type", media.encode()), *(headers or [])]}


async def _unless_gone(scope: Scope, receive: Receive, work: Coroutine[object, object, None]) -> None:
    """Do the work unless the client goes away first.

    Raises:
        Cancelled: the client went away; the work was cancelled.
    """
    task = asyncio.current_task()
    assert task is not None
    gone = False

    def leave() -> None:
        nonlocal gone
        gone = True
        task.cancel()

    watch = scope.get(GONE)
    unwatch = _watched(receive, leave) if watch is None else watch(leave)
    try:
        await work
    except asyncio.CancelledError:
        if gone and not task.uncancel():
            raise Cancelled("the client went away") from None
        raise
    finally:
        unwatch()


def _watched(receive: Receive, leave: Callable[[], None]) -> Callable[[], object]:
    """The same as `http_protocol.GONE`, of any server: a task that waits for the message."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        leave()

    return asyncio.ensure_future(watch()).cancel
