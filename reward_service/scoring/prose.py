r"""The prose of a text: what is left for a classifier without code, LaTeX and addresses; in linear time, for any text.

- Fenced blocks go (an unclosed fence is text), and so does inline code on one line.
- Formulas go: `$`, `$$`, `\(` and `\[` by pandoc's rules, so that prices stay (inline `$` touches its content, no digit follows the
  closing one, no blank line inside), and whole environments. Prose inside a formula stays: six words, or twelve letters that are not
  ASCII, are no mathematics, with or without `\text{}`.
- Elsewhere a command loses its name and keeps its content: `\textbf{word}` is a word, `\boxed{42}` a number.
- Characters of no width go, styled letters (full width, circled, mathematical alphabets) become plain ones, letters and the marks over
  them become one character, and marks that no letter takes go.

What goes can be asked for (`Prose.removed`): prose of another language may hide in it.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate

_FENCE = re.compile(r"^ {0,3}(?P<marks>`{3,}|~{3,})(?P<info>[^\n]*)", re.MULTILINE)
_OPENING = re.compile(
    r"`[^`\n]{1,60}`"  # most inline code, at once
    r"|``*"
    r"|\$[^\s$`\\](?:[^\n$`\\]{0,30}[^\s$`\\])?\$(?![0-9])"  # most inline formulas, at once
    r"|\$\$|\$(?=\S)"
    r"|\\begin\{[A-Za-z]{1,30}\*?\}|\\[(\[]|\\[A-Za-z]+|\\[^A-Za-z(\[](?:\\[^A-Za-z(\[])*"
    r"|https?://\S+"
    r"|www\.\S+",
    re.DOTALL,
)
_BLANK_LINE = re.compile(r"\n[ \t]*\n")
_COMMAND = re.compile(r"\\(?:begin|end)\{[^{}]*\}|\\[A-Za-z]+")
_WORD = re.compile(r"(?<![A-Za-z])[A-Za-z]{3,}")
_OTHER_LETTERS = re.compile(r"(?:[^\W\d_](?<![A-Za-z]))+")
_NO_WIDTH = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0000-\U000e0fff"
    "\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"  # marks that enclose, underline or strike out
)
_STYLE = "\u24b6-\u24e9\u2f00-\u2fd5\uff21-\uff3a\uff41-\uff5a\U0001d400-\U0001d7cb\U0001f130-\U0001f149"
_MARKS = "\u0300-\u034e\u0350-\u036f"
_UNUSUAL = re.compile(f"[{_NO_WIDTH}{_STYLE}{_MARKS}]")
_MARKED = re.compile(f"([{_MARKS}]+)")
_INVISIBLE = re.compile(f"[{_NO_WIDTH}]+")
_STYLED = re.compile(f"[{_STYLE}]+")
_CLOSING = {r"\(": r"\)", r"\[": r"\]"}

_LEAST_FORMULA = 30  # characters; nothing shorter is prose in disguise
_DISGUISED_WORDS = 6
_DISGUISED_LETTERS = 12
_MOST_MARKS = 4  # of a letter that has a code of its own
_MOST_UNCLOSED = 16  # kinds of environments without an end that are looked for; more is no LaTeX


@dataclass(frozen=True, slots=True)
class Prose:
    """Prose, and the pieces of the text that it is made of, each followed by a space."""

    text: str
    pieces: list[tuple[int, int]] = field(repr=False)
    source: str = field(default="", repr=False)

    def removed(self) -> list[str]:
        """What is no prose, in its order: code with its fences, formulas, addresses, names of commands."""
        starts = [end for _, end in self.pieces]
        ends = [start for start, _ in self.pieces]
        return [self.source[start:end] for start, end in zip([0, *starts], [*ends, len(self.source)], strict=True) if start < end]

    def origins(self, positions: Iterable[int]) -> list[int]:
        """Where these characters of the prose stood in the text (without characters of no width)."""
        starts = list(accumulate((end - start + 1 for start, end in self.pieces), initial=0))
        found = []
        for position in positions:
            piece = bisect_right(starts, position) - 1
            found.append(self.pieces[piece][0] + position - starts[piece])
        return found


def find_prose(text: str) -> Prose:
    """The prose of a text; what is removed leaves a space. Example: "Es kostet $5, also $x=5$ `ok`." -> "Es kostet $5, also     ."."""
    scan = _Scan(_visible(text))
    position = 0
    for start, end in _fenced_blocks(scan.text):
        scan.read(position, start)
        position = end
    scan.read(position, len(scan.text))
    return scan.prose()


def _visible(text: str) -> str:
    """With LF line ends, without characters of no width, letters plain."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii() or not _UNUSUAL.search(text):
        return text
    text = _INVISIBLE.sub("", text)
    text = _composed(text)
    return _STYLED.sub(lambda styled: unicodedata.normalize("NFKC", styled.group()), text)


