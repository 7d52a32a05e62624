"""Answers in words that are written in several ways: `5 h 30 min`, `6'2"`, `March 3rd`, `Alice and Bob`."""

from __future__ import annotations

import re

from reward_service.scoring.equivalence.units import unit_name

_TWO_MEASURES = re.compile(r"(\d+(?:\.\d+)?) ?([a-z]+)(?:,| and|, and)? (\d+(?:\.\d+)?) ?([a-z]+)")
_FEET_AND_INCHES = re.compile(r"(\d+) ?' ?(\d+)(?: ?''| inch)?")
_AND = re.compile(r",? (?:and|&) ")
_ORDINAL = re.compile(r"(?<=\d)(?:st|nd|rd|th)(?![a-z])")
_MONTHS = "january february march april may june july august september october november december".split()
_DAY_FIRST = re.compile(r"(\d{1,2}) (?:of )?(" + "|".join(_MONTHS) + r")(,? \d{4})?")
_YEAR = re.compile(r"(?<=[a-z] )(\d{1,2}), (?=\d{4}$)")
_MAX_CHARS = 200


def measured(words: str) -> str:
    """Casefolded words in the one way in which they are compared."""
    if len(words) > _MAX_CHARS:
        return words
    if any(char.isdigit() for char in words):
        two = _TWO_MEASURES.fullmatch(words)
        if two:
            return f"{two[1]} {unit_name(two[2])}, {two[3]} {unit_name(two[4])}"
        feet = _FEET_AND_INCHES.fullmatch(words)
        if feet:
            return f"{feet[1]} foot, {feet[2]} inch"
        words = _ORDINAL.sub("", words)
        day = _DAY_FIRST.fullmatch(words)
        if day:
            words = f"{day[2]} {day[1]}{day[3] or ''}"
        words = _YEAR.sub(r"\1 ", words)
    return _AND.sub(", ", words) if " and " in words or " & " in words else words
