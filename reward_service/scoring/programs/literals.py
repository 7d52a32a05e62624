"""Reads a result that a candidate's box sent, and compares it with the value that JSON states: iterative, bounded, evaluating nothing.

The wire form is described in `boxed/values.py`. What is read stays a table of entries: no container of Python's is ever filled with a
candidate's values, so that neither cycles nor colliding hashes cost more than their bytes. docs/code-tests.md states the rules.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from reward_service.records import FloatTolerance, Json

STEP = 2_000  # slots or comparisons between two pauses
EXCERPT_CHARACTERS = 120
WHOLE_BITS = 4_000  # of an int that is shown; longer ones are described

_SIZES = {b"b": 1, b"h": 2, b"i": 4, b"q": 8, b"d": 8}
_KINDS = frozenset(b"ltSZdxoecgEh")


class Malformed(Exception):
    """The bytes are no value."""


@dataclass(frozen=True, slots=True)
class Ref:
    """A slot that names an entry."""

    id: int


Slot = None | bool | int | float | str | bytes | Ref


@dataclass(frozen=True, slots=True)
class Entry:
    """A container and its slots."""

    kind: str
    slots: Sequence[Slot]


@dataclass(frozen=True, slots=True)
class Value:
    """A value as it was sent."""

    root: Slot
    entries: dict[int, Entry]


def read_value(data: bytes) -> Generator[None, None, Value]:
    """The value of a frame, with a pause after every STEP slots. Raises Malformed."""
    reader = _Reader(data)
    entries: dict[int, Entry] = {}
    try:
        for _ in range(reader.number(">I")):
            number, entry = yield from reader.entry()
            if number in entries:
                raise Malformed("an entry twice")
            entries[number] = entry
        root = reader.slot()
    except (struct.error, UnicodeDecodeError, KeyError, IndexError) as error:
        raise Malformed(type(error).__name__) from None
    if not reader.done:
        raise Malformed("more than a value")
    return Value(root, entries)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at, self._work = data, 0, 0

    @property
    def done(self) -> bool:
        return self._at == len(self._data)

    def number(self, form: str) -> int:
        (found,) = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return int(found)

    def _bytes(self, size: int) -> bytes:
        found = self._data[self._at : self._at + size]
        if len(found) != size:
            raise Malformed("cut short")
        self._at += size
        return found

    def entry(self) -> Generator[None, None, tuple[int, Entry]]:
        """The next entry and its number."""
        kind = self._bytes(1)
        number = self.number(">I")
        if kind in (b"p", b"P"):
            code = self._bytes(1)
            count = self.number(">I")
            packed = struct.unpack(f">{count}{code.decode()}", self._bytes(count * _SIZES[code]))
            return number, Entry("l" if kind == b"p" else "t", packed)
        if kind[0] not in _KINDS:
            raise Malformed("an unknown kind")
        count = self.number(">I")
        if count > len(self._data) - self._at:
            raise Malformed("cut short")
        slots: list[Slot] = []
        for _ in range(count):
            slots.append(self.slot())
            self._work += 1
            if self._work % STEP == 0:
                yield
        return number, Entry(kind.decode(), slots)

    def slot(self) -> Slot:
        """The next slot."""
        tag = self._bytes(1)
        if tag in _CONSTANTS:
            return _CONSTANTS[tag]
        if tag == b"i":
            return self.number(">q")
        if tag == b"f":
            (found,) = struct.unpack(">d", self._bytes(8))
            return float(found)
        if tag == b"r":
            return Ref(self.number(">I"))
        if tag not in (b"s", b"b", b"I"):
            raise Malformed("an unknown tag")
        data = self._bytes(self.number(">I"))
        if tag == b"s":
            return data.decode("utf-8", "surrogatepass")
        return data if tag == b"b" else int.from_bytes(data, "big", signed=True)


_CONSTANTS: dict[bytes, bool | None] = {b"N": None, b"T": True, b"F": False}


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Where a result is not what is expected: a path such as `[2]["x"]` (empty for the whole), and excerpts of both sides."""

    path: str
    got: str
    expected: str


