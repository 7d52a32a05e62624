"""Symbols of units, whose case tells one from another: `mW` is no `MW`, `Mb` neither `mb` nor `MB`, `N` no `n`.

A symbol or a unit's full name with its prefix (`kN`, `kilonewtons`) becomes one word in lower case. What has one meaning only is known in
any case (`CM`, `Kg`, `KHZ`); what is neither stays as it is.
"""

from __future__ import annotations

import re

# By its symbol: the name of each unit that takes prefixes, as it stands in what units are compared by.
_BASES = {
    "m": "m", "g": "g", "s": "s", "L": "l", "l": "l", "W": "watt", "J": "joule", "N": "newton", "V": "volt", "A": "ampere",
    "C": "coulomb", "F": "farad", "T": "tesla", "H": "henry", "S": "siemens", "K": "kelvin", "Pa": "pascal", "Hz": "hertz", "eV": "ev",
    "mol": "mol", "b": "bit", "B": "byte", "Wb": "weber", "cal": "cal", "bar": "bar", "ohm": "ohm", "Wh": "watt hour",
    "Bq": "becquerel", "Gy": "gray", "Sv": "sievert", "rad": "radian",
}  # fmt: skip
_FULL_NAMES = {
    "meter": "m", "metre": "m", "gram": "g", "gramme": "g", "second": "s", "liter": "l", "litre": "l", "amp": "ampere",
    "electronvolt": "ev", "mole": "mol", "calorie": "cal", "micron": "microm",
    **{name: name for name in _BASES.values() if len(name) > 3 and " " not in name},
}  # fmt: skip
_PREFIXES = {
    "k": "k",
    "c": "c",
    "m": "m",
    "n": "n",
    "d": "d",
    "M": "mega",
    "G": "giga",
    "T": "tera",
    "p": "pico",
    "h": "hecto",
    "micro": "micro",
}
_PREFIX_NAMES = {
    "kilo": "k", "centi": "c", "milli": "m", "nano": "n", "deci": "d", "mega": "mega", "giga": "giga", "tera": "tera", "pico": "pico",
    "hecto": "hecto", "micro": "micro",
}  # fmt: skip
_ONE_MEANING = frozenset("km cm mm kg mg ml dl cl kW kJ kV Hz kHz kPa kWh kN".split())
_NO_SYMBOLS = frozenset({"pm", "am", "min"})
_SYMBOLS = {
    **{symbol: name for symbol, name in _BASES.items() if symbol != "s"},
    **{sign + symbol: prefix + name for sign, prefix in _PREFIXES.items() for symbol, name in _BASES.items()},
    "KB": "kbyte", "Kb": "kbit", "M": "molar", "mM": "mmolar",
}  # fmt: skip
_IN_ANY_CASE = {
    **{name: found for name, found in _FULL_NAMES.items() if found not in ("s", "m", "g", "l")},
    **{word + name: prefix + found for word, prefix in _PREFIX_NAMES.items() for name, found in _FULL_NAMES.items()},
    **{written.casefold(): name for written, name in _SYMBOLS.items() if written in _ONE_MEANING},
}
_WORD = re.compile(r"(?<![A-Za-z])[A-Za-z]+(?![A-Za-z])")


def with_names(units: str) -> str:
    """The symbols and full names among these words by one name each; "5 kN" -> "5 knewton"."""
    return _WORD.sub(_named, units)


def _named(found: re.Match[str]) -> str:
    word = found[0]
    if word in _NO_SYMBOLS:
        return word
    name = _SYMBOLS.get(word)
    if name is None:
        folded = word.casefold()
        name = _IN_ANY_CASE.get(folded) or (_IN_ANY_CASE.get(folded[:-1]) if folded.endswith("s") else None)
    return name or word
