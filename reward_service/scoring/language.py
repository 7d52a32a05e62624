r"""The language-consistency term: do problem, thinking and answer share a language? (arXiv 2506.10910v1, 2.2.4)

The paper's rule, literally: each part is stripped of LaTeX and code blocks and classified as a whole by fastText. What the paper
leaves open is decided here:

- A code block is a closed fence of three or more backticks or tildes; inline code stays. An unclosed fence is text.
- LaTeX is mathematics between `$`, `$$`, `\(` and `\[` by pandoc's rules, so that prices stay (inline `$` touches its content, no
  digit follows the closing one, no blank line inside), whole `\begin{x}..\end{x}` environments, and a command with the groups
  right behind it (`\boxed{42}`).
- A part of which nothing is left is classified all the same, as the paper's rule would: the model calls an empty text English, with
  a probability of 0.12. The refined rule abstains instead.
- Thinking that is empty or blank earns nothing (MAGISTRAL.md, format gate).
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable
from dataclasses import dataclass

from reward_service.records import Json, JsonObject, LanguageFinding

# Labels of the model, and codes of data sets, for varieties of written Chinese: one language for this term.
CHINESE = frozenset({"zh", "cmn", "yue", "wuu", "nan", "hak", "gan", "hsn", "lzh", "zho", "chi"})

_FENCE = re.compile(r" {0,3}(?P<marks>`{3,}|~{3,})(?P<info>[^\n]*)")
_MARK = re.compile(
    r"(?P<blank>\n[ \t]*\n)"
    r"|(?P<begin>\\begin\{[^{}\n]{1,40}\})"
    r"|(?P<end>\\end\{[^{}\n]{1,40}\})"
    r"|(?P<formula>\$\$?|\\[()\[\]])"
    r"|(?P<command>\\[A-Za-z]+\*?)"
    r"|(?P<escaped>\\.)"
    r"|(?P<brace>[{}\[\]])"
)
_FORMULAS = {"$": "$", "$$": "$$", r"\(": r"\)", r"\[": r"\]"}
_GROUPS = {"{": "}", "[": "]"}


@dataclass(frozen=True, slots=True)
class Detection:
    """A classifier's best guess: its label (an ISO 639 code) and its probability in [0, 1]."""

    language: str
    probability: float


def literal_rule(prompt: str, thinking: str, answer: str, wanted: str | None, detect: Callable[[str], Detection]) -> LanguageFinding:
    """The paper's rule: consistent when all three parts are in the same language; `wanted` stands in for the problem's language.

    Example: ("Combien font 2+2 ?", "Je calcule la somme.", "La réponse est $4$.", None) -> consistent, all three "fr".
    """
    parts = {} if wanted is not None else {"problem": prompt}
    parts |= {"thinking": thinking, "answer": answer}
    found = {part: detect(strip_latex_and_code(text)) for part, text in parts.items()}
    languages = {base_language(detection.language) for detection in found.values()}
    detail: dict[str, Json] = {"rule": "literal", **{part: _shown(detection) for part, detection in found.items()}}
    if wanted is not None:
        detail["wanted"] = base_language(wanted)
        languages.add(base_language(wanted))
    empty = not thinking.strip()
    if empty:
        detail["empty_thinking"] = True
    return LanguageFinding(consistent=len(languages) == 1 and not empty, detail=detail)


def base_language(code: str) -> str:
    """A language code without region and script, in lower case; the varieties of Chinese are `zh`. "fr-CA" -> "fr"."""
    base = code.strip().lower().replace("_", "-").partition("-")[0]
    return "zh" if base in CHINESE else base


def strip_latex_and_code(text: str) -> str:
    r"""The text without LaTeX and fenced code blocks, each replaced by a space; in linear time, for any text.

    Example: "Es kostet $5, also $x=5$." -> "Es kostet $5, also  ."
    """
    return _strip_latex(_strip_fences(text.replace("\r\n", "\n").replace("\r", "\n")))


def _shown(detection: Detection) -> JsonObject:
    return {"language": detection.language, "probability": round(detection.probability, 4)}


