"""What `client.py` and `async_client.py` give back: records and errors. Standard library only, Python 3.9 or newer."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

MISSING_STATUS = 424


class RewardClientError(Exception):
    """Base of what this client raises. No message carries a prompt, a completion or a key."""


class RequestRefused(RewardClientError):
    """The request's fault. `pointer` is a JSON pointer (RFC 6901) to the first wrong field, `errors` all (pointer, message) pairs told."""

    def __init__(self, status: int, errors: Sequence[tuple[str, str]]) -> None:
        self.status = status
        self.errors = tuple(errors)
        self.pointer, self.message = self.errors[0]
        super().__init__(f"refused with {status}: {self.pointer or '/'}: {self.message}")


class TestSetsMissing(RequestRefused):
    """The request names test sets that have to be uploaded: `missing`. Give them as `testsets`, or call `put_testset`."""

    __test__ = False

    def __init__(self, status: int, errors: Sequence[tuple[str, str]], missing: Sequence[str]) -> None:
        super().__init__(status, errors)
        self.missing = tuple(missing)


class ServiceUnavailable(RewardClientError):
    """No answer within the time allowed. `status` is the last HTTP status, or None where no connection lasted."""

    def __init__(self, message: str, status: int | None = None) -> None:
        self.status = status
        super().__init__(message)


class ServiceFailed(RewardClientError):
    """The service's fault: an unforeseen status, or an answer that is not what the protocol says."""


class StreamIncomplete(ServiceFailed):
    """The stream ended without its end line. The grades it yielded are valid; send the missing rollouts again."""


class Unscored(NamedTuple):
    """One rollout without a reward, and why (`bad_reference`, `deadline`, `overloaded`, ...)."""

    group_id: str
    rollout_id: str
    reason: str


class UnscoredError(RewardClientError):
    """Some rollouts have no reward: `unscored` lists them. `response` holds all grades (None where they were streamed)."""

    def __init__(self, unscored: Sequence[Unscored], response: GradeResponse | None = None) -> None:
        self.unscored = tuple(unscored)
        self.response = response
        reasons = sorted({entry.reason for entry in self.unscored})
        super().__init__(f"{len(self.unscored)} rollouts have no reward ({', '.join(reasons)})")


@dataclass(frozen=True)
class Grade:
    """One rollout's grade. `reward`, `correctness` and the values of `terms` are None exactly when `outcome` is "unscored"."""

    group_id: str
    rollout_id: str
    outcome: str
    reward: float | None
    correctness: float | None
    terms: Mapping[str, float | None]
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GradeResponse:
    """One grade per rollout, in the order sent; a summary per group; which scheme and which versions decided."""

    grades: tuple[Grade, ...]
    groups: tuple[Mapping[str, Any], ...]
    scheme: Mapping[str, Any]
    service: Mapping[str, Any]


@dataclass(frozen=True)
class Readiness:
    """Whether the service takes work now, and its own report on what works there."""

    ready: bool
    report: Mapping[str, Any]


def parsed(text: bytes) -> Mapping[str, Any]:
    """The JSON object that a body holds. Raises ServiceFailed."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ServiceFailed("an answer that is not JSON") from error
    if not isinstance(value, dict):
        raise ServiceFailed("an answer that is not a JSON object")
    return value


def grade_of(fields: Mapping[str, Any]) -> Grade:
    """A grade of the wire. Raises ServiceFailed."""
    try:
        return Grade(
            group_id=fields["group_id"],
            rollout_id=fields["rollout_id"],
            outcome=fields["outcome"],
            reward=fields["reward"],
            correctness=fields["correctness"],
            terms=fields["terms"],
            detail=fields["detail"],
        )
    except KeyError as error:
        raise ServiceFailed(f"a grade without {error}") from error


def response_of(fields: Mapping[str, Any]) -> GradeResponse:
    """A whole answer of the wire. Raises ServiceFailed."""
    try:
        grades = tuple(grade_of(grade) for grade in fields["grades"])
        return GradeResponse(grades, tuple(fields["groups"]), fields["scheme"], fields["service"])
    except KeyError as error:
        raise ServiceFailed(f"an answer without {error}") from error


def unscored_of(grade: Grade) -> Unscored:
    """What an unscored grade says."""
    return Unscored(grade.group_id, grade.rollout_id, str(grade.detail.get("reason", "")))


def all_scored(response: GradeResponse) -> GradeResponse:
    """The same response. Raises UnscoredError where rollouts have no reward."""
    unscored = [unscored_of(grade) for grade in response.grades if grade.outcome == "unscored"]
    if unscored:
        raise UnscoredError(unscored, response)
    return response


def refusal_of(status: int, text: bytes) -> RewardClientError:
    """The error that an answer of 400 or above stands for."""
    if not 400 <= status < 500:
        return ServiceFailed(f"unforeseen status {status}")
    missing = None
    try:
        body = json.loads(text)
        if status == MISSING_STATUS:
            missing = [str(name) for name in body["missing"]]
        errors = [(str(error["pointer"]), str(error["message"])) for error in body.get("errors", [body["error"]])]
    except (ValueError, TypeError, KeyError, AttributeError):
        errors = []
    errors = errors or [("", http.client.responses.get(status, "refused"))]
    return RequestRefused(status, errors) if missing is None else TestSetsMissing(status, errors, missing)


def merged(responses: Sequence[GradeResponse]) -> GradeResponse:
    """The answers to several bodies of one batch as one; `service` is the last one's."""
    grades = tuple(grade for response in responses for grade in response.grades)
    groups = tuple(group for response in responses for group in response.groups)
    return GradeResponse(grades, groups, responses[0].scheme, responses[-1].service)
