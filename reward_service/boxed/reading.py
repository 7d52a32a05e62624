"""Reading the wire form of values inside of a box: without evaluating anything, without recursion."""

from __future__ import annotations

import collections
import operator
import struct
import types
from typing import TYPE_CHECKING, Any, Protocol

from reward_service.boxed.values import Refused, items_of

_SIZES = {"b": 1, "h": 2, "i": 4, "q": 8, "d": 8}
_SHELLS: dict[str, Any] = {"l": list, "S": set, "d": dict}
_EXTRA_SHELLS = ("Counter", "OrderedDict", "defaultdict", "deque")


class Ref:
    """A slot that names an entry."""

    __slots__ = ("id",)

    def __init__(self, id: int) -> None:
        self.id = id


if TYPE_CHECKING:

    class Resolver(Protocol):
        """What a side makes of classes, names and handles that the other side names."""

        def shell(self, class_name: str) -> Any:
            """An instance of a class of the prelude without its content; None where its content must be there first. Raises Refused."""
            ...

        def instance(self, class_name: str, base: Any) -> Any:
            """An instance of a class of the prelude that inherits a value that never changes. Raises Refused."""
            ...

        def give_fields(self, target: Any, fields: list[Any]) -> None:
            """Give an instance of a class of the prelude its fields: names and values in turn. Raises Refused."""
            ...

        def named(self, kind: str, slots: list[Any]) -> Any:
            """What kinds c, e, g, E and h name. Raises Refused."""
            ...


