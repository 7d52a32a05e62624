"""What an answer may be before anything is built from it: a table of bounds, so that a bomb ends in microseconds.

The texts come from an optimiser. Whatever these bounds let through must be cheap in every stage that has no deadline of its own.
"""

from __future__ import annotations

import re

MAX_CHARS = 4_000  # of one answer or reference
MAX_NESTING = 40  # of brackets of all kinds; also bounds the parser's recursion
MAX_DEPTH = 60  # of what the parser reads inside one another, brackets or not: `\sqrt\sqrt\sqrt 2`
MAX_DIGITS = 300  # of one number as written
MAX_NUMERAL_CHARS = 2 * MAX_DIGITS + 2  # digits before and behind the point; superscripts are digits only once they are normalised
MAX_TOKENS = 1_500
MAX_ITEMS = 200  # of one tuple, list, set or matrix
MAX_POWER_SIGNS = 80
MAX_POSTFIX_RUN = 3  # `x!!!!` and deeper towers of factorials say nothing that an answer needs

MAX_SIGNS_BEYOND = 3  # integrals, sums and limits in one answer: the reader for them takes seconds over more
MAX_CHARS_BEYOND = 500

MAX_POWER_BITS = 40_000  # size of an exact integer power's result
MAX_FACTORED_BITS = 5_000  # of a number that is taken apart into primes, under a root or in a logarithm
MAX_TOWER = 3  # powers in exponents of one another, of what SymPy is asked about
MAX_FACTORIAL = 300  # factorials and binomials in the numeric stage
MAX_WHOLE_FACTORIAL = 3_000  # exact factorials and binomials of whole numbers
WORK_PER_PRODUCT = 25  # by how much a factorial's argument counts as one multiplication of terms
MAX_EXPONENT = 64  # of a sum with several terms, when it is multiplied out
MAX_PRODUCTS = 1_200  # of terms with terms, in one comparison
MAX_FACTORS = 300  # of one product, when it is multiplied out
MAX_KEY_CHARS = 2_000  # of the name of a generator
MAX_KRONECKER_BITS = 100_000  # of the value of a polynomial in which its coefficients stand side by side
MAX_GENERATORS = 8  # variables and functions of them in two equations that are brought to lowest terms
MAX_REDUCED_TERMS = 120  # of their numerators and denominators
MAX_REDUCED_DEGREE = 40
MAX_MULTIPLE_PARTS = 120  # of each of two equations that numbers are asked whether one is a multiple of the other
MAX_SEPARATION_DIGITS = 3_000  # at which two algebraic numbers are compared for a proof
MAX_FLOAT_DIGITS = 5_000  # before the point, of a constant that is compared to its last place
MAX_DEEP_DIGITS = 20_000  # to which expressions are compared in which small differences may hide, as `1 - e^{-10000}`
MAX_DEEP_WORK = 10  # functions that are worked out to a thousand digits in such a comparison
MAX_GAMMA_DIGITS = 300  # of factorials between whole numbers: at a thousand their first value takes seconds
MAX_SYMPY_EXPONENT = 2_000  # numbers in exponents that SymPy is shown: it works powers out
MAX_SYMPY_FACTORIAL = 30  # numbers in arguments of factorials and binomials that SymPy is shown: it multiplies them out
MAX_FLOAT_EXPONENT = 100_000  # decimal exponent of a number in the numeric stage

_OPENING, _CLOSING = "([{", ")]}"
_DIGITS = re.compile(rf"\d{{{MAX_DIGITS + 1}}}")
_POSTFIX = re.compile(rf"[!'](?:\s*[!']){{{MAX_POSTFIX_RUN}}}")


class LimitExceeded(Exception):
    """A bound of this table was met; `limit` is its name in lower case."""

    def __init__(self, limit: str) -> None:
        super().__init__(limit)
        self.limit = limit


def check_text(text: str) -> None:
    """Refuse a text that is too long, too deep or holds a number too long to read. Linear in its length.

    Raises:
        LimitExceeded: the text's author's fault.
    """
    if len(text) > MAX_CHARS:
        raise LimitExceeded("max_chars")
    if text.count("^") + text.count("**") > MAX_POWER_SIGNS:
        raise LimitExceeded("max_power_signs")
    if len(text) > MAX_DIGITS and _DIGITS.search(text):
        raise LimitExceeded("max_digits")
    if ("!" in text or "'" in text) and _POSTFIX.search(text):
        raise LimitExceeded("max_postfix_run")
    if sum(map(text.count, _OPENING)) <= MAX_NESTING:
        return
    depth = deepest = 0
    for char in text:
        if char in _OPENING:
            depth += 1
            deepest = max(deepest, depth)
        elif char in _CLOSING:
            depth -= 1
    if deepest > MAX_NESTING:
        raise LimitExceeded("max_nesting")


def check_count(number: int, limit: int, name: str) -> None:
    """Refuse more than `limit`.

    Raises:
        LimitExceeded: the text's author's fault.
    """
    if number > limit:
        raise LimitExceeded(name)
