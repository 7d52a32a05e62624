"""A choice by its letter with its text behind it, where the choices are not known: `(D) 12` names D."""

from __future__ import annotations

import re

_LETTERS = frozenset("ABCDEFGHIJ")
_LETTER_AND_TEXT = re.compile(r"(?:\(([a-j])\)[.:]?|([a-j])[).:])\s*(\S.*)")
_SAYS_MORE = re.compile(
    r"^[a-j]$|\([a-j]\)|(?<![a-z])[a-j][).:]|(?<![a-z])(?:or|and|not|either|neither|both|maybe)(?![a-z])|[,;&/]|\\(?:vee|lor|text)"
)


def names_choice(letter: str, words: str) -> bool:
    """Whether the words (casefolded) are this letter with one text behind it, and say nothing of another choice."""
    if letter not in _LETTERS:
        return False
    found = _LETTER_AND_TEXT.fullmatch(words)
    return found is not None and (found[1] or found[2]) == letter.casefold() and not _SAYS_MORE.search(found[3])