def _composed(text: str) -> str:
    """One character for a letter with its marks, of which it takes the first few: to sort thousands of them would take quadratic time."""
    pieces = _MARKED.split(text)
    for index in range(1, len(pieces), 2):
        before, marks = pieces[index - 1], pieces[index]
        if before[-1:].isalpha():
            pieces[index - 1] = before[:-1] + unicodedata.normalize("NFC", before[-1] + marks[:_MOST_MARKS])[:1]
        pieces[index] = ""
    return "".join(pieces)


def _fenced_blocks(text: str) -> list[tuple[int, int]]:
    """Where closed fenced blocks start and end; nothing is looked for inside an unclosed one."""
    if "```" not in text and "~~~" not in text:
        return []
    blocks: list[tuple[int, int]] = []
    marks, start = "", 0
    for fence in _FENCE.finditer(text):
        info = fence["info"].strip()
        if not marks:
            if fence["marks"][0] == "~" or "`" not in info:
                marks, start = fence["marks"], fence.start()
        elif not info and fence["marks"].startswith(marks):
            blocks.append((start, fence.end()))
            marks = ""
    return blocks


class _Scan:
    """One pass over a text from one opening mark to the next; whatever fails to close is remembered, so that no search repeats."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._pieces: list[tuple[int, int]] = []
        self._disguised: set[tuple[int, int]] = set()
        self._unclosed: set[str] = set()

    def read(self, start: int, end: int) -> None:
        """Keep the prose of text[start:end]."""
        self._unclosed.clear()
        text, pieces, position, search = self.text, self._pieces, start, _OPENING.search
        opening = search(text, start, end)
        while opening:
            begin, after = opening.span()
            mark = text[begin:after]
            last = self._last(mark, after, end)
            if last is not None:
                if position < begin:
                    pieces.append((position, begin))
                if last - after >= _LEAST_FORMULA and mark[0] != "`":
                    self._look_into(after, last - len(mark.replace("begin", "end", 1)))
                position = after = last
            opening = search(text, after, end)
        if position < end:
            pieces.append((position, end))

    def prose(self) -> Prose:
        """What was kept."""
        kept = [self.text[start:end] for start, end in self._pieces]
        if self._disguised:
            for index, piece in enumerate(self._pieces):
                if piece in self._disguised:
                    kept[index] = _COMMAND.sub(lambda command: " " * len(command.group()), kept[index])
        return Prose(" ".join(kept) + " ", self._pieces, self.text)

    def _last(self, mark: str, after: int, end: int) -> int | None:
        """Where what opens with this mark ends; None where the mark is text."""
        match mark[0]:
            case "$" if len(mark) > 2:
                return after
            case "$":
                return self._end_of_dollars(mark, after, end)
            case "`" if mark[1:2] not in ("", "`"):
                return after
            case "`":
                return self._end_of_code(mark, after, end)
            case "\\":
                if mark in _CLOSING:
                    return self._find(_CLOSING[mark], after, end) or after
                if mark.startswith(r"\begin{"):
                    return self._find(mark.replace("begin", "end", 1), after, end) or after
        return after  # commands and addresses

    def _find(self, closing: str, after: int, end: int) -> int | None:
        """Where the next `closing` ends."""
        if closing in self._unclosed or len(self._unclosed) > _MOST_UNCLOSED:
            return None
        found = self.text.find(closing, after, end)
        if found < 0:
            self._unclosed.add(closing)
            return None
        return found + len(closing)

    def _end_of_dollars(self, mark: str, after: int, end: int) -> int | None:
        text = self.text
        last = self._find(mark, after, end)
        while last is not None and text[last - len(mark) - 1] == "\\" and last - len(mark) > after:
            last = self._find(mark, last, end)  # escaped
        if last is None or (text.find("\n", after, last) >= 0 and _BLANK_LINE.search(text, after, last)):
            return None
        if mark == "$" and (text[after].isspace() or text[last - 2].isspace() or text[last : last + 1] in tuple("0123456789")):
            return None
        return last

    def _end_of_code(self, mark: str, after: int, end: int) -> int | None:
        """Inline code: to the next backticks of the line."""
        last = self._find(mark, after, end)
        if last is None or "\n" in self.text[after:last]:
            return None
        return last

    def _look_into(self, start: int, end: int) -> None:
        """Keep the content of a formula that is no mathematics."""
        content = self.text[start:end]
        letters = 0 if content.isascii() else sum(map(len, _OTHER_LETTERS.findall(content)))
        if letters >= _DISGUISED_LETTERS or len(_WORD.findall(_COMMAND.sub(" ", content))) >= _DISGUISED_WORDS:
            self._pieces.append((start, end))
            self._disguised.add((start, end))
