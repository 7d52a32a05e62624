"""Is a program's output right? `tokens`, `exact`, `lines` and `float`, in linear time, memory of a block, and steps of milliseconds.

Outputs are compared as bytes: what a program prints need not be UTF-8, and white space means the six ASCII characters of it (space,
tab, line feed, carriage return, vertical tab, form feed) and nothing else.
"""

from __future__ import annotations

import decimal
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from reward_service.records import CheckerName, FloatTolerance, OutputChecker
from reward_service.scoring.programs.testcases import encode_text

RULES_VERSION = 2  # of code verdicts, stated in `service.versions`: raise it with any change of one once released
BLOCK_BYTES = 8_192  # of each side per step; a longer token or line makes its own step longer
EXCERPT_BYTES = 120  # of each side in a Difference
FLOAT_BYTES = 40  # of a token up to which binary floating point may decide what is clear; `float` is not linear in its text
EXCERPT_LEAD_BYTES = 40  # of what is still equal, shown before the first differing byte of a long token or line

_SPACE = re.compile(rb"[ \t\n\r\v\f]")
_NEWLINE = re.compile(rb"\n")
# Possessive, since a million digits and a letter must not be tried a million times.
_NUMBER = re.compile(rb"(?P<mantissa>[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++))(?:[eE](?P<sign>[+-]?)(?=[0-9])0*+(?P<exponent>[0-9]*+))?")
# What longer exponents are cut to: inside what `decimal` can hold, and out of reach of any mantissa that fits into memory.
_LARGEST_EXPONENT = "9" * 15
# Products and differences are rounded to 100 digits: tolerances are decided exactly unless they are missed by less than one part in 1e99.
_ARITHMETIC = decimal.Context(prec=100, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN, traps=[])

