"""The wire form of values, written inside of boxes. A value is a graph: a table of entries and one slot, the root.

    frame  = u32 count, entry * count, slot
    entry  = kind, u32 id, u32 n, slot * n                      containers, each behind the containers it holds (but for cycles)
           | "p" | "P", u32 id, code, u32 n, n packed numbers   a list or tuple of ints (b h i q) or floats (d)
    slot   = N | T | F                                          None, True, False
           | i i64 | I u32 bytes | f f64                        int, int of any size (two's complement), float
           | s u32 utf-8 | b u32 bytes                          str (lone surrogates in their three-byte form), bytes
           | r u32                                              the entry of this id
           | a u32                                              in an answer: the object that had this id in the question

All numbers are big-endian. Kinds: l list, t tuple, S set, Z frozenset, d dict (keys and values in turn), x another type by its name
(`EXTRAS`), o an instance of a class of the prelude (class, base value, then names and values of its fields), e a member of an
enumeration of the prelude, c a class of the prelude, g something of the standard library by its name, h a handle on an object that
stays where it is, m the same with the value that it inherits (mirrors.py). Other values of subclasses cross as what they inherit.
Writing is iterative: neither deep nor cyclic values exhaust a stack.
"""

from __future__ import annotations

import collections
import struct
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

MAX_DEPTH = 200  # of lists, tuples, sets and dicts in one another; chains of instances (linked lists) may be longer
PACKED_FROM = 8

_U32 = struct.Struct(">I")
_I64 = struct.Struct(">q")
_F64 = struct.Struct(">d")
_ENTRY = struct.Struct(">cII")
_PACKED = struct.Struct(">cIcI")
_INT_CODES = (("b", 7), ("h", 15), ("i", 31), ("q", 63))

# Types by the name under which they cross. Not imported here: a value of such a type exists only where somebody imported its module.
EXTRAS = {
    ("builtins", "complex"): "complex",
    ("builtins", "range"): "range",
    ("builtins", "bytearray"): "bytearray",
    ("collections", "Counter"): "Counter",
    ("collections", "OrderedDict"): "OrderedDict",
    ("collections", "defaultdict"): "defaultdict",
    ("collections", "deque"): "deque",
    ("decimal", "Decimal"): "Decimal",
    ("fractions", "Fraction"): "Fraction",
    ("datetime", "date"): "date",
    ("datetime", "time"): "time",
    ("datetime", "datetime"): "datetime",
    ("datetime", "timedelta"): "timedelta",
    ("numpy", "ndarray"): "ndarray",
}
BASES: tuple[type, ...] = (int, float, str, bytes, tuple, frozenset, list, dict, set)
ARRAY_KINDS = "biufcSU"


class Refused(Exception):
    """A value that cannot cross: too deep, too big, or malformed."""


if TYPE_CHECKING:  # a protocol takes longer to define than most programs to run

    class World(Protocol):
        """What a side knows beside plain values: classes of the prelude, names of the library, objects that stay where they are."""

        def special(self, value: Any) -> tuple[str, Iterable[Any]] | None:
            """(kind, slots) of a class or instance of the prelude, or of something of the standard library; None for anything else."""
            ...

        def handle(self, value: Any) -> Iterable[Any]:
            """The slots of a handle."""
            ...


class _Open:
    """A container whose slots are being written."""

    __slots__ = ("children", "depth", "id", "kind", "slots")

    def __init__(self, kind: str, id: int, children: Iterator[Any], depth: int) -> None:
        self.kind, self.id, self.children, self.depth = kind, id, children, depth
        self.slots: list[bytes] = []


