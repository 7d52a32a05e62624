"""Results as they are read on this side, and when they are what JSON states."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service.boxed.values import Writer
from reward_service.records import FloatTolerance
from reward_service.scoring.programs.literals import (
    EXCERPT_CHARACTERS,
    STEP,
    Malformed,
    Mismatch,
    Value,
    compare_value,
    read_value,
    shown,
    shown_json,
)

TIGHT = FloatTolerance(1e-9, 1e-9)


class World:
    def special(self, value: Any) -> tuple[str, Iterable[Any]] | None:
        return None

    def handle(self, value: Any) -> Iterable[Any]:
        return ("B", 0, 0, "object")


def value_of(result: Any) -> Value:
    return _last(read_value(Writer(World(), 1 << 26).write(result)))


def _last(steps: Any) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value


def mismatch(result: Any, expected: Any, tolerance: FloatTolerance = TIGHT) -> Mismatch | None:
    found: Mismatch | None = _last(compare_value(value_of(result), expected, tolerance))
    return found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_what_json_says_is_equal_to_itself(expected: Any) -> None:
    assert mismatch(expected, expected) is None
    assert mismatch(json.loads(json.dumps(expected)), expected, FloatTolerance(0.0, 0.0)) is None


@given(JSON, JSON)
def test_two_values_are_equal_exactly_where_python_says_so(one: Any, other: Any) -> None:
    assert (mismatch(one, other, FloatTolerance(0.0, 0.0)) is None) == (one == other)


@given(JSON)
def test_a_tuple_is_a_list_at_any_depth(expected: Any) -> None:
    def with_tuples(item: Any) -> Any:
        if isinstance(item, list):
            return tuple(map(with_tuples, item))
        return {key: with_tuples(inner) for key, inner in item.items()} if isinstance(item, dict) else item

    assert mismatch(with_tuples(expected), expected) is None


@given(st.lists(st.integers() | st.text(max_size=3) | st.tuples(st.integers(), st.text(max_size=2)), unique=True), st.randoms())
def test_a_set_is_a_list_in_any_order(members: list[Any], random: Any) -> None:
    expected = json.loads(json.dumps(members))
    random.shuffle(expected)
    assert mismatch(set(members), expected) is None
    assert mismatch(frozenset(members), [*expected, "one more member"]) is not None
    assert (mismatch(set(members), expected[1:]) is None) == (not members)


@pytest.mark.parametrize(
    ("result", "expected", "equal"),
    [
        (1, True, True),
        (False, 0, True),
        (1.0, 1, True),
        (1, 1.0, True),
        (1.0000000001, 1, False),
        (0.1 + 0.2, 0.3, True),
        (0.3000001, 0.3, False),
        (1e300, 1.0000000001e300, True),
        (math.nan, 0.0, False),
        (math.inf, 1.7e308, False),
        (10**400, 1e300, False),
        (Fraction(1, 2), 0.5, True),
        (Decimal("0.5"), 0.5, True),
        (Decimal("NaN"), 0.5, False),
        (Decimal("1e999999"), 0.5, False),
        (Fraction(10**2000, 10**2000 + 1), 1, False),
        ("1", 1, False),
        (b"a", "a", False),
        (None, False, False),
        (None, [], False),
        ([], None, False),
        ({}, [], False),
        ([], {}, False),
        ((), [], True),
        (set(), [], True),
        ([1, 2], [2, 1], False),
        ({1: "a"}, {"1": "a"}, True),
        ({1.5: "a", None: 1, False: 2}, {"1.5": "a", "null": 1, "false": 2}, True),
        ({(1, 2): "a"}, {"(1, 2)": "a"}, False),
        ({1: "a", "1": "a"}, {"1": "a"}, False),
        (Counter("aab"), {"a": 2, "b": 1}, True),
        (range(3), [0, 1, 2], False),
        (object(), {}, False),
        ([object()], [None], False),
        ({1.0, 2}, [1, 2], True),
        ({(1, (2,))}, [[1, [2]]], True),
        ({frozenset({1})}, [[1]], False),
    ],
)
def test_when_a_result_is_what_is_expected(result: Any, expected: Any, equal: bool) -> None:
    assert (mismatch(result, expected) is None) is equal


def test_a_mismatch_says_where() -> None:
    assert mismatch({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}) == Mismatch("['a'][1]['b']", "2", "3")
    assert mismatch([1, 2], [1, 2, 3]) == Mismatch("", "[1, 2]", "[1, 2, 3]")


def test_cycles_and_bombs_are_compared_in_what_is_expected() -> None:
    ring: list[Any] = []
    ring.append(ring)
    assert mismatch(ring, [[[[]]]]) is not None
    bomb: list[Any] = []
    for _ in range(150):
        bomb = [bomb, bomb]
    assert mismatch(bomb, [[], []]) is not None
    assert len(shown(value_of(bomb), value_of(bomb).root)) <= EXCERPT_CHARACTERS


def test_what_is_shown_is_bounded() -> None:
    for result in (
        1 << 100_000,
        "x" * 1_000_000,
        list(range(1_000_000)),
        {"k" * 1_000: 1},
        [[[]] * 1_000] * 1_000,
        object(),
        b"\0" * 10_000,
    ):
        value = value_of(result)
        assert 0 < len(shown(value, value.root)) <= EXCERPT_CHARACTERS
    assert len(shown_json([list(range(100_000))])) <= EXCERPT_CHARACTERS


def test_reading_and_comparing_pause() -> None:
    result = [[str(k)] for k in range(3 * STEP)]
    frame = Writer(World(), 1 << 26).write(result)
    assert len(list(read_value(frame))) >= 3
    assert len(list(compare_value(value_of(result), json.loads(json.dumps(result)), TIGHT))) >= 3


@given(st.binary(max_size=300))
def test_bytes_are_a_value_or_malformed(data: bytes) -> None:
    try:
        value = _last(read_value(data))
    except Malformed:
        return
    assert len(shown(value, value.root)) <= EXCERPT_CHARACTERS
    _last(compare_value(value, [[1], {"a": None}], TIGHT))


@given(JSON, st.data())
def test_a_broken_frame_is_a_value_or_malformed(result: Any, data: st.DataObject) -> None:
    frame = bytearray(Writer(World(), 1 << 20).write([result]))
    frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        value = _last(read_value(bytes(frame)))
    except Malformed:
        return
    _last(compare_value(value, [result], TIGHT))
    shown(value, value.root)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\0\0\0\0",
        b"\0\0\0\0NN",
        b"\0\0\0\0s\0\0\0\1\xff",
        b"\0\0\0\0a\0\0\0\0",
        b"\0\0\0\1l\0\0\0\0\xff\xff\xff\xffN",
        b"\0\0\0\1p\0\0\0\0q\xff\xff\xff\xffN",
        b"\0\0\0\1p\0\0\0\0z\0\0\0\0N",
        b"\xff\xff\xff\xffN",
        b"\0\0\0\2l\0\0\0\0\0\0\0\0l\0\0\0\0\0\0\0\0N",
    ],
)
def test_malformed(frame: bytes) -> None:
    with pytest.raises(Malformed):
        _last(read_value(frame))