Comparison = Generator[None, None, "Difference | None"]
_Equal = Callable[[bytes, bytes], bool]


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place where an output is wrong.

    `index` counts tokens or lines from 1 in the output (in the expected output where the output lacks one). `got` or `expected` is
    None where that side has nothing there. Both are excerpts of at most EXCERPT_BYTES bytes, undecodable ones written as `\\xff`.
    """

    unit: Literal["token", "line"]
    index: int
    got: str | None
    expected: str | None


def check_output(checker: OutputChecker, got: bytes, expected: str) -> Difference | None:
    """None where the output passes, else the first difference; never an exception, whatever the bytes.

    Speed on one 3 GHz core: 1 MB that differs in form but passes takes about 25 ms (tokens), 45 ms (exact), 160 ms (lines), and up to
    0.3 s (float, all tokens different); equal bytes and early differences take none. `compare_output` is the same in steps.
    Example: `tokens`, b"6 \\n", "6" -> None.
    """
    comparison = compare_output(checker, got, expected)
    while True:
        try:
            next(comparison)
        except StopIteration as done:
            difference: Difference | None = done.value
            return difference


def compare_output(checker: OutputChecker, got: bytes, expected: str) -> Comparison:
    """`check_output` as a generator that pauses after each block of input, so that an event loop may breathe between blocks.

    An empty expected output passes only an output without tokens, under every checker.
    """
    wanted = encode_text(expected)
    if got == wanted:
        return None
    if isinstance(checker, FloatTolerance):
        return (yield from _in_order("token", got, wanted, _tolerant(checker)))
    if checker is CheckerName.LINES:
        return (yield from _any_order(got, wanted))
    return (yield from _in_order("line" if checker is CheckerName.EXACT else "token", got, wanted, bytes.__eq__))


def _blocks(data: bytes, boundary: re.Pattern[bytes]) -> Iterator[bytes]:
    """Pieces of about BLOCK_BYTES that end before a boundary character, which begins the next piece."""
    start = 0
    while start < len(data):
        match = boundary.search(data, start + BLOCK_BYTES)
        end = match.start() if match else len(data)
        yield data[start:end]
        start = end


def _token_lists(data: bytes) -> Iterator[list[bytes]]:
    for block in _blocks(data, _SPACE):
        if tokens := block.split():
            yield tokens


def _line_lists(data: bytes) -> Iterator[list[bytes]]:
    """Lines without white space at their ends; blank ones are kept, one too many at the end of a text that ends with a line feed."""
    first = True
    for block in _blocks(data, _NEWLINE):
        lines = [line.rstrip() for line in block.split(b"\n")]
        yield lines if first else lines[1:]
        first = False


def _in_order(unit: Literal["token", "line"], got: bytes, wanted: bytes, equal: _Equal) -> Comparison:
    """The first place where the two sequences differ; blank lines that only one side has at its end do not count."""
    cut = _token_lists if unit == "token" else _line_lists
    left, right = cut(got), cut(wanted)
    mine: list[bytes] = []
    theirs: list[bytes] = []
    seen = 0
    while True:
        if not mine:
            mine = next(left, [])
        if not theirs:
            theirs = next(right, [])
        if not mine or not theirs:
            break
        size = min(len(mine), len(theirs))
        place = _first_unequal(mine[:size], theirs[:size], equal)
        if place is not None:
            return _difference(unit, seen + place, mine[place], theirs[place])
        seen += size
        mine, theirs = mine[size:], theirs[size:]
        yield
    return (yield from _rest(unit, seen, mine, left, is_got=True)) or (yield from _rest(unit, seen, theirs, right, is_got=False))


def _first_unequal(mine: list[bytes], theirs: list[bytes], equal: _Equal) -> int | None:
    if mine == theirs:
        return None
    return next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=True)) if a != b and not equal(a, b)), None)


def _rest(unit: Literal["token", "line"], seen: int, part: list[bytes], parts: Iterator[list[bytes]], *, is_got: bool) -> Comparison:
    """What only one side still has: a difference, unless it is blank."""
    while part:
        for place, piece in enumerate(part):
            if piece:
                return _difference(unit, seen + place, piece if is_got else None, None if is_got else piece)
        seen += len(part)
        part = next(parts, [])
        yield
    return None


def _any_order(got: bytes, wanted: bytes) -> Comparison:
    """Lines as a multiset. Blank lines do not count: in any order, one at the end cannot be told from one in the middle."""
    missing: Counter[bytes] = Counter()
    for lines in _line_lists(wanted):
        missing.update(line for line in lines if line)
        yield
    index = 0
    for lines in _line_lists(got):
        for line in lines:
            index += 1
            if line and not missing[line]:
                return _difference("line", index - 1, line, None)
            missing[line] -= 1
        yield
    if not any(count > 0 for count in missing.values()):
        return None
    return (yield from _first_missing(wanted, missing))


def _first_missing(wanted: bytes, missing: Counter[bytes]) -> Comparison:
    """The first expected line that the output has too few of."""
    index = 0
    for lines in _line_lists(wanted):
        for line in lines:
            index += 1
            if line and missing[line] > 0:
                return _difference("line", index - 1, None, line)
        yield
    return None


def _tolerant(tolerance: FloatTolerance) -> _Equal:
    """Equality of tokens within a tolerance: |got - expected| <= abs or <= rel * |expected|, where both are decimal numbers."""
    # By way of repr, so that 1e-6 means one millionth and not the binary number next to it: 1.000001 is within 1e-6 of 1.
    absolute, relative = Decimal(repr(float(tolerance.abs))), Decimal(repr(float(tolerance.rel)))
    subtract, multiply = _ARITHMETIC.subtract, _ARITHMETIC.multiply

    def equal(got: bytes, wanted: bytes) -> bool:
        if len(got) <= FLOAT_BYTES and len(wanted) <= FLOAT_BYTES and _clearly_within(got, wanted, tolerance):
            return True
        value, expected = _decimal(got), _decimal(wanted)
        if value is None or expected is None:
            return False
        distance = subtract(value, expected).copy_abs()
        return distance <= absolute or distance <= multiply(relative, expected.copy_abs())

    return equal


def _decimal(token: bytes) -> Decimal | None:
    """The number that a token writes, exactly; None where it is no decimal number."""
    number = _NUMBER.fullmatch(token)
    if number is None:
        return None
    if len(number["exponent"] or b"") <= len(_LARGEST_EXPONENT):
        return Decimal(token.decode("ascii"))
    return Decimal(f"{number['mantissa'].decode('ascii')}e{number['sign'].decode('ascii')}{_LARGEST_EXPONENT}")


def _clearly_within(got: bytes, wanted: bytes, tolerance: FloatTolerance) -> bool:
    """Whether binary floating point shows, beyond its own rounding, two decimal numbers within the tolerance; False leaves it open."""
    if b"_" in got or b"_" in wanted:  # what `float` takes and no decimal number has; the comparison below is false for inf and nan
        return False
    try:
        value, expected = float(got), float(wanted)
    except ValueError:
        return False
    rounding = 1e-15 * (abs(value) + abs(expected))
    return abs(value - expected) + rounding < 0.999999 * max(tolerance.abs, tolerance.rel * abs(expected))


def _difference(unit: Literal["token", "line"], place: int, got: bytes | None, expected: bytes | None) -> Difference:
    start = 0
    if got is not None and expected is not None and max(len(got), len(expected)) > EXCERPT_BYTES:
        start = max(0, _common_prefix(got, expected) - EXCERPT_LEAD_BYTES)
    return Difference(unit, place + 1, _excerpt(got, start), _excerpt(expected, start))


def _common_prefix(one: bytes, other: bytes) -> int:
    """Length of the common prefix, by bisection over comparisons at memory speed."""
    equal, differs = 0, min(len(one), len(other)) + 1
    while differs - equal > 1:
        middle = (equal + differs) // 2
        if one[equal:middle] == other[equal:middle]:
            equal = middle
        else:
            differs = middle
    return equal


def _excerpt(piece: bytes | None, start: int) -> str | None:
    if piece is None:
        return None
    shown = piece[start : start + EXCERPT_BYTES].decode("utf-8", "backslashreplace")
    return ("..." if start else "") + shown + ("..." if start + EXCERPT_BYTES < len(piece) else "")
