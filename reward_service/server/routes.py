"""The routes of the native API, and those that operators ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from reward_service.server.answers import AnswerModel, RefusalModel
from reward_service.server.grading import GradingResponse
from reward_service.server.keys import Account
from reward_service.server.logs import NOTES
from reward_service.server.openapi import GRADE_EXTRA
from reward_service.server.pages import api_page
from reward_service.server.service import Service

GRADE = "/v1/grade"
router = APIRouter()
REFUSED = {
    400: "No JSON object: damaged, not UTF-8, NaN, a key twice in an object.",
    401: "The key is missing or wrong.",
    403: "The key has expired.",
    408: "The client stopped sending its body.",
    409: "The `request_id` belongs to another body, which came within the last ten minutes.",
    413: "The body, or the number of rollouts, is above this server's maximum.",
    415: "Another content type or content encoding than the known ones.",
    422: "A field is unknown, missing, of a wrong type, or out of range; the pointer names it.",
    424: "References name test sets that are not here; `missing` lists them. Upload these and repeat.",
    429: "The server is full, or the key has had its share or quota: come back after `Retry-After` seconds.",
    503: "The server is stopping: come back after `Retry-After` seconds.",
}


async def service_of(request: Request) -> Service:  # not `def`, which FastAPI would run in a thread
    """The service that a request came to."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


ServiceOf = Annotated[Service, Depends(service_of)]


async def with_key(request: Request, service: ServiceOf) -> Account:
    """Let in whoever has a key; before anything of the body is read."""
    account = service.keys.find(request.headers.get("authorization"))
    request.scope.get(NOTES, {})["key"] = account.name
    return account


AccountOf = Annotated[Account, Depends(with_key)]


def grading_endpoint(service: Service) -> Callable[[Mapping[str, str], dict[str, object]], GradingResponse]:
    """What answers `POST /v1/grade`, without the framework in between."""

    def endpoint(headers: Mapping[str, str], notes: dict[str, object]) -> GradingResponse:
        account = service.keys.find(headers.get("authorization"))
        notes["key"] = account.name
        return GradingResponse(service, account, headers)

    return endpoint


@router.post(
    GRADE,
    response_model=AnswerModel,
    responses={status: {"model": RefusalModel, "description": text} for status, text in REFUSED.items()},
    openapi_extra=GRADE_EXTRA,
    summary="Grade groups of rollouts",
)
async def grade(request: Request, service: ServiceOf, account: AccountOf) -> Response:
    """One grade per rollout in the request's order; with `Accept: application/x-ndjson` a line per grade the moment it is known."""
    return GradingResponse(service, account, request.headers)


@router.get("/v1/capacity", dependencies=[Depends(with_key)], responses={401: {"model": RefusalModel, "description": REFUSED[401]}})
async def capacity(service: ServiceOf) -> JSONResponse:
    """Free room, and the worst time that one rollout of each task may take here."""
    return JSONResponse(service.capacity())


@router.get("/healthz", response_class=PlainTextResponse)
async def healthz() -> PlainTextResponse:
    """Whether the process lives."""
    return PlainTextResponse("ok\n")


@router.get("/readyz", responses={503: {"description": "Something does not work here; the body says what, why, and what to do."}})
async def readyz(service: ServiceOf) -> JSONResponse:
    """Whether everything works here, and what does."""
    found = service.readiness()
    return JSONResponse(found, 200 if found["ready"] else 503)


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(service: ServiceOf) -> Response:
    """Counters for Prometheus."""
    return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """The API's description for people; needs no network."""
    return HTMLResponse(api_page(request.app.openapi()))
