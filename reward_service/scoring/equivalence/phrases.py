"""Answers that are always said in the same words: `twenty-one`, `all real numbers`, `no solution`, `18 dollars, 90 cents`."""

from __future__ import annotations

import re

_ONES = (
    *"zero one two three four five six seven eight nine ten eleven twelve".split(),
    *"thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split(),
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_LARGE = {"hundred": 100, "thousand": 1_000, "million": 10**6, "billion": 10**9, "dozen": 12}
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "eighth": 8, "tenth": 10}
_NUMBERS = {
    **{word: number for number, word in enumerate(_ONES)},
    **{word: 20 + 10 * index for index, word in enumerate(_TENS)},
    **{f"{tens}{joint}{_ONES[one]}": 20 + 10 * index + one for index, tens in enumerate(_TENS) for one in range(1, 10) for joint in "- "},
}
_NOT_THERE = r"\text{does not exist}"
_PHRASES = {
    **{word: str(number) for word, number in _NUMBERS.items()},
    **{word: str(factor) for word, factor in _LARGE.items()},
    **{f"{_ONES[count]} {word}": str(factor * count) for word, factor in _LARGE.items() for count in range(1, 13)},
    **{f"{_ONES[top]}{joint}{part}{'s' if top > 1 else ''}": rf"\frac{{{top}}}{{{bottom}}}"
       for part, bottom in _PARTS.items() for top in range(1, bottom) for joint in " -"},
    "half": r"\frac{1}{2}",
    "infinity": r"\infty",
    **dict.fromkeys(("all real numbers", "all reals", "all real x", "real numbers", "set of all real numbers"), r"\mathbb{R}"),
    **dict.fromkeys(
        (
            "empty set", "no solution", "no solutions", "there is no solution", "there are no solutions", "no solution exists",
            "no solutions exist",
            "no real solution", "no real solutions", "there is no real solution", "there are no real solutions", "has no solution",
            "has no solutions", "has no real solutions",
        ),
        r"\emptyset",
    ),
    **dict.fromkeys(("dne", "does not exist", "limit does not exist", "it does not exist", "doesn't exist"), _NOT_THERE),
}  # fmt: skip
_CENTS = re.compile(r"(\d+) dollars?, (\d{1,2}) cents?")


def phrase(words: str) -> str | None:
    """The notation of what is always said in the same words."""
    found = _PHRASES.get(words)
    if found is None and words.endswith(("cent", "cents")) and (money := _CENTS.fullmatch(words)):
        return rf"\dollar {money[1]}.{int(money[2]):02}"
    return found
