"""Letters that plain text glues to functions and to pi: `xsin(x)`, `2sinx`, `lny`, `2pir`. Words stay words (`cost`, `using`)."""

from __future__ import annotations

import functools
import re

_FUNCTIONS = (
    "arcsin|arccos|arctan|arccot|arcsec|arccsc|sinh|cosh|tanh|coth|sech|csch|asin|acos|atan|sin|cos|tan|cot|sec|csc|ln|log|lg|exp|sqrt"
)
_GREEK = "theta|alpha|beta|gamma|phi|omega|pi"
_ARGUMENTS = "a-cmntu-zA-DPQRSTXYZ"  # letters that functions without brackets are applied to
_BEFORE = "a-ce-hkmnp-z"  # small letters that stand before a function as a factor
_GLUED = re.compile(
    rf"(?P<before>[{_BEFORE}A-Z]{{0,2}}?)(?P<applied>(?:(?:{_FUNCTIONS})(?:{_GREEK}|[{_ARGUMENTS}]))*)(?P<open>(?:{_FUNCTIONS})?)"
)
_PIECE = re.compile(rf"{_FUNCTIONS}|{_GREEK}|[A-Za-z]")
_LOGARITHM = re.compile("ln[a-zA-Z]")  # no word begins so
_BEFORE_PI = re.compile("[knmxri]pi|[knm]pi[xitn]")
_WITH_PI = re.compile("pi(?:[a-dh-knrtxR]|r[hl]|R[hH])")
_MAX_CHARS = 24
_WORDS = frozenset(
    "cost cosy tansy botany litany titan satan insect bisect sect sects secy logy logs costs tans coty scott cotta tanta secta".split()
)


@functools.lru_cache(maxsize=1024)
def unglued(word: str, opens: bool, counted: bool) -> tuple[str, ...] | None:
    """The functions and letters of which a word is made; None for what is a word.

    `opens`: what follows may be an argument: a bracket, a power, a number. `counted`: a number stands before it.
    """
    if len(word) > _MAX_CHARS:
        return None
    if _LOGARITHM.fullmatch(word) or _BEFORE_PI.fullmatch(word) or ((counted or opens) and _WITH_PI.fullmatch(word)):
        return tuple(_PIECE.findall(word))
    found = _GLUED.fullmatch(word)
    if found is None or word in _WORDS or not (found["applied"] or found["open"]):
        return None
    if bool(found["open"]) > opens or (found["open"] and not found["applied"] and not found["before"]):
        return None
    return tuple(found["before"]) + tuple(_PIECE.findall(word[len(found["before"]) :]))