def _strip_fences(text: str) -> str:
    """Without fenced blocks. A fence without its closing line is text, and nothing inside it is looked at again."""
    if "```" not in text and "~~~" not in text:
        return text
    kept: list[str] = []
    opening: tuple[int, str] | None = None  # where `kept` stood, and the marks
    for line in text.split("\n"):
        fence = _FENCE.fullmatch(line)
        kept.append(line)
        if not fence:
            continue
        marks, info = fence["marks"], fence["info"].strip()
        if opening is None:
            if marks[0] == "~" or "`" not in info:
                opening = (len(kept) - 1, marks)
        elif not info and marks.startswith(opening[1]):
            del kept[opening[0] :]
            kept.append(" ")
            opening = None
    return "\n".join(kept)


class _Marks:
    """All delimiters of a text, found in one pass, and the partners of those that have one; arrays, about 50 bytes a mark."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.kinds: list[str] = []
        self.symbols: list[str] = []
        self.starts = array("q")
        self.ends = array("q")
        seen: dict[str, str] = {}
        for mark in _MARK.finditer(text):
            symbol = mark.group()
            self.kinds.append(mark.lastgroup or "")
            self.symbols.append(seen.setdefault(symbol, symbol))
            self.starts.append(mark.start())
            self.ends.append(mark.end())
        self.partner = array("q", [-1]) * len(self.kinds)  # the mark that ends an environment, group or formula; -1: none
        self._pair_environments_and_groups()
        self._pair_formulas()

    def _pair_environments_and_groups(self) -> None:
        unclosed: dict[str, list[int]] = {}  # by what would close them
        for index, (kind, symbol) in enumerate(zip(self.kinds, self.symbols, strict=True)):
            if kind == "begin":
                unclosed.setdefault(symbol.replace("begin", "end", 1), []).append(index)
            elif kind == "brace" and symbol in _GROUPS:
                unclosed.setdefault(_GROUPS[symbol], []).append(index)
            elif kind in ("end", "brace"):
                if waiting := unclosed.get(symbol):
                    self.partner[waiting.pop()] = index
            elif kind == "blank":
                unclosed.pop("]", None)  # a lone bracket is prose, and closes nothing in another paragraph

    def _pair_formulas(self) -> None:
        """The next delimiter that could close a formula, unless a blank line comes before it."""
        nearest: dict[str, int] = {}
        for index in range(len(self.kinds) - 1, -1, -1):
            kind, symbol = self.kinds[index], self.symbols[index]
            if kind == "blank":
                nearest.clear()
            elif kind == "formula":
                if symbol in _FORMULAS:
                    self.partner[index] = nearest.get(_FORMULAS[symbol], -1)
                nearest[symbol] = index

    def last_of(self, index: int) -> int | None:
        """The last mark of the LaTeX that starts at this mark; None where it is text."""
        match self.kinds[index]:
            case "begin":
                return max(self.partner[index], index)
            case "end" | "escaped":
                return index
            case "formula":
                return self._last_of_formula(index)
            case "command":
                return self._last_of_command(index)
            case _:
                return None

    def _last_of_formula(self, index: int) -> int | None:
        opener, closer = self.symbols[index], self.partner[index]
        if closer < 0:
            return None if opener.startswith("$") else index
        if opener == "$" and not self._is_inline(self.ends[index], self.starts[closer]):
            return None
        return closer

    def _is_inline(self, start: int, end: int) -> bool:
        """Whether two `$` enclose a formula and not prices (pandoc manual, extension tex_math_dollars)."""
        after = self.text[end + 1 : end + 2]
        return not self.text[start].isspace() and not self.text[end - 1].isspace() and not (after.isascii() and after.isdigit())

    def _last_of_command(self, index: int) -> int:
        """A command takes the balanced groups that follow it without a gap."""
        while index + 1 < len(self.kinds):
            following = index + 1
            is_group = self.symbols[following] in _GROUPS and self.starts[following] == self.ends[index]
            if not is_group or self.partner[following] < 0:
                break
            index = self.partner[following]
        return index


def _strip_latex(text: str) -> str:
    if "$" not in text and "\\" not in text:
        return text
    marks = _Marks(text)
    kept: list[str] = []
    position = index = 0
    while index < len(marks.kinds):
        last = marks.last_of(index)
        if last is None:
            index += 1
            continue
        kept += (text[position : marks.starts[index]], " ")
        position = marks.ends[last]
        index = last + 1
    kept.append(text[position:])
    return "".join(kept)
