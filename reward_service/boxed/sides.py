"""One side of a conversation between two boxes: calls to the other side, calls from it, and what neither lets through.

The side `A` runs asserts, the side `B` a candidate's program. Frames (u32 length, `M`, value) alternate strictly; each is a question or
the answer to the last open question of the other side. A hostile `B` can answer whatever it wants, but only with values: A reads them
with `reading.Reader`, and lets B do to its own objects no more than call what was passed to be called and iterate what was passed.
"""

from __future__ import annotations

import builtins
import io
import operator
import os
import random
import re
import sys
import types
from collections.abc import Iterable
from typing import Any

from reward_service.boxed.channel import ANSWER_BYTES, FRAME_BYTES, Broken, Channel
from reward_service.boxed.mirrors import MIRRORS, can_change, mirror, mirrored_base, mirrored_content, mirrored_flags, reflect
from reward_service.boxed.reading import Reader, content_of, fields_of, raised_again, replace_content, same_content, set_fields
from reward_service.boxed.remotes import OPERATORS, UNARY, capabilities, is_theirs, number_of, stand_in
from reward_service.boxed.values import BASES, Refused, Writer, items_of

_TOLD_FIELDS = (int, float, bool, str, type(None))  # of an exception: it tells no more than these
TEXT_CHARACTERS = 1000  # of an exception's argument

_LIBRARY = frozenset(
    (
        "builtins", "math", "cmath", "operator", "_operator", "functools", "_functools", "itertools", "collections", "_collections",
        "string", "heapq", "_heapq", "bisect", "_bisect", "copy", "decimal", "fractions", "datetime", "statistics",
    )
)  # fmt: skip
_NEVER = frozenset("eval exec compile open input print breakpoint exit quit globals locals vars help memoryview".split())
_OPEN_TYPES = (io.StringIO, io.BytesIO, random.Random, re.Pattern, re.Match)  # whose public attributes A shows


