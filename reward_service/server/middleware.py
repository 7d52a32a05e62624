"""Around every request: an id, one log line without any text of it, counters, and how refusals look."""

from __future__ import annotations

import random
import re
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reward_service.errors import Overloaded, RequestError
from reward_service.server.admission import RETRY_FULL_S, NoRoom
from reward_service.server.logs import IN_REQUEST, NOTES
from reward_service.server.metrics import Metrics
from reward_service.server.refusals import body_of, error_body

REQUEST_ID = "x-request-id"
REQUEST_ID_BYTES = REQUEST_ID.encode()
ROUTE = "route"  # among the notes, where no framework has found one
SAFE_ID = re.compile(r"[A-Za-z0-9._:/-]{1,128}")
CLIENT_WENT_AWAY = 499  # of no standard, but what operators know from proxies; it stands in the log only


class Front:
    """ASGI: gives each request an id, logs one line, counts it; answers one route itself, and leaves the others to the framework.

    That is without the framework's own way to a route, which takes longer than most math rollouts do.
    """

    def __init__(
        self, framework: ASGIApp, path: str, endpoint: Callable[[Mapping[str, str], dict[str, object]], ASGIApp], metrics: Metrics
    ) -> None:
        self._framework, self._path, self._endpoint = framework, path, endpoint
        self._metrics = metrics
        self._log = structlog.get_logger().bind()  # once: making one takes as long as what it does

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._framework(scope, receive, send)
            return
        given = next((value.decode("latin-1") for name, value in scope["headers"] if name == REQUEST_ID_BYTES), "")
        usable = given and SAFE_ID.fullmatch(given) and not _is_key(given, scope)
        request_id = given if usable else f"{random.getrandbits(128):032x}"
        notes: dict[str, object] = {}
        scope[NOTES] = notes
        status = CLIENT_WENT_AWAY
        started_s = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID_BYTES, request_id.encode())]
            await send(message)

        before = IN_REQUEST.set(request_id)
        try:
            if scope["path"] == self._path and scope["method"] == "POST":
                notes[ROUTE] = self._path
                await self._endpoint(plain_headers(scope), notes)(scope, receive, send_with_id)
            else:
                await self._framework(scope, receive, send_with_id)
        except Exception as error:  # the border of the process; one of an answer that has begun can only end it
            if status != CLIENT_WENT_AWAY:
                raise
            await self._answer_to(error, notes)(scope, receive, send_with_id)
        finally:
            self._note(scope, status, time.perf_counter() - started_s, notes)
            IN_REQUEST.reset(before)

    def _answer_to(self, error: Exception, notes: dict[str, object]) -> Response:
        if isinstance(error, RequestError):
            return refusal(error, notes, self._metrics)
        return _overloaded(error) if isinstance(error, Overloaded) else _unforeseen(error)

    def _note(self, scope: Scope, status: int, seconds: float, notes: dict[str, object]) -> None:
        route = str(notes.pop(ROUTE, None) or getattr(scope.get("route"), "path", "unknown"))
        self._metrics.count_answer(route, status, seconds)
        write = self._log.debug if route in ("/healthz", "/readyz", "/metrics") else self._log.info
        # Never the query, which may hold a key.
        write("answered", method=scope["method"], route=route, status=status, seconds=round(seconds, 4), **notes)


def _is_key(given: str, scope: Scope) -> bool:
    """Whether a client sent its key as the request's id, too, which the log repeats."""
    ending = b" " + given.encode("latin-1")
    return any(name == b"authorization" and value.endswith(ending) for name, value in scope["headers"])


def plain_headers(scope: Scope) -> dict[str, str]:
    """The headers of a request by their names in small letters, the first of each: looked up at once, unlike the framework's."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}


def refusal(error: RequestError, notes: dict[str, object], metrics: Metrics) -> Response:
    """The answer to a refused request; what stands in its log line."""
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    if isinstance(error, NoRoom):
        metrics.shed.labels(error.cause, str(notes.get("key", ""))).inc()
        headers = {"Retry-After": str(error.retry_after_s)}
    notes.update(pointer=error.pointer, reason=error.message)
    return JSONResponse(body_of(error), error.status, headers)


def _overloaded(error: Overloaded) -> Response:
    return _answer(503, str(error), {"Retry-After": str(RETRY_FULL_S)})


def add_error_handlers(app: FastAPI, metrics: Metrics) -> None:
    """Answer every error in the one form that docs/protocol.md states."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestError)
        return refusal(error, request.scope.get(NOTES, {}), metrics)

    async def overloaded(request: Request, error: Exception) -> Response:
        assert isinstance(error, Overloaded)
        return _overloaded(error)

    async def of_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _answer(error.status_code, str(error.detail), dict(error.headers or {}))

    async def unforeseen(request: Request, error: Exception) -> Response:
        return _unforeseen(error)

    app.add_exception_handler(RequestError, refused)
    app.add_exception_handler(Overloaded, overloaded)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(Exception, unforeseen)


def _unforeseen(error: Exception) -> Response:
    trace = traceback.extract_tb(error.__traceback__)
    place = f"{trace[-1].filename}:{trace[-1].lineno}" if trace else "nowhere"
    structlog.get_logger().error("unforeseen", kind=type(error).__name__, place=place)  # its message may hold what was graded
    return _answer(500, "an error of the service; its log says more", {})


def _answer(status: int, message: str, headers: dict[str, Any]) -> Response:
    return JSONResponse(error_body([("", message)]), status, headers)
