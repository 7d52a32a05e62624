r"""Names that say nothing: `\sum_{k=1}^{n} \frac{1}{k}` is `\sum_{i=1}^n \frac1i`, `\int_0^x e^{-t^2} dt` is that of `e^{-u^2} du`.

Sums, products and integrals are beyond the grammar and compared as text. Here the text gets one spelling: braces round a single sign
are dropped, and a bound name that stands nowhere outside its own term becomes a mark of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from reward_service.scoring.equivalence.limits import MAX_CHARS_BEYOND

_SIGN = re.compile(r"\\text\{ ?d ?\}|\\[A-Za-z]+|\\.|[^ ]")
_SUMS = frozenset({r"\sum", r"\prod"})
_BINDING = re.compile(r"\\(?:sum|prod|int)(?![A-Za-z])")
_OPENING, _CLOSING = frozenset({"{", "(", "[", r"\{"}), frozenset({"}", ")", "]", r"\}"})
_ENDS_TERM = frozenset({"+", "-", "=", "<", ">", ",", ";", r"\le", r"\ge", r"\approx", r"\neq"})
_NO_SIGN_BEFORE = frozenset({"^", "_", "(", "{", r"\cdot", r"\times", "*", "/"})  # before a sign that is no sum's
_GROUPS = {"{": "\u27e8", "}": "\u27e9"}  # plain words have no braces
_MARKS = "\u2460\u2461\u2462\u2463"  # at most as many names


def with_bound_names(text: str) -> str:
    """The text in that spelling; a text without sums, products and integrals, one with words, or a long one, as it is."""
    if "\\" not in text or len(text) > MAX_CHARS_BEYOND or not 0 < len(_BINDING.findall(text)) <= len(_MARKS):
        return text
    signs = ["d" if sign.startswith("\\text") and "{" in sign else sign for sign in _SIGN.findall(text)]
    if "\\text" in signs:
        return text
    signs = _without_idle_braces(signs)
    places = [place for place, sign in enumerate(signs) if sign in _SUMS or sign == r"\int"]
    for index, mark in zip(places, _MARKS, strict=False):
        found = _of_sum(signs, index) if signs[index] in _SUMS else _of_integral(signs, index)
        if found is not None and not any(sign == found[0] and at not in found[1] for at, sign in enumerate(signs)):
            signs = [mark if at in found[1] and sign == found[0] else sign for at, sign in enumerate(signs)]
    return " ".join(_GROUPS.get(sign, sign) for sign in signs)


def _without_idle_braces(signs: Sequence[str]) -> list[str]:
    found: list[str] = []
    for sign in signs:
        found.append(sign)
        if sign == "}" and len(found) > 2 and found[-3] == "{" and found[-2] not in _OPENING | _CLOSING:
            found[-3:] = [found[-2]]
    return found


def _of_sum(signs: Sequence[str], index: int) -> tuple[str, frozenset[int]] | None:
    """The name under the sign of a sum, and the places where it says something: under the sign, and to the end of the term."""
    head = signs[index + 1 : index + 5]
    if len(head) < 4 or head[:2] != ["_", "{"] or not _is_letter(head[2]) or head[3] != "=":
        return None
    closing = _end(signs, index + 2)
    start = _end(signs, closing + 1) if signs[closing : closing + 1] == ["^"] else closing
    depth, end = 0, start
    while end < len(signs):
        depth += (signs[end] in _OPENING) - (signs[end] in _CLOSING)
        ended = depth == 0 and signs[end] in _ENDS_TERM and signs[end - 1] not in _NO_SIGN_BEFORE
        if depth < 0 or (ended and end > start):
            break
        end += 1
    return head[2], frozenset([*range(index + 3, closing), *range(start, end)])


def _of_integral(signs: Sequence[str], index: int) -> tuple[str, frozenset[int]] | None:
    """The name behind the `d` of the only integral, and the places where it says something: from behind the bounds to there."""
    start = index + 1
    for _ in range(2):
        if signs[start : start + 1] in (["_"], ["^"]):
            start = _end(signs, start + 1)
    ends = [at for at in range(start, len(signs) - 1) if signs[at] == "d" and _is_letter(signs[at + 1])]
    if signs.count(r"\int") != 1 or len(ends) != 1:
        return None
    return signs[ends[0] + 1], frozenset(range(start, ends[0] + 2))


def _end(signs: Sequence[str], start: int) -> int:
    """Where the sign or the group that begins at `start` has ended."""
    depth = 0
    for at in range(start, len(signs)):
        depth += (signs[at] in _OPENING) - (signs[at] in _CLOSING)
        if not depth:
            return at + 1
    return len(signs)


def _is_letter(sign: str) -> bool:
    return len(sign) == 1 and sign.isascii() and sign.isalpha()
