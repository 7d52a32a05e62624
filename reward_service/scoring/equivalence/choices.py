r"""Which choice does an answer name? A letter (`C`, `(C)`, `\text{C}`, `C) 12`), or a choice's own text. Several letters name none.

A letter comes first, where there is a choice that has it; beyond the last choice it is a text (`z` of the choices x, y, z).
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass

from reward_service.scoring.equivalence.compare import compare_answers
from reward_service.scoring.equivalence.limits import LimitExceeded, check_text
from reward_service.scoring.equivalence.normalize import normalize, plain_words

MAX_SHOWN_CHARS = 500
_PREFIX = r"(?:(?:the\s+)?(?:correct\s+)?(?:answer|option|choice)(?:\s+is)?\s*:?\s*){0,2}"
_LETTER = re.compile(_PREFIX + r"[(\[]?\s*(?P<letter>[A-Za-z])\s*[)\]]?\s*[.:)]?", re.IGNORECASE)
_LETTER_AND_TEXT = re.compile(_PREFIX + r"(?:[(\[]\s*(?P<one>[A-Z])\s*[)\]][.:]?|(?P<two>[A-Z])\s*[.:)])\s*(?P<text>\S.*)", re.IGNORECASE)
_LOOSE = re.compile(r"(?P<letter>[A-Z])(?:\s*[-=]\s*|\s+)(?P<text>\S.*)")
_GROUP = re.compile(r"\\text\s*\{([^{}]*)\}|^\{([^{}]*)\}")
_WRAPPED = re.compile(r"\{\s*(\(?[A-Za-z]\)?)\s*\}")
_ANOTHER_LETTER = re.compile(
    r"[(\[]\s*[A-Za-z]\s*[)\]]|(?<![A-Za-z])[A-Z]\s*[.:)]|(?<![A-Za-z])(?:or|and|not)(?![A-Za-z])|[,;&/]|^\s*[A-Za-z]\s*$"
)


@dataclass(frozen=True, slots=True)
class PreparedChoice:
    """The right choice: its letter ("" where the reference is a text without choices); `cause` says why it cannot be used."""

    cause: str | None
    letter: str = ""


@dataclass(frozen=True, slots=True)
class ChoiceFinding:
    """Whether the answer names the right choice, the rule that decided, and both as they were read."""

    equal: bool
    rule: str
    gold_form: str
    answer_form: str


@dataclass(frozen=True, slots=True)
class _Named:
    """What an answer says: a letter, a text behind it, or a text alone."""

    letter: str
    text: str


def prepare_choice(answer: str, choices: list[str]) -> PreparedChoice:
    """Read the reference alone. May not end where texts are compared as mathematics: run under a deadline."""
    try:
        named = _named(answer, len(choices))
    except LimitExceeded as error:
        return PreparedChoice(error.limit)
    if not named.letter and not named.text:
        return PreparedChoice("empty")
    if len(choices) > len(string.ascii_uppercase):
        return PreparedChoice("too_many_choices")
    if not choices:
        return PreparedChoice(None, named.letter)
    if named.letter:
        return PreparedChoice(None, named.letter)
    matching = _matching(named.text, choices)
    if not matching:
        return PreparedChoice("no_such_choice")
    return PreparedChoice(None, string.ascii_uppercase[matching[0]])


def judge_choice(reference: str, letter: str, choices: list[str], answer: str) -> ChoiceFinding:
    """Does the answer name the choice `letter` (or, without a letter, the text `reference`)? May not end: run under a deadline."""
    gold_form = letter or reference[:MAX_SHOWN_CHARS]
    try:
        named = _named(answer, len(choices))
    except LimitExceeded as error:
        return ChoiceFinding(False, f"limit:{error.limit}", gold_form, "")
    equal, rule = _decide(named, reference, letter, choices)
    return ChoiceFinding(equal, rule, gold_form, (named.letter or named.text)[:MAX_SHOWN_CHARS])


def _decide(named: _Named, reference: str, letter: str, choices: list[str]) -> tuple[bool, str]:
    if not letter:
        return compare_answers([reference], named.text or named.letter).equal, "text"
    if named.letter and not named.text:
        return named.letter == letter, "letter"
    if named.letter:
        if not choices:
            return named.letter == letter and not _ANOTHER_LETTER.search(named.text), "letter_and_text"
        index = string.ascii_uppercase.index(letter)
        return named.letter == letter and index in _matching(named.text, choices), "letter_and_text"
    if not choices:
        return False, "no_letter"
    loose = _LOOSE.fullmatch(named.text)
    if loose and loose["letter"] in string.ascii_uppercase[: len(choices)] and not _same_words(named.text, choices):
        # `D = 12` must not be read as the text 12 where that is C.
        said = loose["text"][1:-1] if loose["text"].startswith("(") and loose["text"].endswith(")") else loose["text"]
        return loose["letter"] == letter and string.ascii_uppercase.index(letter) in _matching(said, choices), "letter_and_text"
    return string.ascii_uppercase.index(letter) in _matching(named.text, choices), "text"


def _named(answer: str, choices: int) -> _Named:
    """What the answer says where there are so many choices; 0: not known how many."""
    check_text(answer)
    text = normalize(answer)
    wrapped = _WRAPPED.fullmatch(text)
    text = (wrapped[1] if wrapped else text).strip()
    unwrapped = _GROUP.sub(lambda match: match[1] or match[2] or "", text).strip()
    letters = string.ascii_uppercase[: choices or None]
    alone = _LETTER.fullmatch(text) or _LETTER.fullmatch(unwrapped)
    if alone:
        letter = alone["letter"]
        return _Named(letter.upper(), "") if letter.upper() in letters else _Named("", letter)
    both = _LETTER_AND_TEXT.fullmatch(unwrapped)
    if both:
        letter = (both["one"] or both["two"]).upper()
        return _Named(letter, both["text"].strip()) if letter in letters else _Named("", text)
    return _Named("", text if plain_words(text) else "")


def _matching(text: str, choices: list[str]) -> list[int]:
    """Indexes of the choices whose own text this is: the same words, else the same mathematics."""
    same = _same_words(text, choices)
    return same or [index for index, choice in enumerate(choices) if compare_answers([choice], text).equal]


def _same_words(text: str, choices: list[str]) -> list[int]:
    """Indexes of the choices that are the same text, else of those that are the same words."""
    normal = normalize(text)
    words = plain_words(normal)
    same = [index for index, choice in enumerate(choices) if normalize(choice) == normal]
    return same or [index for index, choice in enumerate(choices) if plain_words(normalize(choice)) == words]
