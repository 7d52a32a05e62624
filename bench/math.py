"""Pairs per CPU second of the math comparison beside math-verify on the same pairs, interleaved in one run on one core.

    python bench/math.py [--rounds 3] [--pairs 300] [--groups 40]

Four workloads. Short answers (a reference and one answer of the mix below), hard notations (rows of tests/cases/math*.jsonl) and long
answers (polynomials of up to 40 terms, lists of 30 numbers): one comparison each with nothing remembered. And groups of 16 rollouts as
a trainer sends them, most of them whole numbers and fractions, the right answer in a few notations beside a few wrong ones. In groups
we read the reference once and judge equal answers once, as the service does; math-verify is called as trainers call it,
`verify(parse(gold), parse(answer))` for each rollout, and a second time with the same sharing. Also printed: p50, p99 and the slowest
pair, what importing the fast stages costs, and whether SymPy was loaded for them.
"""

from __future__ import annotations

import os
import sys

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # or this file would stand for the module `math`

import argparse  # noqa: E402
import contextlib  # noqa: E402
import json  # noqa: E402
import random  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402

from reward_service.scoring.equivalence import exact  # noqa: E402
from reward_service.scoring.equivalence.compare import _plain_gold, _read_gold, compare_answers  # noqa: E402
from reward_service.scoring.equivalence.parse import read_answer  # noqa: E402

CASES = Path(__file__).parents[1] / "tests" / "cases"
TABLES = ("math.jsonl", "math_notations.jsonl", "math_adversarial.jsonl")
SHORT, ROLLOUTS = 30, 16
# What answers of a mixed set of problems are: the share of whole numbers among published references is about two thirds.
KINDS = (
    ("whole",) * 62 + ("fraction",) * 14 + ("root",) * 6 + ("pi",) * 3 + ("pair",) * 5 + ("polynomial",) * 6 + ("interval",) * 3 + ("text",)
)

Judge = Callable[[str, str], bool]


@dataclass(frozen=True)
class Group:
    """A reference and what 16 rollouts answered."""

    gold: str
    answers: tuple[str, ...]


def rows() -> list[tuple[str, str]]:
    """Pairs of the tables, without those that SymPy is for."""
    found = [json.loads(line) for name in TABLES for line in (CASES / name).read_text(encoding="utf-8").splitlines()]
    texts = [(row["gold"], row["answer"]) for row in found]
    return [pair for pair in texts if not any(sign in text for text in pair for sign in ("\\int", "\\sum", "\\lim"))]


def long_pairs(draw: random.Random, count: int) -> list[tuple[str, str]]:
    """Polynomials with their terms in another order, products against their expansion, long lists."""
    pairs = []
    for number in range(count):
        terms = [f"{draw.randint(2, 99)}x^{{{power}}}" for power in range(draw.randint(12, 40))]
        other = list(terms)
        draw.shuffle(other)
        if number % 3 == 1:
            other[0] = f"{draw.randint(100, 200)}x^{{77}}"
        if number % 3 == 2:
            values = [str(draw.randint(-999, 999)) for _ in range(30)]
            terms, other = values, draw.sample(values, len(values))
        sign = ", " if number % 3 == 2 else " + "
        pairs.append((sign.join(terms), sign.join(other)))
    return pairs


def groups(draw: random.Random, count: int) -> list[Group]:
    """Groups as a trainer sends them."""
    return [_group(draw, draw.choice(KINDS)) for _ in range(count)]


def _group(draw: random.Random, kind: str) -> Group:
    def value(n: int) -> list[str]:
        k, m = draw.randint(2, 60), draw.randint(2, 9) + n
        forms = {
            "whole": [str(k * m), f"{k * m}.", f"x = {k * m}", rf"{k * m}\text{{ units}}"],
            "fraction": [rf"\frac{{{k}}}{{{m}}}", f"{k}/{m}", rf"\dfrac{{{k}}}{{{m}}}", rf"\frac{{{2 * k}}}{{{2 * m}}}"],
            "root": [rf"{k}\sqrt{{{m}}}", rf"\sqrt{{{k * k * m}}}", rf"{k} \sqrt {{{m}}}"],
            "pi": [rf"{k}\pi", rf"{k} \pi", rf"\frac{{{k * m}\pi}}{{{m}}}"],
            "pair": [f"({k}, {m})", rf"\left({k}, {m}\right)", f"x={k}, y={m}"],
            "polynomial": [f"x^2+{k + m}x+{k * m}", f"(x+{k})(x+{m})", f"x^{{2}} + {k + m}x + {k * m}"],
            "interval": [f"[{k}, {k + m})", rf"{k} \le x < {k + m}", rf"\left[{k}, {k + m}\right)"],
            "text": [rf"\text{{{'even' if k % 2 else 'odd'}}}", "even" if k % 2 else "odd"],
        }
        return forms[kind]

    right = value(0)
    wrong = [value(n)[0] for n in range(1, draw.randint(2, 6))]
    rate = draw.random()
    answers = [draw.choice(right) if draw.random() < rate else draw.choice(wrong) for _ in range(ROLLOUTS)]
    return Group(right[0], tuple(answers))


# ---- the sides -------------------------------------------------------------------------------------------------------


