"""Strict JSON: what a request's body may say, refused with 400 where two readers could read it differently."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from reward_service.errors import RequestError
from reward_service.records import Json
from reward_service.server.refusals import json_pointer

REPLACEMENT = "\ufffd"
KEPT_SURROGATES = frozenset({"stdin", "stdout"})  # tests may carry undecodable bytes as surrogates (PEP 383)

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_STRINGS = re.compile(_STRING, re.DOTALL)
_RUN = re.compile(rf'(?:[^"]*+{_STRING}){{1,1000}}+', re.DOTALL)  # possessive all over: linear
_TOKEN = re.compile(rf"{_STRING}|[\[\]{{}},]", re.DOTALL)
DEEP = 300  # a level that is surely beyond what a request needs, and surely reached where the parser gave up
MAX_INTEGER_DIGITS = 4300  # the time that a longer one takes grows with the square of its length


@dataclass(frozen=True, slots=True)
class _Wrong:
    """Stands in the parsed value for what may not stand in the text."""

    message: str
    key: str | None = None


def read_json(data: bytes | memoryview, max_values: int) -> Json:
    r"""The value that UTF-8 JSON text states, with lone surrogates as U+FFFD (other than in a test's `stdin` and `stdout`).

    Example: `{"completion": "\ud800"}` -> {"completion": "\ufffd"}. Linear in its size; in memory up to four times the size, and about
    150 bytes for each value.

    Raises:
        RequestError: the client's fault: 400 where it is empty, no UTF-8, no JSON, NaN or Infinity, a number out of range, or a key that
            stands twice in an object; 422 for nesting beyond the interpreter's recursion limit (about 1,000); 413 where it holds more
            than `max_values` texts, numbers, arrays and so on.
    """
    try:
        text = str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise _refuse(f"the body is not UTF-8 (byte {error.start})") from None
    if not text or text.isspace():
        raise _refuse("the body is empty")
    if _holds_more_than(max_values, text):
        raise RequestError("", f"the body holds more than {max_values} values", status=413)
    try:
        return _parsed(text, bool(_SURROGATE_ESCAPE.search(data)))
    except json.JSONDecodeError as error:
        raise _refuse(f"the body is not JSON: {error.msg} (character {error.pos})") from None
    except RecursionError:
        raise RequestError(replace_surrogates(_too_deep(text)), "nested too deep") from None


def replace_surrogates(text: str) -> str:
    """Text with each lone surrogate as U+FFFD, so that it can be written as UTF-8."""
    return text if text.isascii() else _SURROGATE.sub(REPLACEMENT, text)


def _parsed(text: str, surrogates: bool) -> Json:
    hooks = _Hooks()
    value: Json = json.loads(
        text, object_pairs_hook=hooks.object, parse_constant=hooks.constant, parse_float=hooks.real, parse_int=hooks.integer
    )
    if hooks.wrong:
        raise _refusal_of_first(value)
    return _replaced(value) if surrogates else value


def _refuse(message: str) -> RequestError:
    return RequestError("", message, status=400)


def _holds_more_than(maximum: int, text: str) -> bool:
    """Whether JSON text holds more than so many values; counted before the parser makes an object of each."""
    if _most_values(text) <= maximum:  # so it is with most bodies, and no string has to be told from what stands between
        return False
    found = at = 0
    while run := _RUN.match(text, at):
        found += _most_values(_STRINGS.sub("", run.group()))
        at = run.end()
        if found > maximum:
            return True
    return found + _most_values(text[at:]) > maximum


def _most_values(text: str) -> int:
    """Each value but the first comes after one of these."""
    return text.count(",") + text.count("[") + text.count("{")


class _Hooks:
    """What the parser asks about objects and numbers. It says no place, so that what is wrong stays in the value and is looked for."""

    def __init__(self) -> None:
        self.wrong = False

    def object(self, pairs: list[tuple[str, Json]]) -> Json:
        """An object's keys and values."""
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        key = _repeated(pairs)
        return self._wrong(f"the key {replace_surrogates(key[:64])!r} stands twice in one object", key)

    def constant(self, name: str) -> Json:
        """NaN and the infinities."""
        return self._wrong(f"{name} is not JSON")

    def real(self, digits: str) -> Json:
        """A number with a fraction or an exponent."""
        number = float(digits)
        return number if math.isfinite(number) else self._wrong("a number out of range")

    def integer(self, digits: str) -> Json:
        """A number without."""
        return int(digits) if len(digits) <= MAX_INTEGER_DIGITS else self._wrong("a number of too many digits")

    def _wrong(self, message: str, key: str | None = None) -> Json:
        self.wrong = True
        return cast(Json, _Wrong(message, key))


def _refusal_of_first(value: Json) -> RequestError:
    """The refusal of the first thing that is wrong. As deep as the value, and so without recursion."""
    path: list[str | int] = []
    levels: list[Iterator[tuple[str | int, object]]] = [iter([("", value)])]
    while levels:
        token, item = next(levels[-1], (None, None))
        if token is None:
            levels.pop()
            del path[-1:]
            continue
        path.append(token)
        if isinstance(item, _Wrong):
            found = path[1:] if item.key is None else [*path[1:], item.key]
            return RequestError(replace_surrogates(json_pointer(found)), item.message, status=400)
        if isinstance(item, dict | list):
            levels.append(iter(item.items() if isinstance(item, dict) else enumerate(item)))
        else:
            path.pop()
    raise AssertionError("nothing is wrong")


def _too_deep(text: str) -> str:
    """JSON pointer of the first value that is nested DEEP levels deep, of text up to which the parser found nothing else wrong."""
    path: list[str | int] = []
    for token in _TOKEN.finditer(text):
        found = token.group()
        if found in ("[", "{"):
            if len(path) == DEEP:
                return json_pointer(path)
            path.append(0 if found == "[" else "")
        elif found in ("]", "}"):
            path.pop()
        elif found == ",":
            path[-1] = path[-1] + 1 if isinstance(path[-1], int) else ""
        elif path[-1] == "":  # in an object, a key first
            path[-1] = str(json.loads(found))
    return ""


def _repeated(pairs: list[tuple[str, Json]]) -> str:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return key
        seen.add(key)
    return ""


def _replaced(value: Json) -> Json:
    """The value with surrogates replaced; arrays are changed in place. As deep as the value, which the parser has bounded."""
    if isinstance(value, str):
        return replace_surrogates(value)
    if isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, str | list | dict):
                value[index] = _replaced(item)
        return value
    return _replaced_object(value) if isinstance(value, dict) else value


def _replaced_object(value: Mapping[str, Json]) -> Json:
    found: dict[str, Json] = {}
    for key, item in value.items():
        kept = isinstance(item, str) and key in KEPT_SURROGATES
        found[replace_surrogates(key)] = item if kept else _replaced(item)
    if len(found) != len(value):
        raise _refuse("two keys of one object differ in lone surrogates only")
    return found
