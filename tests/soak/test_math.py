"""Ten minutes of random LaTeX through the fast stages: no exception, no slow text, no growth. What it finds becomes a row."""

from __future__ import annotations

import faulthandler
import random
import re
import resource
import time
from pathlib import Path
from unittest import mock

import pytest

from reward_service.scoring.equivalence import second_opinion
from reward_service.scoring.equivalence.compare import compare_answers, prepare_gold
from tests.soak.math_texts import answer, mutated, text

DURATION_S = 600.0
SLOW_S = 0.05  # CPU, of one comparison without SymPy
GROWTH_BYTES = 64 << 20
GOLDS = ("5", r"\frac{1}{2}", r"x + \sqrt{2}", "(1, 2)", r"(-\infty, 3) \cup (5, \infty)", "y = 2x", r"\text{even}", r"\{1, 2, 3\}")


def fuzz(duration_s: float, seed: int) -> list[tuple[str, str, str]]:
    """What was found wrong: the reference, the answer, and what happened."""
    draw = random.Random(seed)
    found: list[tuple[str, str, str]] = []
    with (
        # Plain functions: a mock would remember every call, which looks like a leak.
        mock.patch.object(second_opinion, "simplifies_to_zero", _knows_nothing),
        mock.patch.object(second_opinion, "math_verify_agrees", _disagrees),
    ):
        started, held, count = time.monotonic(), 0, 0
        while time.monotonic() - started < duration_s and len(found) < 20:
            one = answer(draw) if draw.random() < 0.5 else draw.choice(GOLDS)
            other = text(draw) if draw.random() < 0.8 else mutated(draw, one)
            found += [(one, other, fault) for fault in faults(one, other)]
            count += 1
            if count == 2_000:
                held = resident()
        if held and resident() - held > GROWTH_BYTES:
            found.append(("", "", f"memory grew by {resident() - held:,} bytes"))
    return found


def _knows_nothing(*_: object) -> None:
    return None


def _disagrees(*_: object) -> bool:
    return False


def faults(one: str, other: str) -> list[str]:
    """What is wrong with the comparison of these two texts."""
    try:
        forward = compare_answers([one], other).equal
        backward = compare_answers([other], one).equal
        usable = prepare_gold(other).cause is None
        itself = compare_answers([other], other).equal
    except Exception as error:  # noqa: BLE001  any at all is a finding
        return [f"{type(error).__name__}: {error}"]
    wrong = []
    if usable and not itself and "box" not in other:  # of a reference only what is in its box is read
        wrong.append("not equal to itself")
    if forward != backward and usable and prepare_gold(one).cause is None and _symmetric(one, other):
        wrong.append("not symmetric")
    if min(timed(one, other) for _ in range(1)) > SLOW_S and min(timed(one, other) for _ in range(4)) > SLOW_S:
        wrong.append("slow")
    return wrong


def _symmetric(one: str, other: str) -> bool:
    """Whether neither side is of a kind of which the reference may say less than the answer: names, lists in brackets, chains, bases."""
    both = one + other
    if re.fullmatch("[A-J]", one) or re.fullmatch("[A-J]", other) or ("^" in both and re.search(r"[<>≤≥]|\\[lg]e", both)):
        return False  # a letter with its text behind it; a quadratic inequality
    return not any(sign in both for sign in (*"=[:_\u2248\u2208,;", r"\approx", "box"))


def timed(one: str, other: str) -> float:
    """CPU seconds of one comparison with nothing remembered."""
    from reward_service.scoring.equivalence import compare, exact, parse

    parse.read_answer.cache_clear()
    compare._read_gold.cache_clear()
    compare._plain_gold.cache_clear()
    exact._outcome.cache_clear()
    started = time.process_time()
    compare_answers([one], other)
    return time.process_time() - started


def resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


@pytest.mark.soak
def test_ten_minutes_of_random_texts_find_nothing() -> None:
    faulthandler.cancel_dump_traceback_later()  # pytest's clock for hanging tests: a dump of a thread that runs may end the process
    assert fuzz(DURATION_S, seed=random.SystemRandom().randrange(1 << 30)) == []