def ours(gold: str, answer: str) -> bool:
    return compare_answers([gold], answer).equal


def forget() -> None:
    """Nothing of a pair helps the next."""
    read_answer.cache_clear()
    _read_gold.cache_clear()
    _plain_gold.cache_clear()
    exact._outcome.cache_clear()


def peer() -> Judge | None:
    """math-verify, or None where it is not installed."""
    try:
        from math_verify import parse, verify
    except ImportError:
        return None

    def judge(gold: str, answer: str) -> bool:
        trees = [parse(f"${text}$", parsing_timeout=None, raise_on_error=False) for text in (gold, answer)]
        return bool(verify(*trees, timeout_seconds=None, raise_on_error=False))

    return judge


def peer_sharing(group: Group) -> None:
    """math-verify with the reference parsed once and equal answers judged once."""
    from math_verify import parse, verify

    gold = parse(f"${group.gold}$", parsing_timeout=None, raise_on_error=False)
    for answer in dict.fromkeys(group.answers):
        verify(gold, parse(f"${answer}$", parsing_timeout=None, raise_on_error=False), timeout_seconds=None, raise_on_error=False)


def ours_sharing(group: Group) -> None:
    forget()
    for answer in dict.fromkeys(group.answers):
        ours(group.gold, answer)


def each(judge: Judge) -> Callable[[Group], None]:
    def run(group: Group) -> None:
        for answer in group.answers:
            judge(group.gold, answer)

    return run


# ---- measuring -------------------------------------------------------------------------------------------------------


def pair_times(pairs: Sequence[tuple[str, str]], judge: Judge, before: Callable[[], None]) -> list[float]:
    """CPU seconds of each pair."""
    times = []
    for gold, answer in pairs:
        before()
        started = time.process_time_ns()
        judge(gold, answer)
        times.append((time.process_time_ns() - started) / 1e9)
    return times


def nothing() -> None:
    return None


def compare_pairs(name: str, pairs: Sequence[tuple[str, str]], judge: Judge | None, rounds: int) -> None:
    sides = {"ours": (ours, forget), **({"math-verify": (judge, nothing)} if judge else {})}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    times: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds + 1):
        for side, (call, before) in sides.items():
            found = pair_times(pairs, call, before)
            if number:
                seconds[side].append(sum(found))
                times[side] += found
    for side in sides:
        ordered = sorted(times[side])
        speed = len(pairs) / statistics.median(seconds[side])
        p50, p99 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
        spread = f"p50 {p50 * 1e3:8.3f} ms   p99 {p99 * 1e3:8.3f} ms   worst {ordered[-1] * 1e3:8.1f} ms"
        print(f"{name:10} {side:12} {speed:10,.0f} pairs/s   {spread}")


def compare_groups(mix: Sequence[Group], judge: Judge | None, rounds: int) -> float | None:
    sides: dict[str, Callable[[Group], None]] = {"ours": ours_sharing}
    if judge:
        sides |= {"math-verify": each(judge), "math-verify, sharing": peer_sharing}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds + 1):
        for side, run in sides.items():
            started = time.process_time()
            for group in mix:
                run(group)
            if number:
                seconds[side].append(time.process_time() - started)
    speeds = {side: len(mix) * ROLLOUTS / statistics.median(found) for side, found in seconds.items()}
    for side, speed in speeds.items():
        print(f"groups   {side:21} {speed:10,.0f} rollouts/s")
    if not judge:
        return None
    print(f"with the same sharing on both sides: {speeds['ours'] / speeds['math-verify, sharing']:.0f}")
    return speeds["ours"] / speeds["math-verify"]


_IMPORT = """
import time, sys
started = time.perf_counter()
from reward_service.scoring.equivalence.compare import compare_answers
compare_answers([r"\\frac{1}{2}"], "0.5"), compare_answers(["x^2"], "x*x"), compare_answers([r"\\sqrt{2}"], "1.4142")
took = time.perf_counter() - started
resident = int(open("/proc/self/statm").read().split()[1]) * 4096
print(f"importing the fast stages and three pairs: {took:.3f} s, {resident / 1e6:.0f} MB; SymPy loaded: {'sympy' in sys.modules}")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--groups", type=int, default=40)
    options = parser.parse_args()
    subprocess.run([sys.executable, "-c", _IMPORT], check=True, cwd=Path(__file__).parents[1])
    draw = random.Random(0)
    judge = peer()
    if judge is None:
        print("math-verify is not installed: pip install math-verify")
    short = [(group.gold, group.answers[0]) for group in groups(draw, options.pairs)]
    hard = draw.sample([pair for pair in rows() if max(map(len, pair)) <= SHORT], options.pairs)
    with contextlib.redirect_stderr(None):
        compare_pairs("short", short, judge, options.rounds)
        compare_pairs("notations", hard, judge, options.rounds)
        compare_pairs("long", long_pairs(draw, max(1, options.pairs // 20)), judge, options.rounds)
        ratio = compare_groups(groups(draw, options.groups), judge, options.rounds)
    if ratio is not None:
        print(f"ratio: math {ratio:.0f} (1.0 = math-verify on the same rollouts)")


if __name__ == "__main__":
    main()
