"""Routes of uploaded test sets: put, look, fetch, and ask which of many are missing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import BinaryIO

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from reward_service.errors import Cancelled, RequestError
from reward_service.server.answers import RefusalModel
from reward_service.server.bodies import Body, check_headers, pieces_of, receive_into
from reward_service.server.decompress import Decoder, Encoding, decompress
from reward_service.server.json_text import read_json
from reward_service.server.keys import Account
from reward_service.server.openapi import MISSING_EXTRA, TEST_SET_EXTRA
from reward_service.server.routes import REFUSED, AccountOf, ServiceOf, with_key
from reward_service.server.service import Service
from reward_service.server.testsets import PREFIX

MAX_PROBE_BYTES = 1 << 20  # of a body that asks what is missing: about 14,000 digests
FETCHED_BYTES = 1 << 18
DIGEST = re.compile(rf"(?:{PREFIX})?([0-9a-f]{{64}})")

OWN_REFUSED = {
    404: "No such test set is here.",
    507: "The test set does not fit on this server's disk, or nothing can be written there; `message` says which.",
}

router = APIRouter(prefix="/v1", dependencies=[Depends(with_key)])


class StoredModel(BaseModel):
    """The answer to an upload: what a reference names."""

    testset: str


class MissingModel(BaseModel):
    """The test sets that have to be uploaded, in the order asked."""

    missing: list[str]


def _refusals(*statuses: int) -> dict[int | str, dict[str, object]]:
    return {status: {"model": RefusalModel, "description": ({**REFUSED, **OWN_REFUSED})[status]} for status in statuses}


@router.put(
    "/testsets/{digest}",
    response_model=StoredModel,
    status_code=201,
    responses={
        200: {"model": StoredModel, "description": "It was here already."},
        **_refusals(400, 401, 408, 413, 415, 422, 429, 503, 507),
    },
    openapi_extra=TEST_SET_EXTRA,
    summary="Upload a test set",
)
async def put_test_set(service: ServiceOf, account: AccountOf, digest: str) -> Response:
    """Store a test set under the SHA-256 of its uncompressed bytes; 201 where it is new, 200 where it was here already."""
    return _UploadResponse(service, account, _digest(digest))


@router.head("/testsets/{digest}", responses={404: {"description": OWN_REFUSED[404]}}, summary="Whether a test set is here")
async def head_test_set(service: ServiceOf, digest: str) -> Response:
    """200 where it is here, 404 where not."""
    if await service.test_sets.missing([_digest(digest)]):
        raise _not_here()
    return Response(media_type="application/json")


@router.get("/testsets/{digest}", responses=_refusals(401, 404, 422), summary="Fetch a test set")
async def get_test_set(service: ServiceOf, digest: str) -> Response:
    """The bytes as they were uploaded, uncompressed."""
    file = await asyncio.to_thread(service.test_sets.files.open, _digest(digest))
    if file is None:
        raise _not_here()
    return StreamingResponse(_fetched(open(file, "rb", buffering=0)), media_type="application/json")


@router.post(
    "/testsets:missing",
    response_model=MissingModel,
    responses=_refusals(400, 401, 408, 413, 415, 422, 429, 503),
    openapi_extra=MISSING_EXTRA,
    summary="Which test sets have to be uploaded",
)
async def missing_test_sets(service: ServiceOf, account: AccountOf) -> Response:
    """Of up to about 14,000 digests those that are not here; the others count as used now."""
    return _ProbeResponse(service, account)


def _digest(text: str) -> str:
    found = DIGEST.fullmatch(text)
    if found is None:
        raise RequestError("", "the address must end in the SHA-256 of the body: 64 small hexadecimal digits", status=422)
    return found[1]


def _not_here() -> RequestError:
    return RequestError("", "no such test set is here", status=404)


async def _fetched(stored: BinaryIO) -> AsyncIterator[bytes]:
    decoder = Decoder(Encoding.ZSTD)
    with stored:
        while packed := await asyncio.to_thread(stored.read, FETCHED_BYTES):
            for plain in decoder.feed(packed):
                yield bytes(plain)
                await asyncio.sleep(0)


class _UploadResponse(Response):
    """Reads the request itself, so that no byte of it is read before there is room, nor kept in memory."""

    def __init__(self, service: Service, account: Account, digest: str) -> None:
        super().__init__()
        self._service, self._account, self._digest = service, account, digest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request. Raises RequestError, Overloaded before the answer has begun."""
        settings = self._service.settings
        encoding = check_headers(Headers(scope=scope), settings.max_body_bytes)
        with self._service.admission.enter(self._account):
            try:
                pieces = pieces_of(receive, settings.max_body_bytes, settings.body_wait_s)
                created = await self._service.test_sets.put(self._digest, pieces, encoding)
            except Cancelled:
                self._service.metrics.disconnects.inc()
                return
        await JSONResponse({"testset": PREFIX + self._digest}, 201 if created else 200)(scope, receive, send)


class _ProbeResponse(Response):
    """Reads a short request itself."""

    def __init__(self, service: Service, account: Account) -> None:
        super().__init__()
        self._service, self._account = service, account

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request. Raises RequestError before the answer has begun."""
        settings = self._service.settings
        with self._service.admission.enter(self._account) as ticket, Body(_probe_encoding(scope)) as body:
            try:
                await receive_into(body, receive, MAX_PROBE_BYTES, settings.body_wait_s, ticket.hold_bytes)
            except Cancelled:
                self._service.metrics.disconnects.inc()
                return
            asked = await asyncio.to_thread(_asked, body)
            missing = set(await self._service.test_sets.missing(dict.fromkeys(asked)))
        found = [PREFIX + digest for digest in dict.fromkeys(asked) if digest in missing]
        await JSONResponse({"missing": found})(scope, receive, send)


def _probe_encoding(scope: Scope) -> Encoding:
    return check_headers(Headers(scope=scope), MAX_PROBE_BYTES)


def _asked(body: Body) -> list[str]:
    value = read_json(decompress(body.plain(), body.encoding, MAX_PROBE_BYTES), MAX_PROBE_BYTES)
    testsets = value.get("testsets") if isinstance(value, dict) and len(value) == 1 else None
    if not isinstance(testsets, list):
        raise RequestError("", 'the body must be {"testsets": ["sha256:...", ...]}')
    found: list[str] = []
    for index, text in enumerate(testsets):
        digest = DIGEST.fullmatch(text) if isinstance(text, str) and text.startswith(PREFIX) else None
        if digest is None:
            raise RequestError(f"/testsets/{index}", "must be sha256: and 64 small hexadecimal digits")
        found.append(digest[1])
    return found
