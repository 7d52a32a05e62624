r"""Whole answers written by customs of their own: `]1, 2[`, `101_{\text{two}}`, `(101)_2`, `6:00 p.m.`, `5 m/s`, `the empty set`.

Each is rewritten into the notation that the grammar reads. All patterns are linear.
"""

from __future__ import annotations

import re

from reward_service.scoring.equivalence.qualifiers import without_qualifier
from reward_service.scoring.equivalence.units import says_no_more

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
_LEADING_ABOUT = re.compile(r"(?:\\approx|~|=)\s*(?=[\d.\-\\])|=\s*(?=[A-Za-z(])")
_BRACKET_PAIR = re.compile(r"([\[\]])((?:[^\[\](){}]|\{[^{}]*\})*)([\[\]])")
_LEADING_MINUS = re.compile(r"(?:\\text\s*\{\s*(?:negative|minus)\s*\}|(?:negative|minus)\s)\s*(?=[\d.\\])", re.IGNORECASE)
_HAS_DIGIT = re.compile(r"[0-9]")
_PLAIN_LIST = re.compile(r"[\d\s.,;+\-]+")
_SET_BUILDER = re.compile(r"\\\{\s*[a-z]\s*(?:\\in\s*\\mathbb\s*\{?\s*R\s*\}?)?\s*[:|]")
_NAMED_SET = re.compile(r"[A-Z](?: ?\\c[au]p ?[A-Z])? ?= ?(?=\\\{ ?[a-z] ?(?:\\in[^|:]{1,30})?[|:])")
_CONDITION = re.compile(r"[<>=]|\\(?:le|ge|neq|in)(?![A-Za-z])")
_BASE_WRAPPED = re.compile(r"\{?\s*([0-9A-Z]+)\s*\}?\s*_\s*\{?\s*\(?\s*(\d{1,2})\s*\)?\s*\}?")
_BASE_TEXT = re.compile(r"\\text\s*\{\s*([0-9A-Z]+)\s*\}")
_REALS_WITHOUT = re.compile(r"(\\mathbb\s*\{?\s*R\s*\}?)\s*-\s*(?=\\\{)")
_ANGLES = re.compile(r"<([^<>]*)>")
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_LEAD_IN = re.compile(
    r"(?:\\text\s*\{\s*)?(?:(?:so|thus|hence|therefore)[\s,]+)?(?:the\s+)?(?:final\s+|correct\s+)?ans(?:wer|\.)?\s*(?:is\s*:?|:|=)\s*(?:\}\s*:?\s*)?(?=.)",
    re.IGNORECASE,
)
_SAID = re.compile(r"\\text\s*\{\s*([A-Za-z ]{1,60}(?:\bis|:|=))\s*\}\s*(?=[\d\\.\-(\[]|[a-z] ?=|[a-zA-Z]\([a-z]\) ?=)")
_FAMILY = re.compile(r"\\\{(?P<member>[^{}|:]*(?:\{[^{}]*\}[^{}|:]*)*)[|:]\s*[kmn]\s*\\in\s*\\mathbb\s*\{?\s*Z\s*\}?\s*\\\}")
_RECURRING = re.compile(r"(-?\d+\.\d*?)(?:(\d)\2\2+|(\d{2,9}?)\3+) ?\\ldots")
_LIMIT = re.compile(r"\\lim\s*_\s*\{[^{}=]*\}[^=<>]{1,60}=(?!.*=)\s*")
_NAMED_CURVE = re.compile(r"(?:[CEHLPl](?:_\{?\d\}?)?|\\Gamma|\\ell) ?: ?(?=[^:=]*[xy][^:=]*=[^:=]*$)")
_NAMED_POINT = re.compile(r"\\text\s*\{\s*(?:the )?(?:point|coordinates)(?: (?:is|are))?\s*:?\s*\}\s*(?=[A-Z]?\s?\()", re.IGNORECASE)
_OPTION = re.compile(
    r"(?:\\text\s*\{\s*)?(?:option|choice)\s*\(?([A-Za-z])\)?\s*\}?|\(?([A-Za-z])\)|\\text\s*\{\s*([A-Za-z])\)\s*\}", re.IGNORECASE
)
_RATIO = re.compile(r"(\d+)\s*(?:\\text\s*\{\s*to\s*\}|to)\s*(\d+)")
_MAPPING = re.compile(r"^f\s*:\s*([a-z])\s*\\mapsto(?![A-Za-z])")
_LETTERS = re.compile(r"[A-Z](?:\s*,\s*[A-Z])*(?:\s*,\s*|\s*,?\s+and\s+)[A-Z]")
_POINT = re.compile(r"(?:[ABD-Z]|C(?=[^-]*-))\s*(\([^()]*,[^()]*\))")
_EXCEPT = re.compile(r"all\s+(?:real\s+numbers?|reals)(?:\s+x)?\s+except(?:\s+for)?\s*(?:x\s*=\s*)?(.+)", re.IGNORECASE)
_CURRENCY_CODE = re.compile(r"(?:USD|US\s*\\dollar)\s*(?=[\d.])")
_CHOOSE_CALL = re.compile(r"(?<![A-Za-z\\_])C\s*\(\s*([^(),]+),\s*([^(),]+)\)")
_CHOOSE_INDEXED = re.compile(
    r"(?:\{\s*\}\s*)?[_^]\s*\{?\s*([0-9A-Za-z]{1,9})\s*\}?\s*(?:C|\\text\s*\{C\})\s*_\s*\{?\s*([0-9A-Za-z]{1,9})\s*\}?"
)
_CHOOSE_STACKED = re.compile(
    r"(?:(?<![A-Za-z\\])C|\\text\s*\{C\})\s*_\s*\{?\s*([0-9A-Za-z]{1,9})\s*\}?\s*\^\s*\{?\s*([0-9A-Za-z]{1,9})\s*\}?"
)
_CHOOSE_PLAIN = re.compile(r"(?<![\w.])(\d+)\s*C\s*(\d+)(?![\w.])")
_MAX_COUNTED_CHARS = 100  # a longer text is not read twice


