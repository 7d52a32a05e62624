"""Mirrors: what the asserts get of an object of the program's whose class inherits a value, such as `class LRUCache(OrderedDict)`.

A mirror is a value of the inherited type, with the content that the program's box sent: compared, hashed, iterated as that type says, past
whatever the class overrides of comparing. Its attributes, methods and what else its class overrides are the object's own, and asked of it.
"""

from __future__ import annotations

import collections
from typing import Any

from reward_service.boxed.reading import content_of, replace_content
from reward_service.boxed.remotes import CALLABLE, CONTEXT, INDEXED, ITERABLE, ITERATOR, SIZED, Theirs, ask, remote_methods
from reward_service.boxed.values import BASES, Refused, items_of

MIRRORS = 1_000  # objects of one run that are mirrored; what comes after these are plain values
TEXT, TRUTH = 1 << 9, 1 << 10
_COMPARING = frozenset("issubset issuperset isdisjoint startswith endswith".split())  # as `==` does, and so the inherited type's
_FIXED: tuple[type, ...] = (int, float, str, bytes, tuple, frozenset)
_GROWING: tuple[type, ...] = (collections.OrderedDict, collections.Counter, collections.defaultdict, collections.deque, list, dict, set)
_OVERRIDDEN = {
    "__iter__": ITERABLE, "__next__": ITERATOR, "__len__": SIZED, "__getitem__": INDEXED, "__missing__": INDEXED, "__call__": CALLABLE,
    "__enter__": CONTEXT, "__repr__": TEXT, "__str__": TEXT, "__bool__": TRUTH,
}  # fmt: skip


def mirrored_base(value: Any) -> Any:
    """The type that an object of the program's inherits, where more than that type is in it; None for any other value."""
    kind = type(value)
    if kind.__module__ == "numpy":
        return None
    base = next((base for base in kind.__mro__ if base in _GROWING or base in _FIXED), None)
    if base is None or base is kind:
        return None
    own = (name for part in kind.__mro__[: kind.__mro__.index(base)] for name in vars(part))
    more = bool(getattr(value, "__dict__", None)) or any(not (name[:2] == "__" == name[-2:]) for name in own)
    return base if more else None


def mirrored_flags(kind: type, base: type) -> int:
    """What a class overrides that a mirror must ask its objects for."""
    flags = 0
    for name, flag in _OVERRIDDEN.items():
        if getattr(kind, name, None) is not getattr(base, name, None):
            flags |= flag
    return flags


def mirrored_content(value: Any, base: Any) -> Any:
    """The inherited value, read past whatever the class overrides."""
    if base is collections.deque:
        return collections.deque(collections.deque.__iter__(value), collections.deque.maxlen.__get__(value))
    if base is collections.defaultdict:
        return collections.defaultdict(None, items_of(value))
    if base in (collections.OrderedDict, dict):
        return base(items_of(value))
    if base is collections.Counter:
        plain: Any = collections.Counter()
        dict.update(plain, items_of(value))
        return plain
    if base in (list, set, tuple, frozenset):
        return base(base.__iter__(value))
    if base is int:
        return int.__int__(value)
    if base is float:
        return float.__float__(value)
    return str.__str__(value) if base is str else bytes.__getitem__(value, slice(None))


def can_change(base: Any) -> bool:
    """Whether values of a type can change."""
    return base in _GROWING


class Mirror(Theirs):
    """What is common to all mirrors."""

    def __getattribute__(self, name: str) -> Any:
        if name[:2] == "__" == name[-2:] or name in _COMPARING:
            return object.__getattribute__(self, name)
        return ask(self, "get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        ask(self, "set", name, value)

    def __reduce_ex__(self, protocol: Any) -> Any:
        base = next(base for base in type(self).__mro__ if base in BASES)
        return base, (content_of(self) or mirrored_content(self, base),)


_CHANGING = {
    "__setitem__": lambda self, key, value: ask(self, "put", key, value),
    "__delitem__": lambda self, key: ask(self, "del", key),
}
_MIRROR_TEXT = {"__repr__": lambda self: str(ask(self, "repr")), "__str__": lambda self: str(ask(self, "str"))}
_MIRROR_TRUTH = {"__bool__": lambda self: bool(ask(self, "bool"))}
_MIRROR_KINDS: dict[tuple[type, int], Any] = {}


def mirror(peer: Any, number: int, flags: int, plain: Any) -> Any:
    """A new mirror with this content. Raises Refused where no object of a program's has such content."""
    base: Any = type(plain)
    if base not in _FIXED and base not in _GROWING:
        raise Refused("no content of a mirror")
    if (base, flags) not in _MIRROR_KINDS:
        methods = {**remote_methods(flags), **(_MIRROR_TEXT if flags & TEXT else {}), **(_MIRROR_TRUTH if flags & TRUTH else {})}
        _MIRROR_KINDS[base, flags] = type("Mirror", (Mirror, base), {**methods, **(_CHANGING if base in _GROWING else {})})
    kind = _MIRROR_KINDS[base, flags]
    made: Any = base.__new__(kind, plain) if base in _FIXED else base.__new__(kind)
    object.__setattr__(made, "__remote__", (peer, number))
    if base is collections.deque:
        collections.deque.__init__(made, (), plain.maxlen)
    if base in _GROWING:
        reflect(made, plain)
    return made


def reflect(target: Any, plain: Any) -> None:
    """Give a mirror the content that its object has now. Raises Refused where that is of another type."""
    if not isinstance(target, Mirror) or not isinstance(target, type(plain)):
        raise Refused("another object's content")
    if type(plain) in _GROWING:
        replace_content(target, plain)