def compare_value(value: Value, expected: Json, tolerance: FloatTolerance) -> Generator[None, None, Mismatch | None]:
    """None where the result is what is expected, else the first place where it is not; a pause after every STEP comparisons."""
    pairs: list[tuple[Slot, Json, str]] = [(value.root, expected, "")]
    work = 0
    while pairs:
        work += 1
        if work % STEP == 0:
            yield
        got, wanted, path = pairs.pop()
        if isinstance(wanted, dict):
            inner = _mapping(value, got, wanted, path)
        elif isinstance(wanted, list):
            inner = _sequence(value, got, wanted, path, tolerance)
        else:
            inner = [] if _same(value, got, wanted, tolerance) else None
        if inner is None:
            return Mismatch(path[:EXCERPT_CHARACTERS], shown(value, got), shown_json(wanted))
        pairs += inner
    return None


def _entry(value: Value, got: Slot) -> Entry | None:
    return value.entries.get(got.id) if isinstance(got, Ref) else None


def _mapping(value: Value, got: Slot, wanted: dict[str, Json], path: str) -> list[tuple[Slot, Json, str]] | None:
    entry = _entry(value, got)
    if entry is None:
        return None
    slots = entry.slots
    if entry.kind == "x":
        if slots[:1] not in (["Counter"], ["OrderedDict"], ["defaultdict"]):
            return None
        slots = slots[2:] if slots[0] == "defaultdict" else slots[1:]
    elif entry.kind != "d":
        return None
    if len(slots) != 2 * len(wanted):
        return None
    seen: set[str] = set()
    inner: list[tuple[Slot, Json, str]] = []
    for at in range(0, len(slots), 2):
        key = _key(slots[at])
        if key is None or key not in wanted or key in seen:
            return None
        seen.add(key)
        inner.append((slots[at + 1], wanted[key], f"{path}[{key!r}]"))
    return inner[::-1]


def _key(slot: Slot) -> str | None:
    """A key as JSON writes it; None where JSON cannot."""
    if slot is None or isinstance(slot, bool):
        return {None: "null", True: "true", False: "false"}[slot]
    if isinstance(slot, int):
        return str(slot) if slot.bit_length() <= WHOLE_BITS else None
    return slot if isinstance(slot, str) else repr(slot) if isinstance(slot, float) else None


def _sequence(value: Value, got: Slot, wanted: list[Json], path: str, tolerance: FloatTolerance) -> list[tuple[Slot, Json, str]] | None:
    entry = _entry(value, got)
    if entry is None:
        return None
    slots = entry.slots
    if entry.kind == "x" and slots[:1] in (["ListNode"], ["TreeNode"]):
        slots = slots[1:]
    elif entry.kind in "SZ":
        return [] if _same_set(value, slots, wanted) else None
    elif entry.kind not in "lt":
        return None
    if len(slots) != len(wanted):
        return None
    if _plain(wanted) and _plain(slots) and list(slots) == wanted:  # the common case, without a path for each
        return []
    return [(slot, item, f"{path}[{at}]") for at, (slot, item) in enumerate(zip(slots, wanted, strict=True))][::-1]


def _plain(items: Sequence[object]) -> bool:
    return set(map(type, items)) <= {int, str, bool}


def _same_set(value: Value, slots: Sequence[Slot], wanted: list[Json]) -> bool:
    """Whether a set holds what a list states, in whatever order; compared exactly."""
    left = {_frozen_json(item) for item in wanted}
    if len(left) != len(wanted) or len(slots) != len(wanted):
        return False
    budget = [16 * len(wanted) + 1_000]
    for slot in slots:
        item = _frozen(value, slot, budget)
        if item not in left:
            return False
        left.discard(item)
    return True


def _frozen_json(item: Json) -> object:
    if isinstance(item, list):
        return ("list", *(_frozen_json(inner) for inner in item))
    return ("dict", repr(item)) if isinstance(item, dict) else item


def _frozen(value: Value, slot: Slot, budget: list[int], depth: int = 0) -> object:
    """A member of a set as something that can be looked up; what is too much or no plain value is a thing of its own."""
    budget[0] -= 1
    entry = _entry(value, slot)
    if entry is None:
        return object() if isinstance(slot, Ref | bytes) else slot
    if entry.kind != "t" or depth > 20 or len(entry.slots) > budget[0]:
        return object()
    return ("list", *(_frozen(value, inner, budget, depth + 1) for inner in entry.slots))


