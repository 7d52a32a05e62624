"""Call the reward service from coroutines: `client.py` over httpx (the extra `client`), thousands of calls at a time over kept connections.

    async with AsyncRewardClient("http://127.0.0.1:8000", key="...") as client:
        answer = await client.grade(groups)
        async for grade in client.stream(groups): ...

Errors, records and rules are those of `client.py`: a rollout without a reward raises `UnscoredError` and never comes back as 0.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

import httpx

from reward_service.client import AT_ONCE, JSON, MARGIN_S, RETRIED_STATUSES, SILENCE_S, TOTAL_S, UPLOAD_ROUNDS, OnUnscored
from reward_service.client_answers import (
    Grade,
    GradeResponse,
    ServiceUnavailable,
    StreamIncomplete,
    TestSetsMissing,
    Unscored,
    UnscoredError,
    all_scored,
    grade_of,
    merged,
    parsed,
    refusal_of,
    response_of,
    unscored_of,
)
from reward_service.client_bodies import Body, TestSet, encode_testset, grade_bodies, name_of, packed
from reward_service.connections import pause_s, seconds_of


class AsyncRewardClient:
    """A service, or several replicas of it, over kept connections; of one event loop. `total_s`: see `RewardClient`.

    At most `connections` requests are on their way at a time; the others wait here, and not at the server.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        key: str | None = None,
        *,
        total_s: float | None = None,
        connect_s: float = 10.0,
        connections: int = 1024,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._urls = [one.rstrip("/") for one in ([url] if isinstance(url, str) else url)]
        if not self._urls or not all(one.startswith(("http://", "https://")) for one in self._urls):
            raise ValueError("the service's address must look like http://host:port or https://host:port/prefix")
        self._at = 0
        self._total_s = total_s
        self._room = asyncio.Semaphore(connections)
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        headers = {"Content-Type": JSON} | ({} if key is None else {"Authorization": f"Bearer {key}"})
        timeout = httpx.Timeout(None, connect=connect_s)
        self._http = httpx.AsyncClient(limits=limits, headers=headers, timeout=timeout, transport=transport, trust_env=False)

    async def __aenter__(self) -> AsyncRewardClient:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def grade(
        self,
        groups: Iterable[Mapping[str, Any]],
        scheme: str | Mapping[str, Any] = "magistral",
        *,
        detail: str = "brief",
        deadline_s: float | None = None,
        priority: str | None = None,
        on_unscored: OnUnscored = "raise",
        testsets: Mapping[str, TestSet] | None = None,
        request_id: str | None = None,
    ) -> GradeResponse:
        """Grade all rollouts of some groups; see `RewardClient.grade`, also for what is raised."""
        bodies, within_s = grade_bodies(groups, scheme, detail, deadline_s, priority, request_id), self._within_s(deadline_s)
        turns = asyncio.Semaphore(AT_ONCE)

        async def graded(body: Body) -> GradeResponse:
            async with turns:
                return response_of(parsed(await self._graded(body, testsets or {}, within_s)))

        response = merged(await _all([graded(body) for body in bodies]))
        return all_scored(response) if on_unscored == "raise" else response

    async def stream(
        self,
        groups: Iterable[Mapping[str, Any]],
        scheme: str | Mapping[str, Any] = "magistral",
        *,
        detail: str = "brief",
        deadline_s: float | None = None,
        priority: str | None = None,
        on_unscored: OnUnscored = "raise",
        testsets: Mapping[str, TestSet] | None = None,
        request_id: str | None = None,
    ) -> AsyncIterator[Grade]:
        """Yield each grade the moment it is known, in any order; see `RewardClient.stream`, also for what is raised.

        A stream that breaks off is taken up again under its `request_id`, as long as the time allows; no grade is yielded twice.
        """
        bodies, within_s = grade_bodies(groups, scheme, detail, deadline_s, priority, request_id), self._within_s(deadline_s)
        unscored: list[Unscored] = []
        for body in bodies:
            seen: set[tuple[str, str]] = set()
            async for grade in self._streamed(body, testsets or {}, within_s):
                if (grade.group_id, grade.rollout_id) in seen:
                    continue
                seen.add((grade.group_id, grade.rollout_id))
                if grade.outcome == "unscored" and on_unscored == "raise":
                    unscored.append(unscored_of(grade))
                else:
                    yield grade
        if unscored:
            raise UnscoredError(unscored)

    async def put_testset(self, testset: TestSet) -> str:
        """Upload a test set unless the service has it; the name that references call it by. See `RewardClient.put_testset`."""
        data = encode_testset(testset)
        name = name_of(data)
        path = "/v1/testsets/" + name.partition(":")[2]
        within_s = self._within_s(None)
        if (await self._answered("HEAD", path, None, within_s, (200, 404))).status_code == 404:
            await self._answered("PUT", path, packed(data), within_s, (200, 201))
        return name

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _within_s(self, deadline_s: float | None) -> float:
        if self._total_s is None:
            return max(TOTAL_S, (deadline_s or 0.0) + MARGIN_S)
        if deadline_s is not None and deadline_s >= self._total_s:
            raise ValueError(f"the client's total_s ({self._total_s:g}) must be greater than deadline_s ({deadline_s:g})")
        return self._total_s

    async def _graded(self, body: Body, testsets: Mapping[str, TestSet], within_s: float) -> bytes:
        for left in reversed(range(UPLOAD_ROUNDS)):
            try:
                return (await self._answered("POST", "/v1/grade", body, within_s)).content
            except TestSetsMissing as error:
                await self._upload(error, testsets, left)
        raise AssertionError("unreachable")

    async def _upload(self, error: TestSetsMissing, testsets: Mapping[str, TestSet], left: int) -> None:
        """Upload what a request was refused for. Raises the refusal where that is not possible."""
        if not left or not all(name in testsets for name in error.missing):
            raise error
        for name in error.missing:
            if await self.put_testset(testsets[name]) != name:
                raise ValueError(f"the test set given as {name} is another one")

    async def _streamed(self, body: Body, testsets: Mapping[str, TestSet], within_s: float) -> AsyncIterator[Grade]:
        """The grades of one body; some come again after the stream broke off and was taken up again."""
        deadline, attempts, uploads = time.monotonic() + within_s, 0, UPLOAD_ROUNDS
        while True:
            status, retry_after, at = None, None, self._at
            try:
                async with self._room, self._http.stream("POST", self._url("/v1/grade"), **_sent(body, "application/x-ndjson")) as answer:
                    status, retry_after = answer.status_code, seconds_of(answer.headers.get("Retry-After"))
                    if status == 200:
                        async for line in _lines(answer):
                            if line.get("type") == "grade":
                                yield grade_of(line)
                        return
                    refused = await answer.aread()
                if status not in RETRIED_STATUSES:
                    raise refusal_of(status, refused)
                failure = f"{self._urls[at % len(self._urls)]} answers {status}"
            except TestSetsMissing as error:
                uploads -= 1
                await self._upload(error, testsets, uploads)
                continue
            except (httpx.TransportError, StreamIncomplete) as error:
                failure = f"no whole answer from {self._urls[at % len(self._urls)]}: {type(error).__name__}"
            attempts += 1
            await self._pause(attempts, at, retry_after, deadline, failure, status)

    async def _answered(self, method: str, path: str, body: Body | None, within_s: float, wanted: Sequence[int] = (200,)) -> httpx.Response:
        """An answer of a `wanted` status, after as many attempts as the time allows; nothing here counts twice."""
        deadline, attempts = time.monotonic() + within_s, 0
        while True:
            status, retry_after, at = None, None, self._at
            try:
                async with self._room, asyncio.timeout(max(0.001, deadline - time.monotonic())):
                    answer = await self._http.request(method, self._url(path), **_sent(body, JSON))
                status, retry_after = answer.status_code, seconds_of(answer.headers.get("Retry-After"))
                if status in wanted:
                    return answer
                if status not in RETRIED_STATUSES:
                    raise refusal_of(status, answer.content)
                failure = f"{self._urls[at % len(self._urls)]} answers {status}"
            except (httpx.TransportError, TimeoutError) as error:
                failure = f"no answer from {self._urls[at % len(self._urls)]}: {type(error).__name__}"
            attempts += 1
            await self._pause(attempts, at, retry_after, deadline, failure, status)

    def _url(self, path: str) -> str:
        return self._urls[self._at % len(self._urls)] + path

    async def _pause(self, attempts: int, at: int, retry_after: float | None, deadline: float, failure: str, status: int | None) -> None:
        """Turn to the next replica, and once all have been asked wait. Raises ServiceUnavailable where the time is up."""
        if at == self._at:  # nobody else has moved on meanwhile
            self._at = at + 1
        count = len(self._urls)
        wait_s = 0.0 if attempts < count else pause_s(attempts - count + 1, retry_after)
        if time.monotonic() + wait_s >= deadline:
            raise ServiceUnavailable(f"{failure} (attempts: {attempts})", status)
        await asyncio.sleep(wait_s)


def _sent(body: Body | None, accept: str) -> dict[str, Any]:
    headers = {"Accept": accept, **(body.headers if body else {})}
    return {"headers": headers, "content": body.data if body else None}


async def _lines(answer: httpx.Response) -> AsyncIterator[Mapping[str, Any]]:
    """The objects of an NDJSON stream, without its end line.

    Raises:
        StreamIncomplete: there was no end line, or nothing came for SILENCE_S.
    """
    rest, ended, chunks = b"", False, answer.aiter_bytes()
    while True:
        try:
            async with asyncio.timeout(SILENCE_S):
                chunk = await anext(chunks, None)
        except TimeoutError:
            raise StreamIncomplete(f"nothing came for {SILENCE_S:g} seconds") from None
        if chunk is None:
            break
        *lines, rest = (rest + chunk).split(b"\n")
        for line in filter(None, lines):
            value = json.loads(line)
            ended = ended or value.get("type") == "end"
            if not ended:
                yield value
    if not ended:
        raise StreamIncomplete("the stream ended without its end line")


async def _all(work: Sequence[Any]) -> list[GradeResponse]:
    """The results of all; one that fails ends the others."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
