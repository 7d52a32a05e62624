"""Values across the wire: what is written in a box is read there as it was, and whatever else is read is refused."""

from __future__ import annotations

import collections
import contextlib
import datetime
import decimal
import fractions
import math
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service.boxed.reading import Reader, content_of, replace_content, same_content
from reward_service.boxed.values import MAX_DEPTH, Refused, Writer


class World:
    """Knows no prelude, and lets no object cross."""

    def special(self, value: Any) -> tuple[str, Iterable[Any]] | None:
        return None

    def handle(self, value: Any) -> Iterable[Any]:
        return ("B", 0, 0, "")

    def shell(self, class_name: str) -> Any:
        raise Refused("no class")

    def instance(self, class_name: str, base: Any) -> Any:
        raise Refused("no class")

    def give_fields(self, target: Any, fields: list[Any]) -> None:
        raise Refused("no class")

    def named(self, kind: str, slots: list[Any]) -> Any:
        if kind == "h":
            return HANDLE
        raise Refused("no name")


HANDLE = object()
WORLD = World()

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.integers(-(1 << 200), 1 << 200) | st.floats() | st.text(st.characters()) | st.binary()
    | st.fractions() | st.decimals(allow_nan=False) | st.dates() | st.datetimes() | st.timedeltas() | st.complex_numbers()
)  # fmt: skip
HASHABLE: st.SearchStrategy[Any] = st.recursive(
    st.integers() | st.text(max_size=3) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
VALUES = st.recursive(
    SCALARS | st.lists(st.integers(-300, 300), min_size=8) | st.lists(st.floats(), min_size=8).map(tuple),
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple) | st.dictionaries(HASHABLE, inner, max_size=4)
        | st.sets(HASHABLE, max_size=4) | st.lists(inner, max_size=3).map(collections.deque)
        | st.dictionaries(HASHABLE, inner, max_size=3).map(collections.OrderedDict)
    ),
    max_leaves=20,
)  # fmt: skip


def written(value: Any, limit: int = 1 << 20) -> bytes:
    return Writer(WORLD, limit).write(value)


def read(data: bytes) -> Any:
    return Reader(data, WORLD).read()


def crossed(value: Any) -> Any:
    return read(written(value))


def spelled(value: Any) -> str:
    """A text that tells types, orders, NaN and -0.0 apart, as `==` does not; of a set the order is no part of the value."""
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__}({sorted(map(spelled, value))})"
    if isinstance(value, dict):
        return f"{type(value).__name__}({[(spelled(key), spelled(item)) for key, item in value.items()]})"
    if isinstance(value, list | tuple | collections.deque):
        return f"{type(value).__name__}({[spelled(item) for item in value]})"
    return f"{type(value).__name__}({value!r})"


@given(VALUES)
def test_values_cross_as_they_are(value: Any) -> None:
    assert spelled(crossed(value)) == spelled(value)


@given(st.binary(max_size=200))
def test_whatever_is_read_is_a_value_or_refused(data: bytes) -> None:
    with contextlib.suppress(Refused):
        read(data)


@given(VALUES, st.data())
def test_a_broken_frame_is_a_value_or_refused(value: Any, data: st.DataObject) -> None:
    frame = bytearray(written(value))
    at = data.draw(st.integers(0, len(frame) - 1))
    frame[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(Refused):
        read(bytes(frame))


@given(VALUES)
def test_a_frame_cut_short_or_too_long_is_refused(value: Any) -> None:
    frame = written(value)
    for broken in (frame[:-1], frame + b"N", b""):
        with pytest.raises(Refused):
            read(broken)


def test_cycles_and_shared_parts_stay() -> None:
    ring: list[Any] = [1]
    ring.append({"ring": ring, "pair": (ring, ring)})
    found = crossed(ring)
    assert found[1]["ring"] is found
    assert found[1]["pair"][0] is found[1]["pair"][1] is found
    row = [0]
    rows = crossed([row, row])
    assert rows[0] is rows[1]


def test_a_value_that_is_huge_when_written_out_is_not() -> None:
    bomb: list[Any] = []
    for _ in range(150):
        bomb = [bomb, bomb]
    assert len(written(bomb)) < 10_000
    found = crossed(bomb)
    assert found[0] is found[1]


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth - 1):
        found = [found]
    return found


