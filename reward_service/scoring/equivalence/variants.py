r"""The texts as which one answer may be read: `1,234` is a number or a list, `C(5, 2)` a point or a count, `t/RC` one of two quotients."""

from __future__ import annotations

import re

from reward_service.scoring.equivalence.customs import counted

_THOUSANDS = re.compile(r"(?<![\d.,\w\\}])\d{1,3}(?:,\d{3})+(?![\d,\w])")
_SPACED_THOUSANDS = re.compile(r"(?<![\d.,\w\\}] )(?<![\d.,\w\\}])[1-9]\d{0,2}(?: \d{3})+(?![\d\w]| \d)")


_OVER_CAPITALS = re.compile(r"/ ?([A-Z]{2,3})(?![A-Za-z(_^])")  # `t/RC` divides by both
_PADDED = re.compile(r"\d,0\d\d(?!\d)")  # no list has an element `000`


def variants(text: str) -> list[str]:
    """The text, and before it the text with its bare `1,234` and `1 234` as whole numbers; behind it what `C(5, 2)` counts, and `t/RC`."""
    chosen = counted(text)
    if chosen != text:
        return [text, chosen]
    if "/" in text and (over := _OVER_CAPITALS.sub(r"/(\1)", text)) != text:
        return [text, over]
    if "(" in text or "[" in text or "\\{" in text:
        return [text]
    joined = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    joined = _SPACED_THOUSANDS.sub(lambda match: match[0].replace(" ", ""), joined)
    if joined != text and _PADDED.search(text):
        return [joined]
    return [joined, text] if joined != text else [text]


_NAMED_VALUE = re.compile(r"(?P<name>[^<>]{1,300}[^=<>!:\\/])=(?P<value>[^=<>]+)")
_GROUP = re.compile(r"\{[^{}]*\}")
_BEYOND = re.compile(r"\\\||\\(?:int|sum|prod|lim|lVert|overrightarrow|Vert|norm|det|mathbb)(?![A-Za-z])")


def name_and_value(text: str) -> tuple[str, str]:
    r"""What is beyond the grammar, and what it is said to be: `\|v\|` and `5` of `\|v\| = 5`; two empty texts where there is none."""
    found = _NAMED_VALUE.fullmatch(text) if "=" in text else None
    if found is None or not _BEYOND.search(found["name"]) or "=" in _GROUP.sub("", _GROUP.sub("", found["name"])):
        return "", ""
    return found["name"].strip(), found["value"]
