"""The canonical form of a test set, its digest, and which of its tests a group draws. Pure and the same on every machine."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Sequence

from reward_service.records import Checker, CheckerName, FloatTolerance, Json, JsonObject, ProgramChecker, ProgramTest

DRAW_KEY_BYTES = 8  # of pseudo-random key per test; equal keys fall back to the test's index


def encode_text(text: str) -> bytes:
    r"""Text of a test as the bytes that a program reads or must print: UTF-8, for any Python string.

    Surrogates U+DC80..U+DCFF stand for the raw bytes 80..FF, as Python decodes undecodable input (PEP 383), so that tests with
    binary data survive JSON. Any other lone surrogate keeps its own three-byte form, which no valid UTF-8 output equals.

    Example: "\udcff" -> b"\xff".
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def canonical_test_set(tests: Sequence[ProgramTest], checker: Checker = CheckerName.TOKENS) -> bytes:
    """The test set as JSON bytes: what the digest, and so the draw, depends on.

    Exactly the fields that the set needs: the default checker is left out, so are no arguments, and a tolerance is stated in full, so that
    two ways of writing the same set have one form. Sorted keys, no spaces, UTF-8 without escapes; lone surrogates in their three-byte form.
    """
    return canonical_fields({"tests": [{"stdin": test.stdin, "stdout": test.stdout} for test in tests]}, checker)


def canonical_fields(fields: JsonObject, checker: Checker = CheckerName.TOKENS) -> bytes:
    """The same of a test set of any kind: its fields but the checker, whichever it needs."""
    known = dict(fields) if checker is CheckerName.TOKENS else {**fields, "checker": _canonical_checker(checker)}
    text = json.dumps(known, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "surrogatepass")


def digest_test_set(tests: Sequence[ProgramTest], checker: Checker = CheckerName.TOKENS) -> str:
    """SHA-256 of the canonical form, in hexadecimal; linear in its size (about 0.1 s for 20 MB)."""
    return hashlib.sha256(canonical_test_set(tests, checker)).hexdigest()


def digest_fields(fields: JsonObject, checker: Checker = CheckerName.TOKENS) -> str:
    """SHA-256 of the canonical form of a test set of any kind, in hexadecimal."""
    return hashlib.sha256(canonical_fields(fields, checker)).hexdigest()


def draw_tests(count: int, draw: int | None, group_id: str, digest: str, seed: int) -> tuple[int, ...]:
    """Indexes in [0, count) of the tests that every rollout of a group runs, ascending.

    All of them where `draw` is None or not below `count`. Depends on the arguments alone, so that every replica, retry and Python
    version draws the same tests: each index gets a key from SHAKE-256 and the `draw` smallest keys win (arXiv 2506.10910v1, 2.2.2:
    tests drawn at random, the same ones for every rollout of a group).

    Raises:
        ValueError: ours: `draw` below 1 would make every program correct.
    """
    if draw is not None and draw < 1:
        raise ValueError("a draw must hold at least one test")
    if draw is None or draw >= count:
        return tuple(range(count))
    key = json.dumps([digest, group_id, seed], separators=(",", ":"))
    stream = hashlib.shake_256(key.encode("ascii")).digest(DRAW_KEY_BYTES * count)

    def key_of(index: int) -> bytes:
        return stream[DRAW_KEY_BYTES * index : DRAW_KEY_BYTES * (index + 1)]

    return tuple(sorted(heapq.nsmallest(draw, range(count), key=key_of)))


def _canonical_checker(checker: Checker) -> str | JsonObject:
    if isinstance(checker, FloatTolerance):
        return {"float": {"abs": float(checker.abs), "rel": float(checker.rel)}}
    if isinstance(checker, ProgramChecker):
        files: JsonObject = dict(checker.files)
        program: dict[str, Json] = {
            "language": checker.language, "protocol": checker.protocol.value, "main": checker.main, "files": files,
        }  # fmt: skip
        return {"program": {**program, "args": list(checker.arguments)} if checker.arguments else program}
    return checker.value
