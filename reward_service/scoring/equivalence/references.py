"""What makes a math reference unusable, seen from its text: nothing in it, braces that do not match, a command without its arguments."""

from __future__ import annotations

import re

from reward_service.scoring.equivalence import exact
from reward_service.scoring.equivalence.forms import Value, Words
from reward_service.scoring.equivalence.parse import Reading

_UNFINISHED = re.compile(
    r"(?:\\|[-^_=+*/<>]|\\(?:frac|dfrac|tfrac|cfrac|binom|sqrt|text|mathrm|overline|left|right|begin|cdot|times|le|ge)\s*(?:\{[^{}]*\})?)$"
)
_EMPTY_ARGUMENT = re.compile(r"\\(?:frac|dfrac|tfrac|cfrac|binom|sqrt)\s*(?:\{[^{}]*\}\s*)?\{\s*\}")
_WHOLE = re.compile(r"\\(?:text|mathrm|mathbf|textbf|sqrt|overline)\s*\{[^{}]*\}$")
_HALF_FRACTION = re.compile(r"\\[dtc]?frac\s*\{[^{}]*\}\s*(?![\s{\w\\])")


def malformed(gold: str, reading: Reading) -> str | None:
    """`empty`, `unbalanced_braces`, `unfinished_command`, `undefined` (it divides by zero), or None."""
    if not any(char.isalnum() for char in reading.words) and all(isinstance(form, Words) for form in reading.forms):
        return "empty"
    bare = re.sub(r"\\\\|\\[{}]", "", gold)
    depth = 0
    for char in bare:
        depth += (char == "{") - (char == "}")
        if depth < 0:
            return "unbalanced_braces"
    if depth:
        return "unbalanced_braces"
    stripped = gold.rstrip().rstrip("$").rstrip()
    flat = _flattened(stripped)
    if (_UNFINISHED.search(flat) and not _WHOLE.search(flat)) or _HALF_FRACTION.search(flat) or _EMPTY_ARGUMENT.search(gold):
        return "unfinished_command"
    if any(exact.divides_by_zero(form.expression) for form in reading.forms if isinstance(form, Value)):
        return "undefined"
    return None


def _flattened(text: str) -> str:
    """Groups inside groups emptied, so that a command's arguments can be seen by a pattern without nesting."""
    depth, kept = 0, []
    for char in text:
        depth -= char == "}"
        if depth < 1 or (depth == 1 and char not in "{}"):
            kept.append(char)
        depth += char == "{"
    return "".join(kept)
