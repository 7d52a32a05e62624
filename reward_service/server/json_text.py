"""Strict JSON: what a request's body may say, refused with 400 where two readers could read it differently."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping

from reward_service.errors import RequestError
from reward_service.records import Json

REPLACEMENT = "\ufffd"
KEPT_SURROGATES = frozenset({"stdin", "stdout"})  # tests may carry undecodable bytes as surrogates (PEP 383)

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_json(data: bytes | memoryview) -> Json:
    r"""The value that UTF-8 JSON text states, with lone surrogates as U+FFFD (other than in a test's `stdin` and `stdout`).

    Example: `{"completion": "\ud800"}` -> {"completion": "\ufffd"}. Linear in its size; up to four times the size in memory.

    Raises:
        RequestError: the client's fault (400): empty, no UTF-8, no JSON, NaN or Infinity, a number out of range, a key that stands
            twice in an object, or nesting beyond the interpreter's recursion limit (about 1,000).
    """
    try:
        text = str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise _refuse(f"the body is not UTF-8 (byte {error.start})") from None
    if not text or text.isspace():
        raise _refuse("the body is empty")
    try:
        value: Json = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_real)
        del text  # the largest object here; what follows needs memory of its own
        return _replaced(value) if _SURROGATE_ESCAPE.search(data) else value
    except json.JSONDecodeError as error:
        raise _refuse(f"the body is not JSON: {error.msg} (character {error.pos})") from None
    except ValueError:  # Python reads no integer of more than 4,300 digits: the time would grow with their square
        raise _refuse("a number of too many digits") from None
    except RecursionError:
        raise _refuse("nested too deep") from None


def replace_surrogates(text: str) -> str:
    """Text with each lone surrogate as U+FFFD, so that it can be written as UTF-8."""
    return text if text.isascii() else _SURROGATE.sub(REPLACEMENT, text)


def _refuse(message: str) -> RequestError:
    return RequestError("", message, status=400)


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _refuse(f"the key {_repeated(pairs)!r} stands twice in one object")
    return found


def _repeated(pairs: list[tuple[str, Json]]) -> str:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return replace_surrogates(key[:64])
        seen.add(key)
    return ""


def _constant(name: str) -> Json:
    raise _refuse(f"{name} is not JSON")


def _real(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _refuse("a number out of range")
    return number


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
