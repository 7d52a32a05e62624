"""Find the final answer of a text: the content of its last outermost box.

No loop here runs once per character or per brace: strings, `bytes` and `itertools` do that in C, as a megabyte may consist of braces.
Three views of the answer are used. The *text* has its length, with escapes blotted out and `\\boxed` marked wherever it opens a box.
The *skeleton* is what is left of the text when all but marks and braces are deleted. *Depths* are the brace depths of the skeleton.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate

_MARK = "\0"  # what a box's command begins with in the text, in place of its backslash
_BLOT = ".."
_WHITE = r"[ \t\r\f\v]*+(?:\n[ \t\r\f\v]*+)?"  # what TeX skips after a command: white space without an empty line
_COMMAND = re.compile(rf"\\boxed(?={_WHITE}\{{)")
_SPACE = " \t\r\n\f\v"
_NESTED = re.compile(rf"(?:[{_SPACE}]*+{_MARK}boxed{_WHITE}\{{)*")
_ALL_BUT_SKELETON = bytes(set(range(256)) - set(f"{_MARK}{{}}".encode()))
_STEPS = bytes(1 if byte == ord("{") else 0xFF if byte == ord("}") else 0 for byte in range(256))  # 0xFF is -1 when signed


def last_boxed(answer: str) -> str | None:
    """The content of the last outermost `\\boxed{..}`, stripped, or None where there is none (MAGISTRAL.md, format gate, boxes).

    `\\boxed {..}` is one too. Braces are balanced, `\\{` and `\\}` being none and `\\\\` an escape of its own, as TeX reads it. A box that
    holds nothing but a box is unwrapped. None as well when the last outermost box is blank, or is never closed, whatever closed boxes
    stand before or inside it. Linear in the answer's length, without recursion.

    Example: `so $x = \\boxed{\\frac{1}{2}}$.` is `\\frac{1}{2}`.
    """
    text = _text(answer)
    first = text.find(_MARK)
    if first < 0 or text.rfind(_MARK) > text.rfind("}"):
        return None
    answer, text = answer[first:], text[first : text.rfind("}") + 1]
    skeleton = text.encode("latin-1", "replace").translate(None, _ALL_BUT_SKELETON)
    depths = list(accumulate(memoryview(skeleton.translate(_STEPS)).cast("b")))
    span = _last_outermost(skeleton, depths)
    if span is None:
        return None
    opened, closed = span
    start = _nth(text, "{", skeleton.count(b"{", 0, opened)) + 1
    end = _nth(text, "}", skeleton.count(b"}", 0, closed))
    nested = _NESTED.match(text, start, end)
    if nested and nested.end() > start:
        levels = _levels(depths, opened, closed, text.count("{", start, nested.end()), _trailing_braces(text[start:end]))
        start, end = _inside(text, start, end, levels)
    return _strip(answer[start:end]) or None


def _text(answer: str) -> str:
    """A copy of the same length in which every `{` and `}` is a brace, and every mark begins the command of a box."""
    if "\\boxed" not in answer:
        return ""
    # A run of backslashes is read in pairs from its left, which is what a replacement that does not overlap does.
    text = answer.replace(_MARK, ".").replace("\\\\", _BLOT).replace("\\{", _BLOT).replace("\\}", _BLOT)
    text = text.replace("\\boxed{", _MARK + "boxed{")
    return _COMMAND.sub(_MARK + "boxed", text) if "\\boxed" in text else text


def _last_outermost(skeleton: bytes, depths: Sequence[int]) -> tuple[int, int] | None:
    """The braces of the last box that is in no other box, or None if it is not closed. The skeleton begins with a box."""
    opened, closed = 0, 0
    mark = 0
    while mark >= 0:
        opened = mark + 1
        try:
            closed = depths.index(depths[mark], opened + 1)
        except ValueError:
            return None
        mark = skeleton.find(0, closed)
    return opened, closed


def _trailing_braces(content: str) -> int:
    """How many closing braces, with nothing but white space between them, stand at the end."""
    return content.count("}", len(content.rstrip("}" + _SPACE)))


def _levels(depths: Sequence[int], opened: int, closed: int, opening_run: int, closing_run: int) -> int:
    """How many boxes inside the one from `opened` to `closed` hold, each, all that the box around it holds.

    Candidates are the first of the `opening_run` boxes that open one right after the other; the box of level k is closed by the k-th
    brace before `closed` exactly when the depth between the two runs never falls below the one that its own brace opened.
    """
    most = min(opening_run, closing_run)
    between = depths[opened + 2 * most : closed - most]  # a box is a mark and a brace in the skeleton
    return min(most, min(between) - depths[opened])


def _inside(text: str, start: int, end: int, levels: int) -> tuple[int, int]:
    """The bounds of the content that is `levels` boxes further inside."""
    if levels == 0:
        return start, end
    content = text[start:end]
    return start + _nth(content, "{", levels - 1) + 1, start + _nth(content, "}", content.count("}") - levels)


def _nth(text: str, brace: str, n: int) -> int:
    """The index of the brace that has `n` of its kind before it, by halving."""
    low, high = 0, len(text)
    while high - low > 1:
        middle = (low + high) // 2
        before = text.count(brace, low, middle)
        if n < before:
            high = middle
        else:
            n, low = n - before, middle
    return low


def _strip(content: str) -> str:
    """The content without white space around it, but with the space that a last backslash escapes (`\\ ` is a command)."""
    stripped = content.strip()
    backslashes = len(stripped) - len(stripped.rstrip("\\"))
    return stripped + " " if backslashes % 2 else stripped
