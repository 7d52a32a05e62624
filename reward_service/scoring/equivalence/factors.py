"""Whole numbers as products of primes, as far as trial division goes."""

from __future__ import annotations

import math
from collections.abc import Mapping

from reward_service.scoring.equivalence.limits import MAX_FACTORED_BITS, check_count

_TRIAL_LIMIT = 1_000


def prime_factors(number: int) -> Mapping[int, int]:
    """Prime factors by trial division; what is left beyond the limit stays whole, unless it is a square.

    Raises:
        LimitExceeded: too big for it.
    """
    check_count(number.bit_length(), MAX_FACTORED_BITS, "max_factored_bits")
    factors: dict[int, int] = {}
    for divisor in range(2, _TRIAL_LIMIT):
        if divisor * divisor > number:
            break
        while number % divisor == 0:
            number //= divisor
            factors[divisor] = factors.get(divisor, 0) + 1
    if number > 1:
        half = math.isqrt(number)
        square = half * half == number
        factors[half if square else number] = factors.get(half if square else number, 0) + (2 if square else 1)
    return factors
