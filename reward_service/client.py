"""Call the reward service from a trainer: standard library only, Python 3.9 or newer, safe to share between threads.

    client = RewardClient("http://127.0.0.1:8000", key="...")
    answer = client.grade([{"group_id": "p7", "task": "math", "prompt": "...", "reference": {"answer": "42"},
                            "rollouts": [{"rollout_id": "0", "completion": "<think>...</think>...\\boxed{42}"}]}])
    rewards = [grade.reward for grade in answer.grades]      # one per rollout, in the order sent

A rollout that the service could not score has no reward. It never comes back as 0: `grade` raises `UnscoredError` unless it is told to
return such grades, so that no trainer takes an infrastructure failure for a bad completion by mistake.

    RewardClientError
    +-- RequestRefused        the request's fault: a 4xx that repeating will not help; names the fields
    |   +-- TestSetsMissing   it names test sets that the service does not have, and that were not given to be uploaded
    +-- ServiceUnavailable    no answer within the time allowed, however often it was tried
    +-- ServiceFailed         the service's fault: an answer that is none
    |   +-- StreamIncomplete  a stream broke off before its end line; what was yielded before is valid
    +-- UnscoredError         rollouts without a reward, with the reason of each
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from reward_service.client_answers import Grade as Grade
from reward_service.client_answers import GradeResponse as GradeResponse
from reward_service.client_answers import Readiness as Readiness
from reward_service.client_answers import RequestRefused as RequestRefused
from reward_service.client_answers import RewardClientError as RewardClientError
from reward_service.client_answers import ServiceFailed as ServiceFailed
from reward_service.client_answers import ServiceUnavailable as ServiceUnavailable
from reward_service.client_answers import StreamIncomplete as StreamIncomplete
from reward_service.client_answers import TestSetsMissing as TestSetsMissing
from reward_service.client_answers import Unscored as Unscored
from reward_service.client_answers import UnscoredError as UnscoredError
from reward_service.client_answers import all_scored, grade_of, merged, parsed, refusal_of, response_of, unscored_of
from reward_service.client_bodies import Body, TestSet, encode_testset, grade_bodies, name_of, packed
from reward_service.client_bodies import testset_name as testset_name
from reward_service.connections import Answer, Pool, pause_s, seconds_of

RETRIED_STATUSES = (408, 429, 502, 503, 504)
UPLOAD_ROUNDS = 4  # a busy service may evict a test set before it is used
JSON = "application/json"
TOTAL_S = 900.0
MARGIN_S = 300.0  # from a deadline, by which grading has started, to its end
SILENCE_S = 30.0  # a stream sends a heartbeat every 5 s: six missing ones mean that nobody is there

AT_ONCE = 4  # bodies of one batch that are sent at the same time

OnUnscored = Literal["raise", "return"]


class RewardClient:
    """A service over pools of kept connections; threads may share it, and a forked child opens connections of its own.

    `url` is its address, or several of replicas: where one does not answer, the next one is asked, and stays the first to be asked.
    `total_s` bounds one call with all its repetitions; how long grading may wait for its turn is `deadline_s` of each call, and where
    `total_s` is not stated it is 900, or 300 more than the deadline if that is later. `connections` is how many idle connections are
    kept. Certificates are checked against `tls`, or the system's authorities.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        key: str | None = None,
        *,
        total_s: float | None = None,
        connect_s: float = 10.0,
        connections: int = 32,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        urls = [url] if isinstance(url, str) else list(url)
        if not urls:
            raise ValueError("the service's address is needed")
        self._pools = [Pool(one, connect_s, connections, tls) for one in urls]
        self._at = 0
        self._headers = {"Content-Type": "application/json"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        self._total_s = total_s

    def grade(
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
        """Grade all rollouts of some groups; blocks until every one is known. Uploads those of `testsets`, by name, that the service lacks.

        Many groups are sent in several bodies, some of them at the same time. Each has a `request_id` (this one, or a fresh one), so that a
        repetition joins the work instead of doing it again.

        Raises:
            UnscoredError: rollouts without a reward (never the completion's fault), unless `on_unscored` is "return".
            RequestRefused: the request's fault.
            ServiceUnavailable, ServiceFailed: the service's.
            ValueError: the caller's: `deadline_s` is not below the stated `total_s`.
        """
        bodies, within_s = grade_bodies(groups, scheme, detail, deadline_s, priority, request_id), self._within_s(deadline_s)

        def graded(body: Body) -> GradeResponse:
            return response_of(parsed(self._graded(body, JSON, testsets or {}, within_s).text))

        if len(bodies) == 1:
            response = graded(bodies[0])
        else:
            with ThreadPoolExecutor(AT_ONCE) as threads:
                response = merged(list(threads.map(graded, bodies)))
        return all_scored(response) if on_unscored == "raise" else response

    def stream(
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
    ) -> Iterator[Grade]:
        """Yield each grade the moment it is known, in any order. Nothing is sent before the first is asked for. The rest: see `grade`.

        Raises:
            UnscoredError: at the end, after all other grades were yielded; unless `on_unscored` is "return", which yields them too.
            StreamIncomplete: the stream broke off; not every rollout was yielded.
            RequestRefused, ServiceUnavailable, ServiceFailed: before the first grade.
        """
        bodies, within_s = grade_bodies(groups, scheme, detail, deadline_s, priority, request_id), self._within_s(deadline_s)
        unscored: list[Unscored] = []
        for body in bodies:
            with self._graded(body, "application/x-ndjson", testsets or {}, within_s, whole=False) as answer:
                for line in _lines(answer):
                    if line.get("type") != "grade":
                        continue
                    grade = grade_of(line)
                    if grade.outcome == "unscored" and on_unscored == "raise":
                        unscored.append(unscored_of(grade))
                    else:
                        yield grade
        if unscored:
            raise UnscoredError(unscored)

    def put_testset(self, testset: TestSet) -> str:
        """Upload a test set unless the service has it; the name that references call it by: `{"testset": name}`.

        Raises:
            RequestRefused: the request's fault: no test set, or too large.
            ServiceUnavailable, ServiceFailed: the service's; `ServiceFailed` where it has no room.
        """
        data = encode_testset(testset)
        name = name_of(data)
        path = "/v1/testsets/" + name.partition(":")[2]
        within_s = self._within_s(None)
        if self._answered("HEAD", path, None, JSON, within_s, (200, 404)).status == 404:
            self._answered("PUT", path, packed(data), JSON, within_s, (200, 201))
        return name

    def health(self) -> bool:
        """Whether the service answers at all; tried once."""
        try:
            return self._probe("/healthz").status == 200
        except (OSError, http.client.HTTPException):
            return False

    def ready(self) -> Readiness:
        """Whether the service takes work now, with its report; tried once.

        Raises:
            ServiceUnavailable: nothing answers there.
            ServiceFailed: what answers is no reward service.
        """
        try:
            answer = self._probe("/readyz")
        except (OSError, http.client.HTTPException) as error:
            raise ServiceUnavailable(f"no answer from {self._pool().address}: {type(error).__name__}") from error
        return Readiness(answer.status == 200, parsed(answer.text))

    def close(self) -> None:
        """Close the idle connections; the client may be used again."""
        for pool in self._pools:
            pool.clear()

    def __enter__(self) -> RewardClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _pool(self) -> Pool:
        """The replica that is asked first now."""
        return self._pools[self._at % len(self._pools)]

    def _probe(self, path: str) -> Answer:
        pool = self._pool()
        answer = self._attempt(pool, "GET", path, None, JSON, time.monotonic() + pool.connect_s)
        answer.read()
        return answer

    def _within_s(self, deadline_s: float | None) -> float:
        """How long a call may take: never less than the service was told that grading may wait."""
        if self._total_s is None:
            return max(TOTAL_S, (deadline_s or 0.0) + MARGIN_S)
        if deadline_s is not None and deadline_s >= self._total_s:
            raise ValueError(f"the client's total_s ({self._total_s:g}) must be greater than deadline_s ({deadline_s:g})")
        return self._total_s

    def _graded(self, body: Body, accept: str, testsets: Mapping[str, TestSet], within_s: float, whole: bool = True) -> Answer:
        """The answer to a request to grade, after uploads of the test sets that are missing; again where they have left meanwhile."""
        for left in reversed(range(UPLOAD_ROUNDS)):
            try:
                return self._answered("POST", "/v1/grade", body, accept, within_s, whole=whole)
            except TestSetsMissing as error:
                if not left or not all(name in testsets for name in error.missing):
                    raise
                for name in error.missing:
                    if self.put_testset(testsets[name]) != name:
                        raise ValueError(f"the test set given as {name} is another one") from None
        raise AssertionError("unreachable")

    def _answered(
        self, method: str, path: str, body: Body | None, accept: str, within_s: float, wanted: Sequence[int] = (200,), whole: bool = True
    ) -> Answer:
        """An answer of a `wanted` status, read to its end where it is wanted `whole`, after as many attempts as the time allows.

        Nothing here has side effects that count twice, so that every request may be repeated.
        """
        deadline = time.monotonic() + within_s
        attempts = 0
        while True:
            status, retry_after, at, pool = None, None, self._at, self._pool()
            try:
                answer = self._attempt(pool, method, path, body, accept, deadline)
                status, retry_after = answer.status, seconds_of(answer.retry_after)
                if status not in wanted or whole:
                    answer.read()
                if status in wanted:
                    return answer
                if status not in RETRIED_STATUSES:
                    raise refusal_of(status, answer.text)
                failure = f"{pool.address} answers {status}"
            except ssl.SSLCertVerificationError as error:
                raise ServiceUnavailable(f"the certificate of {pool.address} is not trusted") from error
            except (OSError, http.client.HTTPException) as error:
                failure = f"no answer from {pool.address}: {type(error).__name__}"
            attempts += 1
            wait_s = 0.0 if attempts < len(self._pools) else pause_s(attempts - len(self._pools) + 1, retry_after)
            if at == self._at:  # no other thread has moved on meanwhile
                self._at = at + 1
            if time.monotonic() + wait_s >= deadline:
                raise ServiceUnavailable(f"{failure} (attempts: {attempts}, within {within_s:g} s)", status)
            time.sleep(wait_s)

    def _attempt(self, pool: Pool, method: str, path: str, body: Body | None, accept: str, deadline: float) -> Answer:
        """Send once; a kept connection that turns out to be closed by the other side is replaced at once by a new one."""
        headers = {**self._headers, **(body.headers if body else {}), "Accept": accept}
        data = body.data if body else None
        connection = pool.take()
        if connection is not None:
            with contextlib.suppress(ConnectionError, http.client.BadStatusLine, http.client.CannotSendRequest):
                return pool.exchange(connection, method, path, data, headers, deadline)
        return pool.exchange(pool.connect(), method, path, data, headers, deadline)


def _lines(answer: Answer) -> Iterator[Mapping[str, Any]]:
    """The objects of an NDJSON stream, without its end line.

    Raises:
        StreamIncomplete: there was no end line.
    """
    rest, ended = b"", False
    try:
        for chunk in answer.chunks(SILENCE_S):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in map(parsed, filter(None, lines)):
                ended = ended or line.get("type") == "end"
                if not ended:
                    yield line
    except (OSError, http.client.HTTPException) as error:
        raise StreamIncomplete(f"the stream broke off: {type(error).__name__}") from error
    if not ended:
        raise StreamIncomplete("the stream ended without its end line")
