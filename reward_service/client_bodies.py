"""The bodies that `client.py` sends: JSON, compressed where that pays. Standard library only, Python 3.9 or newer."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Union

COMPRESS_FROM_BYTES = 1 << 16

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


def grade_body(
    groups: Iterable[Mapping[str, Any]],
    scheme: str | Mapping[str, Any],
    detail: str,
    deadline_s: float | None,
    priority: str | None,
) -> Body:
    """The body of a request to grade; what is None is not stated."""
    stated = {"scheme": scheme, "groups": list(groups), "detail": detail, "deadline_s": deadline_s, "priority": priority}
    return packed(_json({name: value for name, value in stated.items() if value is not None}))


def packed(data: bytes) -> Body:
    """Bytes, compressed where there are many."""
    if len(data) < COMPRESS_FROM_BYTES:
        return Body(data, {})
    return Body(gzip.compress(data, compresslevel=1, mtime=0), {"Content-Encoding": "gzip"})


def _json(value: Mapping[str, Any]) -> bytes:
    # Escaped, so that lone surrogates pass; keys in the order given, which a function that is called with an object may see.
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")