def test_depth_and_size_are_bounded() -> None:
    assert repr(crossed(nested(MAX_DEPTH))) == "[" * MAX_DEPTH + "]" * MAX_DEPTH
    with pytest.raises(Refused):
        written(nested(MAX_DEPTH + 1))
    with pytest.raises(Refused):
        written(nested(1_000_000))
    written("x" * 900, limit=1000)
    for value in ("x" * 1001, b"x" * 1001, [0] * 1001, ["x"] * 500, 1 << 9000):
        with pytest.raises(Refused):
            written(value, limit=1000)


@pytest.mark.parametrize(
    ("count", "value", "size"), [(1000, 100, 1), (1000, 30_000, 2), (1000, -(1 << 31), 4), (1000, 1 << 60, 8), (1000, 0.5, 8)]
)
def test_long_lists_of_numbers_are_packed(count: int, value: float, size: int) -> None:
    frame = written([value] * count)
    assert len(frame) < count * size + 40
    assert read(frame) == [value] * count


class Text(str):
    def __str__(self) -> str:
        return "another"

    __repr__ = __str__
    __len__ = lambda self: 0  # noqa: E731


class Number(int):
    def __int__(self) -> int:
        return 7

    __index__ = __int__


class Real(float):
    def __float__(self) -> float:
        return 7.0


class List(list):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        return iter([7])


class Dict(dict):  # type: ignore[type-arg]
    def items(self) -> Any:
        return [(7, 7)]


Pair = collections.namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("value", "plain"),
    [(Text("x"), "x"), (Number(1), 1), (Real(1.5), 1.5), (List([1]), [1]), (Dict(a=1), {"a": 1}), (Pair(1, [2]), (1, [2]))],
)
def test_a_value_of_a_subclass_is_what_it_inherits(value: Any, plain: Any) -> None:
    found = crossed(value)
    assert type(found) is type(plain)
    assert found == plain


def test_values_of_the_library() -> None:
    values = [
        collections.Counter("aab"), collections.defaultdict(None, {1: 2}), collections.deque([1], maxlen=3), decimal.Decimal("1.50"),
        fractions.Fraction(-1, 3), datetime.time(1, 2, 3, 4, tzinfo=datetime.timezone(datetime.timedelta(hours=2))), range(5, 1, -2),
        bytearray(b"x"), math.inf, -0.0,
    ]  # fmt: skip
    assert repr(crossed(values)) == repr(values)
    ordered = collections.OrderedDict(a=1, b=2)
    ordered.move_to_end("a")
    assert list(crossed(ordered)) == ["b", "a"]


def test_an_object_is_a_handle() -> None:
    assert crossed([object()]) == [HANDLE]


@pytest.mark.parametrize(
    ("before", "change"),
    [
        ([1, 2], lambda x: x.append(3)),
        ([1, 2], lambda x: x.reverse()),
        ({"a": 1, "b": 2}, lambda x: x.pop("a")),
        ({"a": 1, "b": 2}, lambda x: x.update(a=x.pop("a"))),
        ({1, 2}, lambda x: x.discard(1)),
        (collections.deque([1, 2]), lambda x: x.rotate()),
        (bytearray(b"ab"), lambda x: x.reverse()),
        (collections.OrderedDict(a=1, b=2), lambda x: x.move_to_end("a")),
    ],
)
def test_a_change_is_seen_and_made_elsewhere(before: Any, change: Any) -> None:
    now, there = type(before)(before), type(before)(before)
    state = content_of(now)
    assert same_content(state, content_of(now))
    change(now)
    assert not same_content(state, content_of(now))
    replace_content(there, content_of(now))
    assert repr(there) == repr(now)