def rewritten(text: str) -> str:
    """The same answer in the grammar's own notation, if it is written by one of these customs."""
    if text[:1] == "{" and (inside := _in_one_group(text)) is not None:
        return rewritten(inside.strip())
    based = _BASED.fullmatch(text) if "_" in text or "base" in text else None
    if based:
        return _based(based) or text
    alone = _TEXT.fullmatch(text) if text.startswith("\\text") else None
    time = _TIME.fullmatch(alone[1].strip() if alone else text)
    if time and (":" in time[1] or time[3] or time[2].isupper()):
        return rf"{time[1]} \text{{{time[2].lower()}m}}"
    speed = _SPEED.fullmatch(text) if "/" in text else None
    if speed:
        unit, _, power = re.sub(r"[ {}]", "", speed[2]).partition("^")
        return rf"{speed[1]} \text{{{unit}}}" + (f"^{power}" if power else "")
    if alone and (_PLAIN_LIST.fullmatch(alone[1]) or _LETTERS.fullmatch(alone[1].strip()) or _HAS_DIGIT.search(alone[1])):
        return rewritten(alone[1].strip())
    named = _NAMED_SET.match(text) if "=" in text else None
    if named:
        return rewritten(text[named.end() :])
    builder = _SET_BUILDER.match(text) if text.startswith("\\{") else None
    if builder and text.endswith("\\}"):
        condition = text[builder.end() : -2].strip()
        if _CONDITION.search(condition) and "\\{" not in condition:
            return condition
    text = _led_in(text)
    if "_" in text:
        wrapped = _BASE_WRAPPED.fullmatch(_BASE_TEXT.sub(r"\1", text))
        based = _BASED.fullmatch(f"{wrapped[1]}_{{{wrapped[2]}}}") if wrapped else None
        if based:
            return _based(based) or text
    text = _REALS_WITHOUT.sub(r"\1 \\setminus ", text) if "\\mathbb" in text else text
    vector = _ANGLES.fullmatch(text) if text.startswith("<") else None
    if vector and "," in vector[1]:
        return f"({vector[1]})"
    text = "-" + text[minus.end() :] if (minus := _LEADING_MINUS.match(text)) else text
    text = _LEADING_ABOUT.sub("", text) if _LEADING_ABOUT.match(text) else text
    return _BRACKET_PAIR.sub(_turned, text) if "[" in text or "]" in text else text


def _in_one_group(text: str) -> str | None:
    """What braces hold that stand around the whole text, which begins with one."""
    end = end_of_group(text.replace("\\{", "..").replace("\\}", ".."), 1)
    return text[1:-1] if end == len(text) - 1 else None


def end_of_group(text: str, start: int) -> int:
    """Where the brace is that closes the group whose content begins at `start`; -1 where none does. Escaped braces must be gone."""
    depth = 1
    for index in range(start, len(text)):
        depth += (text[index] == "{") - (text[index] == "}")
        if depth == 0:
            return index
    return -1


def _led_in(text: str) -> str:
    """The text without what leads to an answer (`The answer is`), says which option it is, or names a point."""
    found = _LEAD_IN.match(text) if "nswer" in text or "Ans" in text else None
    if found:
        rest = text[found.end() :].strip()
        text = rest if found[0].count("{") == found[0].count("}") else rest.removesuffix("}").strip()
    ratio = _RATIO.fullmatch(text)
    if ratio:
        return f"{ratio[1]}:{ratio[2]}"
    text = _MAPPING.sub(r"f(\1) = ", text) if "mapsto" in text else text
    said = _SAID.match(text) if text.startswith("\\text") else None
    if said and says_no_more(said[1]):
        text = text[said.end() :].strip()
    text = without_qualifier(text)
    if "\\text" in text:
        text = _NAMED_POINT.sub("", text, count=1)
    curve = _NAMED_CURVE.match(text) if ":" in text else None
    if curve:
        text = text[curve.end() :]
    if "\\ldots" in text and len(text) <= _MAX_COUNTED_CHARS and (recurring := _RECURRING.fullmatch(text)):
        text = rf"{recurring[1]}\overline{{{recurring[2] or recurring[3]}}}"
    if "\\lim" in text and (limit := _LIMIT.match(text)):
        text = text[limit.end() :]
    if "\\in" in text and (family := _FAMILY.fullmatch(text)):
        text = family["member"].strip()
    option = _OPTION.fullmatch(text)
    if option:
        return option[1] or option[2] or option[3]
    point = _POINT.fullmatch(text)
    if point:
        return point[1]
    excepted = _EXCEPT.fullmatch(_TEXT.sub(r"\1", text)) if "except" in text else None
    if excepted:
        return rf"\mathbb{{R}} \setminus \{{{excepted[1].replace(' and ', ', ')}\}}"
    return _CURRENCY_CODE.sub(r"\\dollar ", text) if "US" in text else text


def counted(text: str) -> str:
    r"""The text with binomial coefficients for `C(5, 2)`, `{}_5C_2`, `C_5^2` and `5C2`, which may mean other things, too."""
    if "C" not in text or len(text) > _MAX_COUNTED_CHARS:
        return text
    text = _CHOOSE_CALL.sub(r"\\binom{\1}{\2}", text)
    for pattern in (_CHOOSE_INDEXED, _CHOOSE_STACKED, _CHOOSE_PLAIN):
        text = pattern.sub(r"\\binom{\1}{\2}", text)
    return text


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
