from __future__ import annotations

import json
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service.records import Checker, CheckerName, FloatTolerance
from reward_service.scoring.programs import checkers
from reward_service.scoring.programs.checkers import EXCERPT_BYTES, check_output, compare_output

CASES = [json.loads(line) for line in (Path(__file__).parents[2] / "cases" / "checkers.jsonl").read_text().splitlines()]
ALL: list[Checker] = [*CheckerName, FloatTolerance()]
PIECES = st.sampled_from(["a", "b", "1", "1.0", "1.0000001", "\n", " ", "\t", "\r\n", "\udcff", "\0", "\xa0", "1e5", "_"])
TEXTS = st.lists(PIECES, max_size=12).map("".join)


def checker_of(written: Any) -> Checker:
    return FloatTolerance(**written["float"]) if isinstance(written, dict) else CheckerName(written)


def raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
@pytest.mark.parametrize("block", [1, 5, checkers.BLOCK_BYTES])
def test_case(case: dict[str, Any], block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkers, "BLOCK_BYTES", block)
    found = check_output(checker_of(case["checker"]), raw(case["got"]), case["expected"])
    assert (found and [found.unit, found.index]) == case["first"], case["why"]


def test_cases_have_names_of_their_own() -> None:
    assert max(Counter(case["id"] for case in CASES).values()) == 1
    assert len(CASES) >= 90


def lines_of(data: bytes) -> list[bytes]:
    lines = [line.rstrip() for line in data.split(b"\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def near(got: bytes, expected: bytes) -> bool:
    try:
        one, other = Decimal(got.decode("ascii")), Decimal(expected.decode("ascii"))
    except (ArithmeticError, UnicodeDecodeError):
        return got == expected
    return got == expected or (b"_" not in got + expected and abs(one - other) <= Decimal("1e-6") * max(1, abs(other)))


def passes(checker: Checker, got: bytes, expected: bytes) -> bool:
    """The rules once more, without regard to memory."""
    if checker is CheckerName.EXACT:
        return lines_of(got) == lines_of(expected)
    if checker is CheckerName.LINES:
        return Counter(filter(None, lines_of(got))) == Counter(filter(None, lines_of(expected)))
    mine, theirs = got.split(), expected.split()
    if checker is CheckerName.TOKENS:
        return mine == theirs
    return len(mine) == len(theirs) and all(map(near, mine, theirs))


@given(st.sampled_from(ALL), TEXTS, TEXTS, st.integers(1, 9))
def test_agrees_with_the_plain_rules(checker: Checker, got: str, expected: str, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkers, "BLOCK_BYTES", block)
        assert (check_output(checker, raw(got), expected) is None) == passes(checker, raw(got), raw(expected))


@given(st.sampled_from(ALL), st.binary(), st.text(st.characters(exclude_categories=())))
def test_never_an_exception(checker: Checker, got: bytes, expected: str) -> None:
    found = check_output(checker, got, expected)
    if found:
        json.dumps([found.got, found.expected])
        assert found.index >= 1
        assert found.got is not None or found.expected is not None


@pytest.mark.parametrize("checker", ALL)
def test_excerpts_show_the_place_of_the_difference(checker: Checker) -> None:
    found = check_output(checker, b"x" * 100_000 + b"1" + b"y" * 500, "x" * 100_000 + "2" + "y" * 500)
    assert found is not None
    assert found.got is not None
    if checker is not CheckerName.LINES:
        assert found.expected is not None
        assert "x1y" in found.got
        assert "x2y" in found.expected
    assert len(found.got) <= EXCERPT_BYTES + 6


def test_undecodable_bytes_are_shown() -> None:
    found = check_output(CheckerName.TOKENS, b"\xff", "ok")
    assert found is not None
    assert found.got == "\\xff"


DIGITS = "9" * 1_000_000


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (DIGITS, DIGITS[:-1] + "8"),
        (DIGITS + "x", DIGITS),
        ("0." + DIGITS, "1"),
        ("1e" + DIGITS, "1"),
        ("1e" + "0" * 1_000_000 + "1", "10"),
        ("1" + "0" * 1_000_000 + "e-1000000", "1"),
        ("1 " * 100_000, "1.0 " * 100_000),
        ("1e999999999 " * 10_000, "1e-999999999 " * 10_000),
        ("." * 1_000_000, "+" * 1_000_000),
    ],
    ids=range(9),
)
def test_no_number_is_slow(got: str, expected: str) -> None:
    started = time.process_time()
    check_output(FloatTolerance(), got.encode(), expected)
    assert time.process_time() - started < 2.0  # all are far below; anything quadratic is far above


@pytest.mark.parametrize("checker", ALL)
@pytest.mark.parametrize("filler", [b"7 ", b"7\n", b" ", b"\n"], ids=["tokens", "lines", "spaces", "blanks"])
def test_a_big_output_is_compared_in_short_steps(checker: Checker, filler: bytes) -> None:
    got = filler * 500_000 + b"7"
    expected = (filler * 500_000).decode() + " 7 \n"
    comparison = compare_output(checker, got, expected)
    longest = 0.0
    while True:
        started = time.process_time()
        try:
            next(comparison)
        except StopIteration:
            break
        longest = max(longest, time.process_time() - started)
    assert longest < 0.25  # milliseconds on an idle machine