class Reader:
    """Reads one value; `objects` is what was read, by entry, and `known` the objects of the question, for an answer."""

    def __init__(self, data: bytes, resolver: Resolver, known: list[Any] | None = None) -> None:
        self._data, self._at, self._resolver, self._known = data, 0, resolver, known or []
        self.objects: dict[int, Any] = {}

    def read(self) -> Any:
        """The value. Raises Refused where it is malformed."""
        try:
            return self._read()
        except Refused:
            raise
        except Exception as error:  # noqa: BLE001 - hostile bytes fail in as many ways as there are types
            raise Refused(f"malformed: {type(error).__name__}") from None

    def _read(self) -> Any:
        (count,) = self._take(">I")
        entries = [self._entry() for _ in range(count)]
        root = self._slot()
        if self._at != len(self._data):
            raise Refused("more than a value")
        for kind, number, slots in entries:
            if number in self.objects:
                raise Refused("an entry twice")
            shell = self._shell(kind, slots)
            if shell is not None:
                self.objects[number] = shell
        for kind, number, slots in entries:
            if kind in "pP":
                self.objects[number] = slots if kind == "p" else tuple(slots)
            else:
                self._build(kind, number, [self._resolve(slot) for slot in slots])
        return self._resolve(root)

    def _take(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return found

    def _bytes(self) -> bytes:
        (size,) = self._take(">I")
        data = self._data[self._at : self._at + size]
        if len(data) != size:
            raise Refused("cut short")
        self._at += size
        return data

    def _entry(self) -> tuple[str, int, list[Any]]:
        kind, number = self._take(">cI")
        if kind in (b"p", b"P"):
            code, count = self._take(">cI")
            if count * _SIZES[code.decode()] > len(self._data) - self._at:
                raise Refused("cut short")
            return kind.decode(), number, list(self._take(f">{count}{code.decode()}"))
        (count,) = self._take(">I")
        if count > len(self._data) - self._at:
            raise Refused("cut short")
        return kind.decode("ascii"), number, [self._slot() for _ in range(count)]

    def _slot(self) -> Any:
        tag = self._data[self._at : self._at + 1]
        self._at += 1
        if tag in _CONSTANTS:
            return _CONSTANTS[tag]
        if tag == b"i":
            return self._take(">q")[0]
        if tag == b"f":
            return self._take(">d")[0]
        if tag == b"s":
            return self._bytes().decode("utf-8", "surrogatepass")
        if tag == b"b":
            return self._bytes()
        if tag == b"I":
            return int.from_bytes(self._bytes(), "big", signed=True)
        if tag == b"r":
            return Ref(self._take(">I")[0])
        if tag == b"a":
            return self._known[self._take(">I")[0]]
        raise Refused("an unknown tag")

    def _resolve(self, slot: Any) -> Any:
        if type(slot) is not Ref:
            return slot
        if slot.id not in self.objects:
            raise Refused("refers to what is not there")
        return self.objects[slot.id]

    def _shell(self, kind: str, slots: list[Any]) -> Any:
        """The empty container that content is put into later, so that cycles can be closed."""
        if kind in _SHELLS:
            return _SHELLS[kind]()
        if kind == "x" and slots[0] in _EXTRA_SHELLS:
            return collections.deque(maxlen=slots[1]) if slots[0] == "deque" else getattr(collections, slots[0])()
        return self._resolver.shell(slots[0]) if kind == "o" else None

    def _build(self, kind: str, number: int, slots: list[Any]) -> None:
        made: Any = self.objects.get(number)
        if kind == "l":
            made.extend(slots)
        elif kind == "S":
            made.update(slots)
        elif kind == "d":
            _fill(made, slots)
        elif kind == "t":
            self.objects[number] = tuple(slots)
        elif kind == "Z":
            self.objects[number] = frozenset(slots)
        elif kind == "o":
            self._build_instance(number, made, slots)
        elif kind == "x":
            self._build_extra(number, made, slots)
        else:
            self.objects[number] = self._resolver.named(kind, slots)

    def _build_instance(self, number: int, made: Any, slots: list[Any]) -> None:
        name, base, *fields = slots
        if made is None:
            made = self.objects[number] = self._resolver.instance(name, base)
        elif base is not None:
            replace_content(made, base)
        self._resolver.give_fields(made, fields)

    def _build_extra(self, number: int, made: Any, slots: list[Any]) -> None:
        name, *rest = slots
        if name == "deque":
            made.extend(rest[1:])
        elif name == "defaultdict":
            made.default_factory = rest[0]
            _fill(made, rest[1:])
        elif name in _EXTRA_SHELLS:
            _fill(made, rest)
        else:
            self.objects[number] = _MAKERS[name](*rest)


_CONSTANTS = {b"N": None, b"T": True, b"F": False}


def _fill(target: Any, slots: list[Any]) -> None:
    if len(slots) % 2:
        raise Refused("a key without a value")
    kind = collections.OrderedDict if isinstance(target, collections.OrderedDict) else dict
    for at in range(0, len(slots), 2):
        kind.__setitem__(target, slots[at], slots[at + 1])


def replace_content(target: Any, content: Any) -> None:
    """Give a container the content of another one of its kind, as a candidate's call left it."""
    if isinstance(target, dict):
        kind: Any = collections.OrderedDict if isinstance(target, collections.OrderedDict) else dict
        kind.clear(target)
        _fill(target, [part for pair in content.items() for part in pair])
    elif isinstance(target, list):
        list.__setitem__(target, slice(None), content)
    elif isinstance(target, set):
        set.clear(target)
        set.update(target, content)
    elif isinstance(target, bytearray):
        bytearray.__setitem__(target, slice(None), content)
    elif isinstance(target, collections.deque):
        collections.deque.clear(target)
        collections.deque.extend(target, content)
    elif is_array(target):
        target[...] = content
    else:
        raise Refused("has no content")


def set_fields(target: Any, fields: list[Any]) -> None:
    """Give an instance its fields, past any `__setattr__` of its class."""
    if len(fields) % 2:
        raise Refused("a field without a value")
    for at in range(0, len(fields), 2):
        name = fields[at]
        if type(name) is not str or (name[:2] == "__" == name[-2:]):
            raise Refused("no name of a field")
        object.__setattr__(target, name, fields[at + 1])


def raised_again(kind: type[Exception], args: list[Any]) -> Exception:
    """An exception with these arguments, also of a class whose `__init__` takes others."""
    try:
        return kind(*args)
    except TypeError:
        return kind.__new__(kind, *args)


def _array(form: str, shape: tuple[int, ...], data: bytes) -> Any:
    numpy = __import__("numpy")
    if form[:1] not in "<>|=" or form[1:2] not in "biufcSU" or not form[2:].isdigit():
        raise Refused("an array of objects")
    return numpy.frombuffer(data, dtype=form).reshape(shape).copy()


def _clock(name: str, *slots: Any) -> Any:
    datetime = __import__("datetime")
    *parts, fold, offset = slots
    zone = None if offset is None else datetime.timezone(offset)
    return getattr(datetime, name)(*parts, tzinfo=zone, fold=fold)


def _from(module: str, name: str) -> Any:
    return lambda *slots: getattr(__import__(module), name)(*slots)


_MAKERS: dict[str, Any] = {
    "complex": complex,
    "range": range,
    "bytearray": bytearray,
    "Decimal": _from("decimal", "Decimal"),
    "Fraction": _from("fractions", "Fraction"),
    "date": _from("datetime", "date"),
    "timedelta": _from("datetime", "timedelta"),
    "time": lambda *slots: _clock("time", *slots),
    "datetime": lambda *slots: _clock("datetime", *slots),
    "ndarray": _array,
}


def is_array(value: Any) -> bool:
    """Whether it is an array of numpy's, without importing that."""
    return type(value).__module__ == "numpy" and type(value).__name__ == "ndarray"


def content_of(value: Any) -> Any:
    """A copy of what an object holds that a call may change, for `changed` and to send; None where nothing can."""
    if isinstance(value, list):
        return list(value)
    if isinstance(value, dict):
        return dict(items_of(value))
    if isinstance(value, set):
        return set(value)
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, collections.deque):
        return list(value)
    if is_array(value):
        return value.copy()
    return None


def fields_of(value: Any) -> list[Any]:
    """Names and values of an instance's fields in turn: its `__dict__` and its slots."""
    found: list[Any] = []
    for name, item in getattr(value, "__dict__", {}).items():
        found += (name, item)
    for kind in type(value).__mro__:
        for name in _slots(kind):
            try:
                found += (name, object.__getattribute__(value, name))
            except AttributeError:
                continue
    return found


def _slots(kind: type) -> list[str]:
    return [name for name, item in vars(kind).items() if type(item) is types.MemberDescriptorType]


def same_content(before: Any, now: Any) -> bool:
    """Whether a call left an object's content alone: the same objects in the same order."""
    if is_array(before):
        return bool(before.shape == now.shape and before.tobytes() == now.tobytes())
    if isinstance(before, bytes):
        return bool(before == now)
    if isinstance(before, set):
        return len(before) == len(now) and {id(item) for item in before} == {id(item) for item in now}
    if isinstance(before, dict):
        before, now = [*before.items()], [*now.items()]
        return len(before) == len(now) and all(a[0] is b[0] and a[1] is b[1] for a, b in zip(before, now, strict=True))
    return len(before) == len(now) and all(map(operator.is_, before, now))
