from __future__ import annotations

import hashlib
import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service.records import Checker, CheckerName, FloatTolerance, ProgramTest
from reward_service.scoring.programs.testcases import canonical_test_set, digest_test_set, draw_tests, encode_text

ANY_TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates too
TESTS = st.lists(st.builds(ProgramTest, ANY_TEXT, ANY_TEXT), min_size=1, max_size=4)
SUM = [ProgramTest("1 2\n", "3\n"), ProgramTest("é", "ß")]


@pytest.mark.parametrize(
    ("checker", "canonical"),
    [
        (CheckerName.TOKENS, '{"tests":[{"stdin":"1 2\\n","stdout":"3\\n"},{"stdin":"é","stdout":"ß"}]}'),
        (CheckerName.EXACT, '{"checker":"exact","tests":[{"stdin":"1 2\\n","stdout":"3\\n"},{"stdin":"é","stdout":"ß"}]}'),
        (
            FloatTolerance(abs=0, rel=1e-9),
            '{"checker":{"float":{"abs":0.0,"rel":1e-09}},"tests":[{"stdin":"1 2\\n","stdout":"3\\n"},{"stdin":"é","stdout":"ß"}]}',
        ),
    ],
)
def test_canonical_form_has_exactly_the_fields_it_needs(checker: Checker, canonical: str) -> None:
    assert canonical_test_set(SUM, checker) == canonical.encode()
    assert digest_test_set(SUM, checker) == hashlib.sha256(canonical.encode()).hexdigest()


def test_digest_is_pinned() -> None:
    assert digest_test_set(SUM) == "47d6a59f73064a10d6ffc63d3ae52348bfc147e23c573cd7ba2669b06f372c1e"


def test_lone_surrogates_have_a_form_of_their_own() -> None:
    assert digest_test_set([ProgramTest("\ud800", "")]) != digest_test_set([ProgramTest("\ufffd", "")])


@given(TESTS, TESTS)
def test_canonical_form_tells_sets_apart(one: list[ProgramTest], other: list[ProgramTest]) -> None:
    assert (canonical_test_set(one) == canonical_test_set(other)) == (one == other)


@given(TESTS)
def test_canonical_form_is_the_json_that_the_protocol_names(tests: list[ProgramTest]) -> None:
    parsed = json.loads(canonical_test_set(tests).decode("utf-8", "surrogatepass"))
    assert parsed == {"tests": [{"stdin": test.stdin, "stdout": test.stdout} for test in tests]}


@pytest.mark.parametrize(
    ("text", "encoded"),
    [("a é\n", b"a \xc3\xa9\n"), ("\udcff", b"\xff"), ("\ud800", b"\xed\xa0\x80"), ("\ud800\udcff", b"\xed\xa0\x80\xed\xb3\xbf")],
)
def test_any_text_becomes_bytes(text: str, encoded: bytes) -> None:
    assert encode_text(text) == encoded


@pytest.mark.parametrize(
    ("group_id", "digest", "seed", "drawn"),
    [
        ("step12/p7", "0" * 64, 0, (1, 14, 17, 25, 26, 28, 38, 52, 54, 55, 60, 62, 66, 76, 77, 79, 81, 83, 85, 98)),
        ("step12/p8", "0" * 64, 0, (6, 12, 18, 23, 24, 27, 46, 50, 55, 58, 60, 67, 68, 73, 77, 79, 81, 87, 94, 96)),
        ("step12/p7", "1" * 64, 0, (6, 7, 10, 11, 13, 15, 16, 20, 22, 24, 45, 47, 51, 55, 60, 61, 81, 82, 85, 98)),
        ("step12/p7", "0" * 64, 1, (2, 8, 11, 15, 22, 23, 30, 38, 40, 45, 48, 54, 58, 59, 62, 82, 84, 91, 92, 96)),
        ("\ud800 é", "0" * 64, 0, (10, 11, 14, 16, 18, 22, 29, 34, 36, 37, 43, 54, 56, 57, 60, 70, 73, 78, 83, 97)),
    ],
)
def test_draw_is_pinned(group_id: str, digest: str, seed: int, drawn: tuple[int, ...]) -> None:
    assert draw_tests(100, 20, group_id, digest, seed) == drawn


@given(st.integers(0, 200), st.none() | st.integers(1, 60), ANY_TEXT, ANY_TEXT, st.integers())
def test_draw_is_a_sorted_subset_of_the_size_asked_for(count: int, draw: int | None, group_id: str, digest: str, seed: int) -> None:
    drawn = draw_tests(count, draw, group_id, digest, seed)
    assert list(drawn) == sorted(set(drawn))
    assert set(drawn) <= set(range(count))
    assert len(drawn) == (count if draw is None else min(count, draw))
    assert drawn == draw_tests(count, draw, group_id, digest, seed)


def test_every_test_is_drawn_about_equally_often() -> None:
    drawn = Counter(index for group in range(2000) for index in draw_tests(40, 20, f"g{group}", "d", 0))
    assert len(drawn) == 40
    assert all(850 < count < 1150 for count in drawn.values())  # 1000 expected, standard deviation 22


def test_an_empty_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        draw_tests(5, 0, "g", "d", 0)
