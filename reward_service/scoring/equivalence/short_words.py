r"""Short words: `yes`, `No`, `AAS` are not products of variables, so an anagram is another answer.

Two or three bare letters written together, with nothing but letters beside them, are compared as text, the letters in their order.
Two different small letters of one group below (`xy`, `ab`) are a product, which has no order: they spell no word. Whatever holds
anything but letters (`2xy`, `ab^2`, `kx + b`) is algebra. What this gives up: `kx` is not `xk`, `lwh` not `whl`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from reward_service.scoring.equivalence.forms import Constant, Expression, Form, Product, Value, Variable, Words
from reward_service.scoring.equivalence.tokens import Token

_SYMBOLS = tuple(map(frozenset, ("abc", "mn", "pqrs", "uvwxyz")))
_VOWELS = frozenset("aeiouy")


def short_word(tokens: Sequence[Token]) -> str:
    """The letters of what may be a short word; "" for anything else."""
    if not all(token.kind == "run" or (token.kind == "letter" and len(token.text) == 1) for token in tokens):
        return ""
    if all(token.kind == "letter" or _is_product(token.text) for token in tokens):
        return ""
    return "".join(token.text for token in tokens)


def _is_product(run: str) -> bool:
    return len(run) == len(set(run)) == 2 and any(group.issuperset(run) for group in _SYMBOLS)


_YES_OR_NO = frozenset({"yes", "no", "true", "false"})
_TURNED_ROUND = re.compile(r"\b(?:yes|no|not|true|false|or|but|however|unless|if|maybe|wrong|never|only)\b|n't")


def says_yes_or_no(gold: str, answer: str) -> bool:
    """Whether the reference is `yes` or the like, and the answer that word with a sentence behind it that does not turn it round."""
    if gold not in _YES_OR_NO or answer[: len(gold)] != gold or answer[len(gold) : len(gold) + 1] not in (",", ".", ";", ":"):
        return False
    rest = answer[len(gold) + 1 :]
    return not _TURNED_ROUND.search(rest.replace("it is not", "") if gold in ("no", "false") else rest)


def is_short_word(form: Form) -> bool:
    """Whether it was read as a product but may be a word."""
    return isinstance(form, Value) and bool(form.word)


def same_letters(gold: Form, answer: Form) -> bool:
    r"""Two forms of which one may be a short word: the same letters in the same order.

    Case says nothing where there is a vowel (`yes`, `Yes`); without one there is no word but symbols (`PQR`, `pqr`). Against an
    expression (`abc`, `a \cdot b \cdot c`) it does, as there the letters are variables.
    """
    texts = [_text(form) for form in (gold, answer)]
    if all(texts):
        folded = [text.casefold() for text in texts]
        any_case = isinstance(gold, Words) or isinstance(answer, Words) or not _VOWELS.isdisjoint(folded[0])
        return folded[0] == folded[1] if any_case else texts[0] == texts[1]
    if not isinstance(gold, Value) or not isinstance(answer, Value) or gold.unit or answer.unit:
        return False
    return _letters(gold.expression) == _letters(answer.expression)


def _text(form: Form) -> str:
    if isinstance(form, Words):
        return form.text.replace(" ", "")
    return form.word if isinstance(form, Value) else ""


def _letters(expression: Expression) -> list[str] | None:
    """The names that are multiplied, in their order; None for anything but a product of letters."""
    match expression:
        case Variable(name) | Constant(name):
            return [name]
        case Product(factors):
            found = [_letters(factor) for factor in factors]
            return [name for part in found if part for name in part] if None not in found else None
    return None