def _same(value: Value, got: Slot, wanted: Json, tolerance: FloatTolerance) -> bool:
    """Whether a result is the one number, text, bool or None; numbers as Python compares them, floats within the tolerance."""
    if isinstance(got, Ref):
        entry = value.entries.get(got.id)
        number = None if entry is None else _number(entry)
        if number is None:
            return entry is not None and wanted is None and list(entry.slots) in (["ListNode"], ["TreeNode"])
        return isinstance(wanted, int | float) and _close(number, wanted, tolerance)
    if isinstance(wanted, int | float):
        return isinstance(got, int | float) and _close(got, wanted, tolerance)
    return type(got) is type(wanted) and got == wanted


def _number(entry: Entry) -> Fraction | None:
    """The number that a Fraction or Decimal is."""
    slots = list(entry.slots)
    if entry.kind != "x" or not slots:
        return None
    if slots[0] == "Fraction" and len(slots) == 3:
        numerator, denominator = slots[1:]
        if type(numerator) is int and type(denominator) is int and denominator:
            return Fraction(numerator, denominator) if max(numerator.bit_length(), denominator.bit_length()) <= WHOLE_BITS else None
    if slots[0] == "Decimal" and len(slots) == 2 and isinstance(slots[1], str) and len(slots[1]) <= 100 and slots[1].isascii():
        mantissa, _, exponent = slots[1].lower().partition("e")
        if mantissa.lstrip("+-").replace(".", "", 1).isdecimal() and (
            not exponent or (exponent.lstrip("+-").isdecimal() and len(exponent) <= 4)
        ):
            return Fraction(slots[1])
    return None


def _close(got: float | Fraction, wanted: int | float, tolerance: FloatTolerance) -> bool:
    if got == wanted:
        return True
    if not isinstance(wanted, float):
        return False
    try:
        error = abs(float(got) - wanted)
    except OverflowError:
        return False
    return error <= tolerance.abs or error <= tolerance.rel * abs(wanted)


def shown_json(value: Json) -> str:
    """An expected value for people, cut to EXCERPT_CHARACTERS, without writing out more of it than that."""
    text = ""
    for chunk in json.JSONEncoder(ensure_ascii=False).iterencode(value):
        text += chunk
        if len(text) > EXCERPT_CHARACTERS:
            break
    return _cut(text)


def shown(value: Value, got: Slot) -> str:
    """A result for people, cut to EXCERPT_CHARACTERS, however big or cyclic it is."""
    parts: list[str] = []
    stack: list[Slot | _Text] = []
    _show(value, got, parts, stack)
    size = 0
    while stack and size < EXCERPT_CHARACTERS:
        item = stack.pop()
        before = len(parts)
        if isinstance(item, _Text):
            parts.append(item.text)
        else:
            _show(value, item, parts, stack)
        size += sum(map(len, parts[before:]))
    return _cut("".join(parts))


@dataclass(frozen=True, slots=True)
class _Text:
    """Punctuation on the way to be shown."""

    text: str


_BRACKETS = {"l": ("[", "]"), "t": ("(", ")"), "S": ("{", "}"), "Z": ("frozenset({", "})"), "d": ("{", "}")}


def _show(value: Value, slot: Slot, parts: list[str], stack: list[Slot | _Text]) -> None:
    entry = value.entries.get(slot.id) if isinstance(slot, Ref) else None
    if isinstance(slot, Ref) and entry is None:
        parts.append("<nothing>")
    elif entry is None:
        parts.append(_scalar(slot))
    else:
        name = "" if entry.kind in _BRACKETS else f"<{'object' if entry.kind == 'h' else 'value'} "
        opening, closing = _BRACKETS.get(entry.kind, (name, ">"))
        parts.append(opening)
        stack.append(_Text(closing))
        for at in range(min(len(entry.slots), EXCERPT_CHARACTERS) - 1, -1, -1):
            stack.append(entry.slots[at])
            if at:
                stack.append(_Text(": " if entry.kind == "d" and at % 2 else ", "))


def _scalar(slot: object) -> str:
    if isinstance(slot, int) and slot.bit_length() > WHOLE_BITS:
        return f"<int of {slot.bit_length()} bits>"
    return repr(slot[: EXCERPT_CHARACTERS + 1] if isinstance(slot, str | bytes) else slot)


def _cut(text: str) -> str:
    return text if len(text) <= EXCERPT_CHARACTERS else text[: EXCERPT_CHARACTERS - 3] + "..."
