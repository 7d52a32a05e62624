r"""What most answers are, read and compared without the grammar: `42`, `-3.5`, `x = 7`, `12\text{ units}`, `\frac{3}{4}`, `3/4`.

One pattern and whole numbers do here what tokens and trees do elsewhere, with the same findings. What is not plain is None.
"""

from __future__ import annotations

import functools
import math
import re
from fractions import Fraction
from typing import NamedTuple

from reward_service.scoring.equivalence.equality import Finding, witness
from reward_service.scoring.equivalence.tokens import KNOWN_WORDS
from reward_service.scoring.equivalence.units import is_unit_word, scaled, unit_name

MAX_DIGITS = 30
MAX_CHARS = 3 * MAX_DIGITS
_NUMERAL = re.compile(r"(?:([a-df-hj-zA-Z]) ?= ?)?(-?[0-9]{1,30})(?:\.([0-9]{1,30}))?(?:\.| ?(\\text\{) ?(?!mod\}|and\})([a-z]{3,20})\})?")
_FRACTION = re.compile(r"(-?)(?:\\[dt]?frac\{([0-9]{1,30})\}\{([0-9]{1,30})\}|([0-9]{1,30})/([0-9]{1,30}))")
_CONVERTED = frozenset({"%", "degree"})  # units that may change the number


class Plain(NamedTuple):
    """A rational `top / bottom` in lowest terms, with a letter before it or a unit behind it perhaps ("" for none).

    `latex` is the text as the grammar would be given it, `text` the same without its white space, `form` the normal form.
    """

    latex: str
    text: str
    form: str
    top: int
    bottom: int
    name: str = ""
    unit: str = ""


def read_plain(text: str) -> Plain | None:
    """The answer, if it is plain."""
    if text.isdigit() and text.isascii() and len(text) <= MAX_DIGITS:
        top = int(text)
        return Plain(text, text, str(top), top, 1)
    if len(text) > MAX_CHARS:
        return None
    found = _NUMERAL.fullmatch(text)
    return _numeral(*found.groups()) if found is not None else _fraction(text)


def _numeral(name: str | None, whole: str, places: str | None, measure: str | None, word: str | None) -> Plain | None:
    written, top, bottom = whole, int(whole), 1
    if places:
        written = f"{whole}.{places}"
        top, bottom = _lowest(int(whole + places), 10 ** len(places))
    form = str(top) if bottom == 1 else f"{top}/{bottom}"
    if measure:
        unit = _unit(word or "") if name is None else None
        if unit is None:
            return None
        latex = rf"{written}\text{{{word}}}"
        return Plain(latex, latex, f"{form} {unit}", top, bottom, "", unit)
    if name:
        return Plain(f"{name} = {written}", f"{name}={written}", f"{name} = {form}", top, bottom, name)
    return Plain(written, written, form, top, bottom)


def _fraction(text: str) -> Plain | None:
    found = _FRACTION.fullmatch(text)
    if found is None:
        return None
    sign, above, below, plain_above, plain_below = found.groups()
    bottom = int(below or plain_below)
    if not bottom:
        return None
    top, bottom = _lowest(int(sign + (above or plain_above)), bottom)
    latex = text.replace("dfrac", "frac").replace("tfrac", "frac") if above else text
    return Plain(latex, latex, str(top) if bottom == 1 else f"{top}/{bottom}", top, bottom)


def _lowest(top: int, bottom: int) -> tuple[int, int]:
    common = math.gcd(top, bottom)
    return (top, bottom) if common == 1 else (top // common, bottom // common)


@functools.lru_cache(maxsize=512)
def _unit(word: str) -> str | None:
    """A unit's name; None for a word that is none, or changes the number."""
    unit = unit_name(word)
    return None if scaled(unit) != (1, unit) or not is_unit_word(word) or word in KNOWN_WORDS else unit


_IDENTICAL, _EXACT = Finding(True, "identical"), Finding(True, "exact")


def compare_plain(gold: Plain, answer: Plain) -> Finding | None:
    """Under the default conventions; None where names or units decide."""
    if gold.text == answer.text:
        return _IDENTICAL
    unit, other = gold.unit, answer.unit
    if gold.name or (answer.name and unit):
        return None
    if unit != other and ((unit and other) or unit in _CONVERTED or other in _CONVERTED):
        return None
    if gold.top == answer.top and gold.bottom == answer.bottom:
        return _EXACT
    if gold.bottom == answer.bottom == 1:
        return Finding(False, "exact", witness(gold.top, answer.top))
    return Finding(False, "exact", witness(Fraction(gold.top, gold.bottom), Fraction(answer.top, answer.bottom)))
