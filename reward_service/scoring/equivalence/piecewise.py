r"""Functions that are given in pieces: `\begin{cases} x + 1 & \text{if } x \ge 0 \\ -x & x < 0 \end{cases}`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from reward_service.scoring.equivalence.forms import Collection, Form, Words
from reward_service.scoring.equivalence.normalize import ROW_END

_CASES = re.compile(
    r"(?:(?P<name>[^=&]{1,40}) ?= ?)?(?:\\begin ?\{cases\}(?P<rows>.*)\\end ?\{cases\}"
    r"|\\\{ ?\\begin ?\{array\}(?: ?\{[lcr| ]*\})?(?P<lines>.*)\\end ?\{array\})"
)
_LEADING = re.compile(r"^(?:\\text ?\{ ?(?:if|for|when|where|,| )+ ?\}|if |for |when )(?: ?\\text ?\{ ?\})? ?")
_OTHERWISE = re.compile(r"^(?:\\text ?\{ ?)?(?:otherwise|else|in all other cases)(?: ?\})?$")
OTHERWISE = Words("otherwise")


@dataclass(frozen=True, slots=True)
class Pieces:
    """The name of a function, "" for none, and its values with the conditions under which they hold, as texts."""

    name: str
    rows: tuple[tuple[str, str], ...]


def pieces_of(text: str) -> Pieces | None:
    """The pieces of a normalised text, None where it is not given in pieces."""
    found = _CASES.fullmatch(text) if "\\begin" in text and "&" in text else None
    body = (found["rows"] or found["lines"]) if found else None
    if found is None or not body or "\\begin" in body:
        return None
    rows = [row.strip(" ,.;") for row in body.split(ROW_END)]
    pairs = [tuple(part.strip(" ,.;") for part in row.split("&")) for row in rows if row]
    if len(pairs) < 2 or not all(len(pair) == 2 and all(pair) for pair in pairs):
        return None
    return Pieces((found["name"] or "").strip(), tuple((value, _condition(said)) for value, said in pairs))


def _condition(said: str) -> str:
    said = _LEADING.sub("", said, count=1).replace("{is ", "{").replace("{ is ", "{")
    return OTHERWISE.text if _OTHERWISE.match(said) else said


def same_pieces(gold: Collection, answer: Collection, equal: Callable[[Form, Form], bool]) -> bool:
    """Whether each piece is one of the other's, its condition the same; `otherwise` is whatever is left."""
    rest = list(answer.items)
    left: list[Form] = []
    for piece in gold.items:
        twin = next((other for other in rest if equal(piece, other)), None)
        if twin is None:
            left.append(piece)
        else:
            rest.remove(twin)
    if not left and not rest:
        return True
    return len(left) == len(rest) == 1 and _otherwise(left[0], rest[0], equal)


def _otherwise(one: Form, other: Form, equal: Callable[[Form, Form], bool]) -> bool:
    match one, other:
        case Collection(_, (value, condition)), Collection(_, (its_value, its_condition)):
            return OTHERWISE in (condition, its_condition) and equal(value, its_value)
    return False
