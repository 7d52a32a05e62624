"""The words of a text. Western texts, which are most, are cut by a table of bytes, which is several times as fast as a pattern."""

from __future__ import annotations

import re

from reward_service.scoring.scripts import LETTERS, RANGES, WEIGHTS, letters_of

_WORD = re.compile(f"[{letters_of(WEIGHTS)}]+|[{LETTERS}]{{2,}}")
_BYTES = bytes(range(256)).decode("latin-1")
_LETTER = re.compile(f"[{RANGES['latin']}]")
_BEYOND = re.compile(f"(?![\x00-\xff])[{LETTERS}]")
_AS_WRITTEN = bytes(ord(char) if _LETTER.match(char) else 0x20 for char in _BYTES)
_LOWERED = bytes(ord(char.lower()) if _LETTER.match(char) else 0x20 for char in _BYTES)


def words_of(text: str) -> list[str]:
    """The words of a text: two or more letters, or any number of Han, kana or Hangul; "x is 5 米" -> ["is", "米"]."""
    if text.isascii() or not _BEYOND.search(text):
        return _cut(text, _AS_WRITTEN)
    return _WORD.findall(text)


def lowered_words(text: str) -> list[str]:
    """The same words in lower case."""
    lowered = in_lower_case(text)
    if lowered is not None:
        return [word for word in lowered.split() if len(word) > 1]
    return [word.lower() for word in _WORD.findall(text)]


def in_lower_case(text: str) -> str | None:
    """A text of the same length with spaces for what is no letter; None where it has letters beyond Latin-1.

    Cut anywhere, its words of two letters or more are `lowered_words` of the same cut of the text.
    """
    return _translated(text, _LOWERED) if text.isascii() or not _BEYOND.search(text) else None


def _cut(text: str, table: bytes) -> list[str]:
    return [word for word in _translated(text, table).split() if len(word) > 1]


def _translated(text: str, table: bytes) -> str:
    """A text without letters beyond Latin-1, by a table; what has no place there is no letter."""
    return text.encode("latin-1", "replace").translate(table).decode("latin-1")
