"""Digests of what decides a verdict beside the program: the test's own text, its checker, its limits, what is called.

The test's own text and not the canonical form of its set, in which the order of an object's keys is lost: a program sees that order.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from reward_service.records import CodeReference, ProgramChecker, ProgramTest

LARGE_CHARACTERS = 65_536  # of tests that are not digested on the event loop


@dataclass(frozen=True, slots=True)
class Keys:
    """`tests`: a digest for each drawn test, conditions and all. `conditions`: of what decides whether a program compiles."""

    conditions: bytes
    tests: tuple[bytes, ...]


async def keys_of(reference: CodeReference, drawn: tuple[int, ...]) -> Keys:
    """The digests of a reference's drawn tests; of asserts, which are one test, where it has these."""
    tests = [ProgramTest("", reference.asserts)] if reference.asserts is not None else [reference.tests[index] for index in drawn]
    if sum(len(test.stdin) + len(test.stdout) for test in tests) > LARGE_CHARACTERS:
        return await asyncio.to_thread(_keys, reference, tests)
    return _keys(reference, tests)


def _keys(reference: CodeReference, tests: Sequence[ProgramTest]) -> Keys:
    kind = "asserts" if reference.asserts is not None else "function" if reference.function is not None else "program"
    compiled = digest_of(kind, json.dumps(asdict(reference.limits)), reference.prelude)  # compiling has bounds that follow a run's memory
    conditions = digest_of(compiled, json.dumps([reference.function, reference.entry_point, _checker(reference)]))
    return Keys(compiled, tuple(digest_of(conditions, test.stdin, test.stdout) for test in tests))


def _checker(reference: CodeReference) -> list[object]:
    checker = reference.checker
    if isinstance(checker, ProgramChecker):
        return ["program", *checker]
    return [type(checker).__name__, str(checker)]


def digest_of(*parts: str | bytes) -> bytes:
    """SHA-256 over parts and their lengths; texts in UTF-8, lone surrogates in their three-byte form."""
    found = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        found.update(len(data).to_bytes(8, "big"))
        found.update(data)
    return found.digest()
