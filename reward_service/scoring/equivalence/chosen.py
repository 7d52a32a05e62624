"""Choices by their letters, where the choices are not known: `(D) 12` names D, `ACD` names A, C and D."""

from __future__ import annotations

import re

from reward_service.scoring.equivalence.forms import Collection, Form, Value, Variable, Words

_LETTERS = frozenset("ABCDEFGHIJ")
_LETTER_AND_TEXT = re.compile(r"(?:\(([a-j])\)[.:]?|([a-j])[).:])\s*(\S.*)")
_DENIALS = (
    "or and not either neither both maybe wrong false incorrect cannot eliminated excluded rejected isn never no none least most".split()
)
_SAYS_MORE = re.compile(
    r"^[a-j]$|\([a-j]\)|(?<![a-z])[a-j][).:]|(?<![a-z])(?:" + "|".join(_DENIALS) + r")(?![a-z])"
    r"|^(?:[+*/]|- |\\(?:pm|cdot|times))|[,;&/]|\\(?:vee|lor|text)"
)


_CHOICE_BEFORE = re.compile(r"\\text ?\{ ?\([A-E]\) ?\} ?(?=[\d\\(.-])|\([A-E]\) (?=[\d\\(.-])")


def behind_choice(gold: str, answer: str) -> str:
    """What stands behind an answer's letter of a choice (`(C) 16`), where the reference names none; "" where nothing does."""
    found = _CHOICE_BEFORE.match(answer)
    return answer[found.end() :] if found and not _CHOICE_BEFORE.match(gold) else ""


def names_choice(letter: str, words: str) -> bool:
    """Whether the words are this letter with one text behind it, and say nothing of another choice."""
    if letter not in _LETTERS:
        return False
    words = words.casefold()
    found = _LETTER_AND_TEXT.fullmatch(words)
    return found is not None and (found[1] or found[2]) == letter.casefold() and not _SAYS_MORE.search(found[3])


def names_choices(gold: Form, answer: Form) -> bool:
    """Whether the reference is a list of letters of choices in their order, and the answer the same letters written together."""
    if not isinstance(gold, Collection) or gold.kind not in ("list", "set"):
        return False
    word = answer.word if isinstance(answer, Value) else answer.text.upper() if isinstance(answer, Words) else ""
    letters = [item.expression.name for item in gold.items if isinstance(item, Value) and isinstance(item.expression, Variable)]
    return 1 < len(letters) == len(gold.items) and _LETTERS.issuperset(letters) and letters == sorted(set(letters)) == list(word)