class Peer:
    """This side: what it exports, what it knows of the other side, and the questions that are open."""

    def __init__(self, side: str, channel: Channel, names: dict[str, Any], classes: dict[str, type]) -> None:
        self.side, self.names, self.classes = side, names, classes
        self.failure = ""  # why nothing of the other side can be believed any more
        self.asked = 0
        self.used = False  # whether anything but names was asked for
        self.raised: Exception | None = None  # what the other side raised last
        self.expects_stop = side == "B"  # whether a call may raise StopIteration
        self._channel = channel
        self._class_names = {kind: name for name, kind in classes.items()}
        self._exports: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._remotes: dict[int, Any] = {}
        self._mirrored: dict[int, Any] = {}  # content of objects of this side that the other mirrors, as it knows it
        self._looks: dict[tuple[str, int], Any] = {}
        self._kinds: dict[int, type] = {}  # exception classes of the other side, by its number
        self._kind_numbers: dict[int, int] = {}

    def redefine(self, name: str, kind: type) -> None:
        """A class of the prelude that the program defines anew is what instances become on this side."""
        self.classes[name] = kind
        self._class_names[kind] = name

    # ---- questions ---------------------------------------------------------------------------------------------------

    def look(self, act: str, target: int) -> Any:
        """An object's length, or the number that it is: the same to whoever looks until anything else is asked. Raises Broken."""
        if (act, target) not in self._looks:
            self._looks[act, target] = self.ask(act, target, (), {})
        return self._looks[act, target]

    def ask(self, act: str, target: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Have the other side do something; its exceptions are raised here. Raises Broken."""
        if self.failure:
            raise Broken(self.failure)
        if act not in ("len", "int", "float"):
            self._looks.clear()
        self.asked += 1
        self.used = self.used or act != "names"
        number = self.asked
        writer = Writer(self, FRAME_BYTES)
        try:
            frame = writer.write(("ask", number, act, target, args, kwargs))
        except Refused as refusal:
            raise ValueError(f"an argument cannot cross: {refusal}") from None
        self._channel.send(b"M" + frame)
        while True:
            body = self._receive()
            reader = Reader(body, self, writer.objects)
            message = self._read(reader)
            if message[0] == "ask":
                self._answer(message, reader)
            elif message[0] in ("value", "raise") and message[1] == number:
                return self._settle(act, message, writer.objects)
            else:
                self._break("an answer to another question" if message[0] in ("value", "raise") else str(message[1])[:TEXT_CHARACTERS])

    def _settle(self, act: str, message: tuple[Any, ...], objects: list[Any]) -> Any:
        kind, _, value, changed = message
        try:
            for number, content in changed:
                if is_theirs(number):  # a mirror: reading it was all
                    continue
                target = objects[number]
                if content_of(target) is not None:
                    replace_content(target, content)
                elif type(target) in self._class_names and not hasattr(type(target), "__members__"):
                    getattr(target, "__dict__", {}).clear()
                    self.give_fields(target, content)
                else:
                    self._break("a change of what never changes")
        except (AttributeError, IndexError, TypeError, ValueError, Refused):
            self._break("a change of what was not passed")
        if kind == "value":
            return value
        error = self._exception(value)
        if isinstance(error, StopIteration) and act != "next" and not self.expects_stop:
            error = RuntimeError("the program raised StopIteration")  # which would end a `map` of the asserts, and what it checks
        self.raised = error
        raise error

    def _receive(self) -> bytes:
        try:
            body = self._channel.receive()
        except Broken as broken:
            self._break(str(broken))
        if body[:1] != b"M":
            self._break("no message")
        return body[1:]

    def _read(self, reader: Reader) -> tuple[Any, ...]:
        try:
            message = reader.read()
        except Refused as refusal:
            self._break(str(refusal))
        if type(message) is not tuple or len(message) not in (2, 4, 6) or len(message) != _LENGTHS.get(str(message[0])):
            self._break("a malformed message")
        return message  # type: ignore[no-any-return]

    def _break(self, why: str) -> Any:
        self.failure = why or "broken"
        raise Broken(self.failure)

    # ---- answers -----------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Answer questions until the other side ends. Raises Broken then."""
        while True:
            reader = Reader(self._receive(), self)
            self._answer(self._read(reader), reader)

    def _answer(self, message: tuple[Any, ...], reader: Reader) -> None:
        _, number, act, target, args, kwargs = message
        passed = {key: item for key, item in reader.objects.items() if item is not message}
        before = {key: self._state(item) for key, item in passed.items()}
        kind = "value"
        try:
            value = self._act(act, target, args, kwargs)
        except Broken:
            raise
        except MemoryError:
            os.write(2, b"MemoryError\n")
            os._exit(1)
        except Exception as error:  # noqa: BLE001 - whatever a program raises is told to whoever called it
            kind, value = "raise", self._described(error)
        except BaseException as error:  # noqa: BLE001
            self._send_fatal(f"{type(error).__name__} from a call")
            return
        known = {id(item): key for key, item in passed.items()}
        changed: list[tuple[Any, Any]] = [
            (key, now) for key, item in passed.items() if (now := self._changed(before[key], item)) is not None
        ]
        changed += [(item, None) for item in self._mirrors_changed() if id(item) not in known]
        try:
            frame = Writer(self, ANSWER_BYTES if not changed else FRAME_BYTES + ANSWER_BYTES, known).write((kind, number, value, changed))
        except MemoryError:
            os.write(2, b"MemoryError\n")
            os._exit(1)
        except Exception as error:  # noqa: BLE001 - results that change when looked at
            self._send_fatal(f"a result that cannot cross: {error if isinstance(error, Refused) else type(error).__name__}")
            return
        self._channel.send(b"M" + frame)

    def _state(self, item: Any) -> Any:
        """What of an object a call may change; None where nothing."""
        content = content_of(item)
        return fields_of(item) if content is None and type(item) in self._class_names else content

    def _changed(self, before: Any, item: Any) -> Any:
        """The content of an object after a call where the call changed it, else None."""
        if before is None:
            return None
        now = self._state(item)
        return None if same_content(before, now) else now

    def _mirrors_changed(self) -> list[Any]:
        """The mirrored objects whose content is not what the other side knows."""
        objects = [(self._exports[number], content) for number, content in self._mirrored.items()]
        return [item for item, content in objects if content is not None and not same_content(content, content_of(item))]

    def _send_fatal(self, why: str) -> None:
        self._channel.send(b"M" + Writer(self, ANSWER_BYTES).write(("fatal", why)))

    def _act(self, act: str, target: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if act == "names" and self.side == "B":
            return {name: self.names[name] for name in args if name in self.names}
        item = self._exports[target]
        if act == "call":
            return item(*args, **kwargs)
        if self.side == "A" and act not in ("iter", "next", "len", "item") and not (act == "get" and self._shown(item, args[0])):
            raise AttributeError(act)
        if act == "exit":
            error = None if args[0] is None else self._exception((args[0], (), {}))
            return bool(item.__exit__(type(error) if error else None, error, None))
        return _ACTS[act](item, *args)

    def _shown(self, item: Any, name: str) -> bool:
        """Whether A lets the program see an attribute of an object that was passed: never what leads to the asserts themselves."""
        kind = type(item)
        return not name.startswith("_") and (kind.__module__ == "__main__" or kind in _OPEN_TYPES)

    # ---- exceptions --------------------------------------------------------------------------------------------------

    def kinds_of(self, error: BaseException) -> list[Any]:
        """The classes of an exception as the other side may know them, the nearest first."""
        kinds: list[Any] = []
        for kind in type(error).__mro__:
            if id(kind) in self._numbers:
                kinds.append(self._numbers[id(kind)])
            elif kind in self._class_names:
                kinds.append(self._class_names[kind])
            elif getattr(builtins, kind.__name__, None) is kind:
                kinds.append(kind.__name__)
        return kinds

    def _described(self, error: Exception) -> tuple[Any, ...]:
        args = [item if type(item) in (int, float, bool, type(None)) else str(item)[:TEXT_CHARACTERS] for item in error.args]
        return (self.kinds_of(error), args, {name: item for name, item in vars(error).items() if type(item) in _TOLD_FIELDS})

    def _exception(self, described: Any) -> Exception:
        """The exception that the other side's is here: of the nearest kind that both sides know."""
        try:
            kinds, args, fields = described
            for known in kinds:
                kind = self._kinds.get(known) or self.classes.get(known) or getattr(builtins, str(known), None)
                if isinstance(kind, type) and issubclass(kind, Exception):
                    made = raised_again(kind, args)
                    vars(made).update({name: item for name, item in dict(fields).items() if type(item) in _TOLD_FIELDS})
                    return made
        except (TypeError, ValueError):
            pass
        return RuntimeError(f"the program raised {described!r}"[:TEXT_CHARACTERS])

    # ---- what crosses ------------------------------------------------------------------------------------------------

    def special(self, value: Any) -> tuple[str, Iterable[Any]] | None:
        """See `values.World`."""
        kind = type(value)
        if kind in self._class_names and not issubclass(kind, BaseException):
            name = self._class_names[kind]
            if hasattr(kind, "__members__") and isinstance(getattr(value, "_name_", None), str):
                return "e", (name, value._name_)
            return "o", (name, _base_value(value), *fields_of(value))
        if self.side == "A" and is_theirs(value):
            return "h", self.handle(value)
        if self.side == "B" and (base := mirrored_base(value)) is not None:
            number = self._number(value)
            if number in self._mirrored or len(self._mirrored) < MIRRORS:
                self._mirrored[number] = content_of(value) if can_change(base) else None
                return "m", (self.side, number, mirrored_flags(kind, base), mirrored_content(value, base))
        if isinstance(value, type) and value in self._class_names:
            return "c", (self._class_names[value],)
        if isinstance(value, type) and issubclass(value, BaseException) and getattr(builtins, value.__name__, None) is not value:
            if id(value) in self._kind_numbers:
                return "E", ("B" if self.side == "A" else "A", self._kind_numbers[id(value)])
            return "E", (self.side, self._number(value), value.__name__, [base.__name__ for base in value.__mro__])
        if isinstance(value, (type, types.BuiltinFunctionType, types.FunctionType)):
            module, name = value.__module__, value.__qualname__
            if module in _LIBRARY and _library(module, name) is value:
                return "g", (module, name)
        return None

    def handle(self, value: Any) -> Iterable[Any]:
        """See `values.World`."""
        if is_theirs(value):
            return ("B" if self.side == "A" else "A", number_of(value))
        return (self.side, self._number(value), capabilities(value), str(getattr(value, "__name__", ""))[:100])

    def _number(self, value: Any) -> int:
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self._exports)
            self._exports.append(value)
        return self._numbers[id(value)]

    def shell(self, class_name: str) -> Any:
        """See `reading.Resolver`."""
        kind = self._class(class_name)
        base: Any = next((base for base in kind.__mro__ if base in BASES), object)
        return None if base in (int, float, str, bytes, tuple, frozenset) else base.__new__(kind)

    def instance(self, class_name: str, base: Any) -> Any:
        """See `reading.Resolver`."""
        return type(base).__new__(self._class(class_name), base)

    def give_fields(self, target: Any, fields: list[Any]) -> None:
        """See `reading.Resolver`. Nothing of a program's stands in for a method of the prelude's, which may be told what is expected."""
        for name, item in zip(fields[::2], fields[1::2], strict=False) if self.side == "A" else ():
            if callable(item) and isinstance(getattr(type(target), str(name), None), (types.FunctionType, types.MethodType)):
                raise Refused("a field in the place of a method")
        set_fields(target, fields)

    def _class(self, name: Any) -> type:
        if type(name) is not str or name not in self.classes:
            raise Refused("an unknown class")
        return self.classes[name]

    def named(self, kind: str, slots: list[Any]) -> Any:
        """See `reading.Resolver`."""
        if kind == "c":
            return self._class(slots[0])
        if kind == "e":
            return self._class(slots[0]).__members__[slots[1]]  # type: ignore[attr-defined]
        if kind == "g":
            found = _library(slots[0], slots[1]) if slots[0] in _LIBRARY else None
            if found is None:
                raise Refused("an unknown name")
            return found
        if kind in ("h", "E") and slots[0] == self.side:
            return self._exports[slots[1]]
        if kind == "h":
            return self._remote(*slots[1:])
        if kind == "m":
            return self._mirror(*slots[1:])
        if kind == "E":
            return self._exception_kind(*slots[1:])
        raise Refused("an unknown kind")

    def _remote(self, number: int, flags: int, name: str) -> Any:
        if number not in self._remotes:
            self._remotes[number] = stand_in(self, int(number), int(flags), str(name))
        return self._remotes[number]

    def _mirror(self, number: int, flags: int, plain: Any) -> Any:
        if number in self._remotes:
            reflect(self._remotes[number], plain)
        else:
            self._remotes[number] = mirror(self, int(number), int(flags), plain)
        return self._remotes[number]

    def _exception_kind(self, number: int, name: str, bases: list[str]) -> Any:
        if number not in self._kinds:
            known = (getattr(builtins, str(base), None) for base in bases)
            base = next((base for base in known if isinstance(base, type) and issubclass(base, Exception)), Exception)
            self._kinds[number] = type(str(name), (base,), {})
            self._kind_numbers[id(self._kinds[number])] = number
        return self._kinds[number]


_LENGTHS = {"ask": 6, "value": 4, "raise": 4, "fatal": 2}
_ACTS: dict[str, Any] = {
    "get": getattr,
    "set": setattr,
    "iter": iter,
    "next": next,
    "len": len,
    "item": lambda item, key: item[key],
    "put": lambda item, key, value: item.__setitem__(key, value),
    "del": lambda item, key: item.__delitem__(key),
    **{name: getattr(operator, name) for name in (*OPERATORS, *UNARY)},
    "bool": bool,
    "str": str,
    "repr": repr,
    "int": int,
    "float": float,
    "enter": lambda item: item.__enter__(),
    "holds": lambda item, value: isinstance(value, item),
    "under": lambda item, value: issubclass(value, item),
}


def _library(module: Any, name: Any) -> Any:
    """Something of the standard library that may cross by its name; None for anything else."""
    if type(name) is not str or (module == "builtins" and name in _NEVER) or "." in name or name.startswith("_"):
        return None
    found = getattr(sys.modules.get(module) or __import__(module), name, None)
    return found if isinstance(found, (type, types.BuiltinFunctionType, types.FunctionType)) else None


def _base_value(value: Any) -> Any:
    for base in type(value).__mro__:
        if base in (tuple, frozenset, list, set):
            return base(base.__iter__(value))
        if base is dict:
            return dict(items_of(value))
        if base in BASES:
            plain: Any = base
            return plain.__new__(plain, value)
    return None
