r"""What is written behind an answer to say where it holds: `k \in \mathbb{Z}`, `\text{ for all } x`, `\text{ for some constant } c`.

What says nothing that the question does not is taken away (`without_qualifier`). What may tell two answers apart is told beside the
formula: which integers a parameter runs through (`numbers_of_parameter`), and a condition (`condition_of`). All patterns are linear.
"""

from __future__ import annotations

import re

_INTEGER_PARAMETER = re.compile(
    r"(?<=\S)\s*(?:[,(;|]\s*(?:\\text\s*\{\s*(?:where|for|with|for all|for any)\s*\}\s*)?"
    r"|\\text\s*\{,?\s*(?:where|for|with|for all|for any)\s*\}\s*)"
    r"[kmn]\s*(?:\\in\s*(?:\\mathbb\s*)?\{?\s*[ZN]\s*\}?(?:\s*[\^_]\s*\{?\s*(?:\+|\\cdot|\*)\s*\}?)?"
    r"|\\text\s*\{\s*is an(?:y)? integer\s*\})\s*\)?$"
)
_FOR_ALL = re.compile(r"(?<=\S)\s*,?\s*\\text\s*\{,?\s*for (?:all|every|any)(?: real)?(?: numbers?)?\s*(?:x\s*)?\}\s*x?$")
_FOR_EVERY = re.compile(r"(?<=\S)\s*,?\s*\\forall\s*[a-z](?:\s*,\s*[a-z])*\s*(?:\\in\s*\\mathbb\s*\{?\s*[RZNQC]\s*\}?)?\s*$")
_WORDS = "where for with all any every some each and real arbitrary positive natural nonzero constants? numbers? integers? a the is are"
_WORD = "(?:" + _WORDS.replace(" ", "|") + ")"
_QUALIFYING_TEXT = re.compile(r"\\text ?\{[ ,]*(?:where|for|with)(?: " + _WORD + r"){0,5} ?\}")
_NAMES = re.compile(
    r" ?[A-Za-z](?:_\{?\w\}?)?(?: ?,? ?[A-Za-z](?:_\{?\w\}?)?)* ?"
    r"(?:\\in ?\\mathbb ?\{? ?[RQC] ?\}?(?:\^?[+_*]*)?|\\text ?\{ ?(?:is|are)(?: " + _WORD + r"){0,4} ?\})?"
)
_OF_A_CONSTANT = re.compile(
    r"(?<=\S) ?[,;(] ?([A-DKa-dx-z](?:_\{?\d\}?)?)(?: ?, ?[A-DKa-dx-z](?:_\{?\d\}?)?){0,3} ?\\in ?\\mathbb ?\{? ?[RC] ?\}? ?\)?$"
)
_EXCEPT_AT = re.compile(r"(?<=\S) ?[,;] ?([a-z]) ?\\neq ?[^,;=<>()]{1,40}$")
_SAYS_WHERE = re.compile(r"\\(?:neq|in|le|ge)(?![A-Za-z])|[<>,;]")
_RUNS_THROUGH = re.compile(r"[kmn]\s*\\in\s*\\math(?:bb|bf|rm)\s*\{?\s*([ZN])\s*\}?(?:\s*[\^_]\s*\{?\s*(\+|\*|>))?")
_CONDITION = re.compile(
    r"(?<=\S) ?(?:\((?P<behind>[a-z] ?(?:\\(?:ge|le|neq)(?![A-Za-z])|[<>]) ?[^()=,]{1,30})\)"
    r"|,? ?\\text ?\{[ ,]*(?:for|when|where|if|with) ?\} ?(?P<said>[a-z] ?(?:\\(?:ge|le|neq)(?![A-Za-z])|[<>]) ?[^()=,]{1,30}))$"
)


def numbers_of_parameter(text: str) -> str:
    r"""`Z` or `N`, where a text says that its parameter is one, `\mathbb{Z}^+` being `N`; "" where it does not."""
    found = _RUNS_THROUGH.search(text)
    return ("N" if found[2] else found[1]) if found else ""


def condition_of(text: str) -> tuple[str, str] | None:
    r"""A formula and the condition behind it: `y = \sqrt{x} (x \ge 0)`, `2n \text{ for } n \ge 1`; None where there is none."""
    found = _CONDITION.search(text) if text[-1:].isalnum() or text[-1:] in (")", "}") else None
    if found is None:
        return None
    formula, condition = text[: found.start()], found["behind"] or found["said"]
    if condition[0] not in formula or "\\text" in condition or _SAYS_WHERE.search(formula):
        return None
    return formula, condition


def without_qualifier(text: str) -> str:
    """The normalised text without what says for which numbers it holds."""
    if "\\in" in text or "integer" in text:
        text = _INTEGER_PARAMETER.sub("", text)
        constant = _OF_A_CONSTANT.search(text) if "=" in text else None
        text = text[: constant.start()] if constant and constant[1] in text[: constant.start()] else text
    excluded = _EXCEPT_AT.search(text) if "\\neq" in text else None
    if excluded and excluded[1] in text[: excluded.start()] and not _SAYS_WHERE.search(text[: excluded.start()]):
        text = text[: excluded.start()]  # `\frac{x-1}{x+2}, x \neq -2`: where a formula has no value it says so itself
    text = _FOR_EVERY.sub("", text) if "\\forall" in text else text
    if "\\text" not in text:
        return text
    text = _FOR_ALL.sub("", text)
    found = _QUALIFYING_TEXT.search(text)
    if found and found.start() > 0 and _NAMES.fullmatch(text[found.end() :]):
        return text[: found.start()].rstrip(" ,;")
    return text
