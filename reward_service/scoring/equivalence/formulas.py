r"""Chemical formulas, which are the same in any notation of their indices: `\text{H}_2\text{O}`, `\mathrm{H_2O}`, `\ce{H2O}`, `H2O`."""

from __future__ import annotations

import re

_ELEMENTS = frozenset(
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag "
    "Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th "
    "Pa U Np Pu".split()
)
_MAX_CHARS = 300
_WRAPPING = re.compile(r"\\(?:text|ce|mathrm)(?![A-Za-z])|[{}_\s]")
_ARROW = re.compile(r"\\(?:long)?rightarrow|\\to(?![A-Za-z])|->")
_SYMBOL = re.compile(r"[A-Z][a-z]?")
_FORMULA = re.compile(r"(?:[A-Z][a-z]?|[()0-9+]|\^[0-9]?[+-]|→)+")


def same_formulas(gold: str, answer: str) -> bool:
    """Whether both are chemical formulas, or equations of them, with the same symbols, indices and charges in the same order."""
    if "_" not in gold + answer and "\\" not in gold + answer:
        return False  # the same text is the same words
    one = _formula(gold)
    return one is not None and one == _formula(answer)


def _formula(latex: str) -> str | None:
    if len(latex) > _MAX_CHARS:
        return None
    text = _WRAPPING.sub("", _ARROW.sub("→", latex))
    symbols = _SYMBOL.findall(text)
    if not _FORMULA.fullmatch(text) or not _ELEMENTS.issuperset(symbols):
        return None
    return text if len(symbols) > 1 or (symbols and not text.isalpha()) else None
