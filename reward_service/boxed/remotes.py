"""Stand-ins for objects of the other side: equal to nothing, and able to do what the object itself says that it is able to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

CALLABLE, ITERABLE, ITERATOR, SIZED, INDEXED, INTEGER, REAL, CONTEXT, CLASS = (1 << bit for bit in range(9))
_CAPABILITIES = {
    "__iter__": ITERABLE, "__next__": ITERATOR, "__len__": SIZED, "__getitem__": INDEXED, "__index__": INTEGER, "__float__": REAL,
    "__enter__": CONTEXT,
}  # fmt: skip


def capabilities(value: Any) -> int:
    """What the other side's stand-in for an object must be able to do."""
    flags = CALLABLE if callable(value) else 0
    if isinstance(value, type):
        return flags | CLASS
    for method, flag in _CAPABILITIES.items():
        flags |= flag if hasattr(type(value), method) else 0
    return flags


# Asked only where both operands are the program's own: a plain one may be what is expected, as in `abs(solve(x) - 3.5) < 1e-6`.
OPERATORS = "add sub mul truediv floordiv mod pow matmul and_ or_ xor lt le gt ge".split()
UNARY = "neg pos abs invert".split()
_TOLD = frozenset({"__qualname__", "__annotations__", "__dict__"})


class Theirs:
    """What stands for an object of the other side: a stand-in, or a mirror."""

    __slots__ = ()


class Remote(Theirs):
    """An object of the other side, equal to nothing."""

    __slots__ = ("_remote", "_remote_name")

    def __getattr__(self, name: str) -> Any:
        if name == "__name__":
            return object.__getattribute__(self, "_remote_name")
        if name.startswith("__") and name not in _TOLD:
            raise AttributeError(name)
        return ask(self, "get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        ask(self, "set", name, value)

    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash(object.__getattribute__(self, "_remote")[1])

    def __bool__(self) -> bool:
        return bool(ask(self, "bool"))

    def __str__(self) -> str:
        return str(ask(self, "str"))

    def __repr__(self) -> str:
        return str(ask(self, "repr"))


def _place(value: Any) -> tuple[Any, int]:
    """The side that talks to the object behind a stand-in or mirror, and the object's number."""
    found: tuple[Any, int] = object.__getattribute__(value, "_remote" if issubclass(type(value), Remote) else "__remote__")
    return found


def is_theirs(value: Any) -> bool:
    """Whether it stands for an object of the other side, whatever class it claims to be of."""
    return issubclass(type(value), Theirs)


def ask(target: Any, act: str, *details: Any) -> Any:
    """Have the other side do something with an object of its own."""
    peer, number = _place(target)
    return peer.ask(act, number, details, {})


def _call(self: Any, *args: Any, **kwargs: Any) -> Any:
    peer, number = _place(self)
    return peer.ask("call", number, args, kwargs)


def _leave(manager: Any, error: BaseException | None) -> bool:
    """End a `with` of the asserts. The program is told the kind of an exception and nothing else, and can swallow no failed assert."""
    peer, _ = _place(manager)
    swallowed = bool(ask(manager, "exit", None if error is None else peer.kinds_of(error)))
    return swallowed and isinstance(error, Exception) and not isinstance(error, AssertionError)


def _is_instance(kind: Remote, value: Any) -> bool:
    """Whether the object behind `value` is an instance of the class behind `kind`; a plain value never is."""
    return is_theirs(value) and bool(ask(kind, "holds", value))


def _is_subclass(kind: Remote, other: Any) -> bool:
    """Whether the class behind `other` inherits from the one behind `kind`; a class of the asserts' never does."""
    return is_theirs(other) and bool(ask(kind, "under", other))


def _look(act: str) -> Any:
    def look(self: Any) -> Any:
        peer, number = _place(self)
        return peer.look(act, number)

    return look


def _iterate(self: Any) -> Any:
    """Iterate an object of the other side. One that says how long it is must hold as many items: else a loop over them checks nothing."""
    size = len(self) if hasattr(type(self), "__len__") else None
    items = ask(self, "iter")
    return items if size is None else _counted(items, size)


def _counted(items: Any, size: int) -> Iterator[Any]:
    seen = 0
    for item in items:
        seen += 1
        yield item
    if seen != size:
        raise RuntimeError(f"the program's object says that it holds {size} items, and held {seen}")


def _operator(name: str) -> Any:
    def operate(self: Any, other: Any) -> Any:
        return ask(self, name, other) if is_theirs(other) else NotImplemented

    return operate


def _unary(name: str) -> Any:
    return lambda self: ask(self, name)


for _name in OPERATORS:
    setattr(Remote, f"__{_name.rstrip('_')}__", _operator(_name))
for _name in UNARY:
    setattr(Remote, f"__{_name}__", _unary(_name))

_METHODS: dict[int, dict[str, Any]] = {
    CALLABLE: {"__call__": _call},
    ITERABLE: {"__iter__": _iterate},
    ITERATOR: {"__next__": lambda self: ask(self, "next"), "__iter__": lambda self: self},
    SIZED: {"__len__": _look("len")},
    INDEXED: {
        "__getitem__": lambda self, key: ask(self, "item", key),
        "__setitem__": lambda self, key, value: ask(self, "put", key, value),
        "__delitem__": lambda self, key: ask(self, "del", key),
    },
    INTEGER: {"__int__": _look("int"), "__index__": _look("int")},
    REAL: {"__float__": _look("float")},
    CONTEXT: {"__enter__": lambda self: ask(self, "enter"), "__exit__": lambda self, _, error, trace: _leave(self, error)},
    CLASS: {"__instancecheck__": _is_instance, "__subclasscheck__": _is_subclass},
}
_KINDS: dict[int, type] = {}


def remote_methods(flags: int) -> dict[str, Any]:
    """The special methods that go with what an object is able to do."""
    methods: dict[str, Any] = {}
    for flag in sorted(_METHODS):
        if flags & flag:
            methods.update(_METHODS[flag])
    return methods


def stand_in(peer: Any, number: int, flags: int, name: str) -> Remote:
    """A new stand-in for the object of this number."""
    if flags not in _KINDS:
        methods = {"__slots__": (), "__doc__": property(lambda self: ask(self, "get", "__doc__")), **remote_methods(flags)}
        _KINDS[flags] = type("Remote", (Remote,), methods)
    made: Remote = object.__new__(_KINDS[flags])
    object.__setattr__(made, "_remote", (peer, number))
    object.__setattr__(made, "_remote_name", name)
    return made


def number_of(value: Any) -> int:
    """The number that the other side gave to the object."""
    return _place(value)[1]
