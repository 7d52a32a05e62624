r"""Whole answers written by customs of their own: `]1, 2[`, `101_{\text{two}}`, `(101)_2`, `6:00 p.m.`, `5 m/s`, `the empty set`.

Each is rewritten into the notation that the grammar reads. All patterns are linear.
"""

from __future__ import annotations

import re

_BASES = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12,
    "sixteen": 16,
}  # fmt: skip
_BASE_WORD = r"(?P<base>\d{1,2}|" + "|".join(_BASES) + r")"
_BASED = re.compile(
    r"\(?(?P<digits>[0-9][0-9A-Za-z]{0,99}|[A-F][0-9A-F]{1,99})\)?\s*"
    r"(?:_\s*\{?\s*(?:\\text\s*\{\s*)?" + _BASE_WORD + r"\s*\}?\s*\}?"
    r"|(?:\\text\s*\{)?\s*\(?\s*(?:in\s+)?base[\s-]*(?:\}\s*)?(?P<base_of_words>\d{1,2}|" + "|".join(_BASES) + r")\s*\)?\s*\}?)"
)
_LETTER_BASE = range(11, 17)  # where digits may begin with a letter; `A_2` is a name
_TIME = re.compile(r"(\d{1,2}(?::\d\d)?)\s*(?:\\text\s*\{)?\s*([AaPp])(\.?)\s?[mM]\.?\s*\}?")
_SPEED = re.compile(r"(-?[\d.,]{1,20})\s*((?:cm|km|mm|mi|ft|in|m)/(?:hr|min|sec|s|h)|(?:cm|km|mm|ft|in|m)/s\s*\^\s*\{?2\}?)")
_LEADING_ABOUT = re.compile(r"(?:\\approx|~|=)\s*(?=[\d.\-\\])")
_BRACKET_PAIR = re.compile(r"([\[\]])((?:[^\[\](){}]|\{[^{}]*\})*)([\[\]])")
_LEADING_MINUS = re.compile(r"(?:negative|minus)\s+(?=[\d.\\])", re.IGNORECASE)
_PLAIN_LIST = re.compile(r"[\d\s.,;+\-]+")
_SET_BUILDER = re.compile(r"\\\{\s*[a-z]\s*(?:\\in\s*\\mathbb\s*\{?\s*R\s*\}?)?\s*[:|]")
_NO_RANGE = re.compile(r"[:|{}]|^[^<>]*$")
_REALS_WITHOUT = re.compile(r"(\\mathbb\s*\{?\s*R\s*\}?)\s*-\s*(?=\\\{)")
_ANGLES = re.compile(r"<([^<>]*)>")
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_PHRASES = {
    "infinity": r"\infty",
    **dict.fromkeys(("all real numbers", "all reals", "all real x", "real numbers", "set of all real numbers"), r"\mathbb{R}"),
    **dict.fromkeys(("empty set", "no solution", "no solutions", "there is no solution", "there are no solutions"), r"\emptyset"),
}


def rewritten(text: str) -> str:
    """The same answer in the grammar's own notation, if it is written by one of these customs."""
    based = _BASED.fullmatch(text)
    if based:
        return _based(based) or text
    alone = _TEXT.fullmatch(text)
    time = _TIME.fullmatch(alone[1].strip() if alone else text)
    if time and (":" in time[1] or time[3] or time[2].isupper()):
        return rf"{time[1]} \text{{{time[2].lower()}m}}"
    speed = _SPEED.fullmatch(text)
    if speed:
        return rf"{speed[1]} \text{{{re.sub(r'[ {}]', '', speed[2])}}}"
    if alone and _PLAIN_LIST.fullmatch(alone[1]):
        return alone[1].strip()
    builder = _SET_BUILDER.match(text)
    if builder and text.endswith("\\}"):
        condition = text[builder.end() : -2].strip()
        if not _NO_RANGE.search(condition.replace("\\le ", "<").replace("\\ge ", ">")):
            return condition
    text = _REALS_WITHOUT.sub(r"\1 \\setminus ", text)
    vector = _ANGLES.fullmatch(text)
    if vector and "," in vector[1]:
        return f"({vector[1]})"
    text = "-" + text[minus.end() :] if (minus := _LEADING_MINUS.match(text)) else text
    text = _LEADING_ABOUT.sub("", text) if _LEADING_ABOUT.match(text) else text
    return _BRACKET_PAIR.sub(_turned, text)


def phrase(words: str) -> str | None:
    """The notation of what is always said in the same words, as `all real numbers`."""
    return _PHRASES.get(words)


def _based(found: re.Match[str]) -> str | None:
    name = found["base"] or found["base_of_words"]
    base = _BASES[name] if name in _BASES else int(name)
    digits = found["digits"]
    if digits[0].isalpha() and base not in _LETTER_BASE:
        return None
    return f"{digits}_{{{base}}}"


def _turned(found: re.Match[str]) -> str:
    """`]1, 2[` as `(1, 2)`; a bracket that is not turned round stays."""
    left, inside, right = found.groups()
    ends = inside.replace(";", ",").split(",")
    if len(ends) < 2 or not all(end.strip() for end in ends):
        return found[0]
    return ("(" if left == "]" else "[") + inside + (")" if right == "[" else "]")