class Writer:
    """Writes one value. `known` are objects of the question by `id()`, for an answer; `objects` is what was written, by entry."""

    def __init__(self, world: World, limit: int, known: dict[int, int] | None = None) -> None:
        self._world, self._limit, self._known = world, limit, known or {}
        self._entries: list[bytes] = []
        self._size = 0
        self._ids: dict[int, int] = {}
        self._kept: list[Any] = []
        self._stack: list[_Open] = []
        self.objects: list[Any] = []

    def write(self, root: Any) -> bytes:
        """The frame of a value. Raises Refused."""
        slot = self._slot(root)
        stack = self._stack
        while stack:
            top = stack[-1]
            for child in top.children:
                top.slots.append(self._slot(child))
                if stack[-1] is not top:
                    break
            else:
                stack.pop()
                self._emit(_ENTRY.pack(top.kind.encode(), top.id, len(top.slots)), *top.slots)
        return b"".join((_U32.pack(len(self._entries)), *self._entries, slot))

    def _emit(self, *parts: bytes) -> None:
        self._entries.append(b"".join(parts))

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._limit:
            raise Refused("too big")

    def _slot(self, value: Any) -> bytes:
        kind = type(value)
        if kind in _SCALARS:
            slot: bytes = _SCALARS[kind](value)
        elif id(value) in self._known:
            slot = b"a" + _U32.pack(self._known[id(value)])
        elif id(value) in self._ids:
            slot = b"r" + _U32.pack(self._ids[id(value)])
        else:
            slot = self._compound(value, kind)
        self._grow(len(slot))
        return slot

    def _compound(self, value: Any, kind: type) -> bytes:
        shape = _PLAIN.get(kind)
        found: tuple[str, Iterable[Any]] | None = (shape, _children(shape, value)) if shape else self._shape(value, kind)
        if found is None:
            return self._slot(_inherited(value))
        if found[0] == "scalar":
            return self._slot(*found[1])
        number = self._ids[id(value)] = len(self.objects)
        self.objects.append(value)
        if shape in ("l", "t") and len(value) >= PACKED_FROM and self._packed(shape, number, value):
            return b"r" + _U32.pack(number)
        depth = (self._stack[-1].depth if self._stack else 0) + (found[0] != "o")
        if depth > MAX_DEPTH:
            raise Refused("too deep")
        self._grow(_ENTRY.size)
        self._kept.append(found[1])
        self._stack.append(_Open(found[0], number, iter(found[1]), depth))
        return b"r" + _U32.pack(number)

    def _packed(self, shape: str, number: int, value: Any) -> bool:
        types = set(map(type, value))
        if types == {float}:
            code = "d"
        elif types == {int}:
            bits = max((end if end >= 0 else ~end).bit_length() for end in (min(value), max(value)))
            code = next((code for code, most in _INT_CODES if bits <= most), "")
        else:
            return False
        if not code:
            return False
        size = len(value) * struct.calcsize(">" + code)
        self._grow(_PACKED.size + size)
        head = _PACKED.pack(b"p" if shape == "l" else b"P", number, code.encode(), len(value))
        self._emit(head, struct.pack(f">{len(value)}{code}", *value))
        return True

    def _shape(self, value: Any, kind: type) -> tuple[str, Iterable[Any]] | None:
        """How anything but a plain value crosses; None for as what it inherits."""
        module = sys.modules.get(str(kind.__module__))
        name = EXTRAS.get((kind.__module__, kind.__qualname__)) if module else None
        if name and getattr(module, kind.__qualname__, None) is kind:
            parts = _extra(name, value)
            if parts is not None:
                return "x", (name, *parts)
        special = self._world.special(value)
        if special is not None:
            return special
        if kind.__module__ == "numpy" and module is not None and isinstance(value, module.generic) and value.dtype.kind in "biufcSU":
            item = value.item()  # of a long double it is one again
            return "scalar", (float(item) if isinstance(item, module.generic) else item,)
        if any(base in BASES for base in kind.__mro__):
            return None
        return "h", self._world.handle(value)


def _whole(value: int) -> bytes:
    if -(1 << 63) <= value < 1 << 63:
        return b"i" + _I64.pack(value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)
    return b"I" + _U32.pack(len(data)) + data


def _text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"s" + _U32.pack(len(data)) + data


_SCALARS: dict[type, Any] = {
    type(None): lambda value: b"N",
    bool: lambda value: b"T" if value else b"F",
    int: _whole,
    float: lambda value: b"f" + _F64.pack(value),
    str: _text,
    bytes: lambda value: b"b" + _U32.pack(len(value)) + value,
}
_PLAIN: dict[type, str] = {list: "l", tuple: "t", set: "S", frozenset: "Z", dict: "d"}


def _children(shape: str, value: Any) -> Iterable[Any]:
    return (part for pair in items_of(value) for part in pair) if shape == "d" else list(value)


def items_of(value: Any) -> list[tuple[Any, Any]]:
    """The items of a dict in its order, past whatever a subclass overrides."""
    ordered = isinstance(value, collections.OrderedDict)
    return list(collections.OrderedDict.items(value) if ordered else dict.items(value))


def _inherited(value: Any) -> Any:
    """What an instance of a subclass inherits, read past whatever it overrides."""
    for base in type(value).__mro__:
        if base is int:
            return int.__int__(value)
        if base is float:
            return float.__float__(value)
        if base is str:
            return str.__str__(value)
        if base is bytes:
            return bytes.__getitem__(value, slice(None))
        if base in (tuple, frozenset, list, set):
            return base(base.__iter__(value))
        if base is dict:
            return dict(items_of(value))
    raise Refused("no plain value")


def _extra(name: str, value: Any) -> Iterable[Any] | None:
    """The slots of a value of `EXTRAS` after its name; None where this one cannot cross."""
    if name in ("Counter", "OrderedDict", "defaultdict"):
        pairs = [part for pair in items_of(value) for part in pair]
        return [value.default_factory, *pairs] if name == "defaultdict" else pairs
    if name == "deque":
        return [value.maxlen, *value]
    if name in ("time", "datetime", "ndarray"):
        return _dated_or_array(name, value)
    return _SIMPLE_EXTRAS[name](value)  # type: ignore[no-any-return]


_SIMPLE_EXTRAS: dict[str, Any] = {
    "complex": lambda value: (value.real, value.imag),
    "range": lambda value: (value.start, value.stop, value.step),
    "bytearray": lambda value: (bytes(value),),
    "Decimal": lambda value: (str(value),),
    "Fraction": lambda value: (value.numerator, value.denominator),
    "date": lambda value: (value.year, value.month, value.day),
    "timedelta": lambda value: (value.days, value.seconds, value.microseconds),
}


def _dated_or_array(name: str, value: Any) -> Iterable[Any] | None:
    if name == "ndarray":
        kind = value.dtype.kind
        return (value.dtype.str, tuple(value.shape), value.tobytes()) if kind in ARRAY_KINDS and not value.dtype.names else None
    offset = value.utcoffset()
    clock = (value.hour, value.minute, value.second, value.microsecond, value.fold, offset)
    return clock if name == "time" else (value.year, value.month, value.day, *clock)
