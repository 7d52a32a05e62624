"""The bodies that `client.py` sends: JSON, compressed where that pays. Standard library only, Python 3.9 or newer."""

from __future__ import annotations

import gzip
import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Union

COMPRESS_FROM_BYTES = 1 << 16
BODY_BYTES = 32 << 20  # of a body before it is packed
BODY_COST = 16_384  # of a body, in math rollouts
CODE_COST = 8  # of a program, in math rollouts

TestSet = Union[Mapping[str, Any], bytes]  # the object, or its JSON text in UTF-8


class Body(NamedTuple):
    """Bytes to send, and the headers that say how they are packed."""

    data: bytes
    headers: Mapping[str, str]


def testset_name(testset: TestSet) -> str:
    """What a reference calls a test set: `{"testset": "sha256:..."}`. Linear in its size."""
    return name_of(encode_testset(testset))


def encode_testset(testset: TestSet) -> bytes:
    """A test set as the bytes that are uploaded; bytes as they are."""
    return testset if isinstance(testset, bytes) else _json(testset)


def name_of(data: bytes) -> str:
    """The name of an encoded test set."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def grade_bodies(
    groups: Iterable[Mapping[str, Any]],
    scheme: str | Mapping[str, Any],
    detail: str,
    deadline_s: float | None,
    priority: str | None,
    request_id: str | None,
) -> list[Body]:
    """The bodies of requests to grade, at least one; what is None is not stated.

    Each is under BODY_BYTES and BODY_COST, unless a single group is more: a step of thousands of programs is several requests.
    """
    stated = {"scheme": scheme, "detail": detail, "deadline_s": deadline_s, "priority": priority}
    head = _json({name: value for name, value in stated.items() if value is not None})[:-1]
    named = request_id or uuid.uuid4().hex
    chunks = list(_chunks(groups))
    return [
        packed(
            head + b',"request_id":' + _text(named if len(chunks) == 1 else f"{named}/{number}") + b',"groups":[' + b",".join(chunk) + b"]}"
        )
        for number, chunk in enumerate(chunks)
    ]


def _chunks(groups: Iterable[Mapping[str, Any]]) -> Iterator[list[bytes]]:
    """Groups as JSON, as many together as one body may hold; one empty chunk where there are none."""
    chunk: list[bytes] = []
    size = cost = 0
    for group in groups:
        encoded = _json(group)
        own = len(group.get("rollouts") or ()) * (CODE_COST if group.get("task") == "code" else 1)
        if chunk and (size + len(encoded) > BODY_BYTES or cost + own > BODY_COST):
            yield chunk
            chunk, size, cost = [], 0, 0
        chunk.append(encoded)
        size += len(encoded)
        cost += own
    yield chunk


def packed(data: bytes) -> Body:
    """Bytes, compressed where there are many."""
    if len(data) < COMPRESS_FROM_BYTES:
        return Body(data, {})
    return Body(gzip.compress(data, compresslevel=1, mtime=0), {"Content-Encoding": "gzip"})


def _json(value: Mapping[str, Any]) -> bytes:
    # Escaped, so that lone surrogates pass; keys in the order given, which a function that is called with an object may see.
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")


def _text(value: str) -> bytes:
    return json.dumps(value).encode("ascii")
