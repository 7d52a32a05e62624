"""What makes a math reference unusable, seen from its text: nothing in it, brackets that do not match, a command without its arguments."""

from __future__ import annotations

import re

from reward_service.scoring.equivalence import exact
from reward_service.scoring.equivalence.customs import end_of_group
from reward_service.scoring.equivalence.forms import Collection, Value, Words
from reward_service.scoring.equivalence.parse import Reading

_UNFINISHED = re.compile(
    r"(?:\\|(?<![A-Za-z}][\^_])[-+]|(?<!\^)\*|[\^_=/<>]|\\(?:frac|dfrac|tfrac|cfrac|binom|sqrt|text|mathrm|overline|left|right|begin|cdot|times|le|ge)\s*(?:\{[^{}]*\})?)$"
)
_TRAILING_SPACES = re.compile(r"(?:\\[ ,;!]?)+$")
_EMPTY_ARGUMENT = re.compile(r"\\(?:frac|dfrac|tfrac|cfrac|binom|sqrt)\s*(?:\{[^{}]*\}\s*)?\{\s*\}")
_WHOLE = re.compile(r"\\(?:text|mathrm|mathbf|textbf|sqrt|overline)\s*\{[^{}]*\}$")
_HALF_FRACTION = re.compile(r"\\[dtc]?frac\s*\{[^{}]*\}\s*(?![\s{\w\\])")


_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*\{")
_OPENING = re.compile(r"\\(?:[{]|lfloor|lceil|langle)(?![A-Za-z])|[(\[]")
_CLOSING = re.compile(r"\\(?:[}]|rfloor|rceil|rangle)(?![A-Za-z])|[)\]]")
_FRENCH = re.compile(r"[\[\]][^\[\]()]*[,;][^\[\]()]*[\[\]]")  # `]1, 2[`
_EMPTY_DELIMITER = re.compile(r"\\(?:left|right)\s*\.")


def unboxed(gold: str) -> str:
    r"""What a reference says: the content of its box where it has one (`\boxed{4}`), without the boxes where it has several."""
    spans = _boxes(gold)
    while len(spans) == 1:
        gold = gold[spans[0][1] : spans[0][2]]
        spans = _boxes(gold)
    for start, inside, end in reversed(spans):
        gold = gold[:start] + gold[inside:end] + gold[end + 1 :]
    return gold


def _boxes(text: str) -> list[tuple[int, int, int]]:
    """Each outermost box: where it begins, where its content begins and ends. None of a text that leaves one open."""
    found: list[tuple[int, int, int]] = []
    text = text.replace("\\\\", "..").replace("\\{", "..").replace("\\}", "..")
    match = _BOX.search(text)
    while match:
        end = end_of_group(text, match.end())
        if end < 0:
            return []
        found.append((match.start(), match.end(), end))
        match = _BOX.search(text, end)
    return found


def malformed(gold: str, reading: Reading) -> str | None:
    """`empty`, `unbalanced_braces`, `unbalanced_brackets`, `unfinished_command`, `undefined` (it divides by zero), or None."""
    if _unbalanced_braces(gold):
        return "unbalanced_braces"
    if not any(char.isalnum() for char in reading.words) and all(isinstance(form, Words) for form in reading.forms):
        return "empty"
    if gold.count("\\begin{") != gold.count("\\end{"):
        return "unfinished_command"
    stripped = _TRAILING_SPACES.sub("", gold.rstrip().rstrip("$").rstrip())
    if stripped[:2] == stripped[-2:] == "**":
        stripped = stripped[2:-2]
    if isinstance(reading.forms[0], Collection) and stripped.count("<") == stripped.count(">") == 1:
        stripped = stripped.removesuffix(">").removesuffix("\\right")  # a vector: `<1, 2>`
    flat = _flattened(stripped)
    if (_UNFINISHED.search(flat) and not _WHOLE.search(flat)) or _HALF_FRACTION.search(flat) or _EMPTY_ARGUMENT.search(gold):
        return "unfinished_command"
    if _never_closed(gold):
        return "unbalanced_brackets"
    if any(exact.divides_by_zero(form.expression) for form in reading.forms if isinstance(form, Value)):
        return "undefined"
    return None


def _unbalanced_braces(gold: str) -> bool:
    depth = 0
    for char in re.sub(r"\\\\|\\[{}]", "", gold):
        depth += (char == "{") - (char == "}")
        if depth < 0:
            return True
    return depth > 0


def _never_closed(gold: str) -> bool:
    """More brackets opened than closed, of whatever kind, as `(1, 2]` is an interval."""
    if _EMPTY_DELIMITER.search(gold):
        return False
    rest = _FRENCH.sub("", gold.replace("\\\\", ""))
    return len(_OPENING.findall(rest)) > len(_CLOSING.findall(rest))


def _flattened(text: str) -> str:
    """Groups inside groups emptied, so that a command's arguments can be seen by a pattern without nesting."""
    depth, kept = 0, []
    for char in text:
        depth -= char == "}"
        if depth < 1 or (depth == 1 and char not in "{}"):
            kept.append(char)
        depth += char == "{"
    return "".join(kept)
