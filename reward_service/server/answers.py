"""From records to the bytes of an answer: the one conversion on the way out."""

from __future__ import annotations

import collections
import functools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec
from pydantic import BaseModel

from reward_service.errors import RewardServiceError
from reward_service.records import Grade, GroupSummary, Outcome, Terms
from reward_service.scoring.scheme import Scheme
from reward_service.server.json_text import replace_surrogates

CHUNK_BYTES = 65_536
TERM_NAMES = ("format", "correctness", "length", "language")
HEARTBEAT = b'{"type":"heartbeat"}\n'

_encode = msgspec.json.encode


class TermsModel(BaseModel):
    """The four weighted terms; all null exactly when the outcome is `unscored`."""

    format: float | None
    correctness: float | None
    length: float | None
    language: float | None


class GradeModel(BaseModel):
    """One rollout's grade."""

    group_id: str
    rollout_id: str
    outcome: Literal["correct", "incorrect", "format_violation", "unscored"]
    reward: float | None
    correctness: float | None
    terms: TermsModel
    detail: dict[str, object]


class GroupModel(BaseModel):
    """Statistics of a group over its scored rollouts."""

    group_id: str
    rollouts: int
    scored: int
    reward_mean: float | None
    reward_std: float | None
    zero_advantage: bool | None


class SchemeModel(BaseModel):
    """The scheme that decided, and the digest of everything in it that decides a reward."""

    name: str
    digest: str


class ServiceModel(BaseModel):
    """What graded, and how long it took."""

    versions: dict[str, str]
    took_s: float


class AnswerModel(BaseModel):
    """The answer to `POST /v1/grade`: one grade per rollout, in the request's order."""

    grades: list[GradeModel]
    groups: list[GroupModel]
    scheme: SchemeModel
    service: ServiceModel


class ErrorModel(BaseModel):
    """One thing that is wrong with a request: a JSON pointer to the field, and what is wrong with it."""

    pointer: str
    message: str


class RefusalModel(BaseModel):
    """The body of every answer of 400 or above; `errors` lists all findings where there are several,
    `missing` the test sets to upload (424)."""

    error: ErrorModel
    errors: list[ErrorModel] = []
    missing: list[str] = []


def encode_grade(grade: Grade) -> bytes:
    """A grade as a JSON object.

    Raises:
        RewardServiceError: ours: a number of it is not finite.
    """
    fields: dict[str, object] = {
        "group_id": grade.group_id,
        "rollout_id": grade.rollout_id,
        "outcome": grade.outcome.value,
        "reward": _number(grade.reward),
        "correctness": _number(grade.correctness),
        "terms": _terms(grade.terms),
        "detail": grade.detail,
    }
    return encode(fields)


def encode(value: object) -> bytes:
    """A value as JSON in UTF-8, whatever characters its texts hold."""
    try:
        return _encode(value)
    except UnicodeEncodeError:  # lone surrogates, of output that was decoded so
        return _encode(json.loads(replace_surrogates(json.dumps(value, ensure_ascii=False, default=_plain))))


def grade_line(encoded: bytes) -> bytes:
    """The line of the stream that carries an encoded grade."""
    return b'{"type":"grade",' + encoded[1:] + b"\n"


def end_line(grades: Iterable[Grade], groups: Sequence[GroupSummary], scheme: Scheme, service: Mapping[str, object]) -> bytes:
    """The last line of the stream."""
    counts = collections.Counter(grade.outcome.value for grade in grades)
    fields: dict[str, object] = {"type": "end", "counts": {outcome.value: counts[outcome.value] for outcome in Outcome}}
    return encode({**fields, **_rest(groups, scheme, service)}) + b"\n"


def whole_answer(
    encoded: Iterable[bytes], summaries: Sequence[GroupSummary], scheme: Scheme, service: Mapping[str, object]
) -> Iterator[bytes]:
    """The JSON answer in pieces of about CHUNK_BYTES, of encoded grades in the order of the request."""
    buffer = bytearray(b'{"grades":[')
    separator = b""
    for grade in encoded:
        buffer += separator + grade
        separator = b","
        if len(buffer) >= CHUNK_BYTES:
            yield bytes(buffer)
            buffer.clear()
    buffer += b"]," + encode(_rest(summaries, scheme, service))[1:]
    yield bytes(buffer)


def service_fields(versions: Mapping[str, str], took_s: float) -> dict[str, object]:
    """The answer's `service`."""
    return {"versions": versions, "took_s": round(took_s, 6)}


def _rest(groups: Sequence[GroupSummary], scheme: Scheme, service: Mapping[str, object]) -> dict[str, object]:
    return {"groups": groups, "scheme": {"name": scheme.name, "digest": _digest(scheme)}, "service": service}


@functools.lru_cache(maxsize=256)
def _digest(scheme: Scheme) -> str:
    return scheme.digest


def _terms(terms: Terms | None) -> dict[str, float | None]:
    if terms is None:
        return dict.fromkeys(TERM_NAMES)
    return {
        "format": _number(terms.format),
        "correctness": _number(terms.correctness),
        "length": _number(terms.length),
        "language": _number(terms.language),
    }


def _number(value: float | None) -> float | None:
    if value is None:
        return None
    if not math.isfinite(value):
        raise RewardServiceError("a grade holds a number that is not finite")
    return value + 0.0  # never a negative zero


def _plain(value: object) -> object:
    return msgspec.to_builtins(value)
