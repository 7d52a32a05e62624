"""Characters per second of the two language rules beside raw fastText on the same texts, interleaved in one run.

    python bench/language.py [--rounds 7]

The texts are put together from sentences of tests/cases/language_refined.jsonl, with formulas and code between them: thinking of 64 kB
in each language, and conversations of about 1,500 characters. Raw fastText classifies each part as a whole, as the published rule
does after its stripping. One process, one core. Also printed: the slowest of a list of hostile inputs of 100,000 characters, and what
loading costs.
"""

from __future__ import annotations

import os
import sys

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # this file's folder would hide what math.py and others name

import argparse  # noqa: E402
import json  # noqa: E402
import random  # noqa: E402
import resource  # noqa: E402
import statistics  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402

from reward_service.langid import LanguageModel, judge_language, load_model  # noqa: E402

CASES = Path(__file__).parents[1] / "tests" / "cases" / "language_refined.jsonl"
BETWEEN = (
    " $x_{n+1} = \\frac{a_n}{2} + b$. ",
    "\n\\begin{gather}\n  y = 3 \\cdot 80, \\\\\n  y > 200.\n\\end{gather}\n",
    "\n```python\ndef total(values):\n    # the sum of what is even\n    return sum(v for v in values if v % 2 == 0)\n```\n",
    " `values[i] += 1` ",
    "\n\n",
)
LONG, SHORT, HOSTILE = 64_000, 1_300, 100_000
HOSTILE_PIECES = (
    "\\begin{align}",
    "$a ",
    "a$",
    "\\a{",
    "`",
    "```\n",
    "~~~a\n",
    "\n",
    "a ",
    "the le ",
    "слово ",
    "漢 a ",
    "漢かな",
    "α ",
    "\u200b",
    "가나 ",
    "漢字漢字漢字漢字。",
    "`漢`",
    "$the$ ",
    '"the le" ',
    "a\u0301",
    "\u0301\u0323",
    "le the and la de of. ",
    "的 the of 一 ",
    "The Of It ",
    "水 (a) ",
    "```\nthe train is\n```\n",
    "x = 1 # le the of\n",
    "https://a ",
    "[{(",
)


@dataclass(frozen=True)
class Conversation:
    prompt: str
    thinking: str
    answer: str


@dataclass(frozen=True)
class Workload:
    name: str
    conversations: tuple[Conversation, ...]

    @property
    def characters(self) -> int:
        return sum(len(each.prompt) + len(each.thinking) + len(each.answer) for each in self.conversations)


def workloads(draw: random.Random) -> list[Workload]:
    rows = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]
    texts = {row["id"].removeprefix("same-"): row for row in rows if row["id"].startswith("same-")}

    def conversation(language: str, length: int) -> Conversation:
        row = texts[language]
        sentences = [sentence for sentence in row["thinking"].replace("。", "。|").replace(". ", ". |").split("|") if sentence]
        thinking = ""
        while len(thinking) < length:
            thinking += draw.choice(sentences) + (draw.choice(BETWEEN) if draw.random() < 0.3 else " ")
        return Conversation(row["prompt"], thinking, row["answer"])

    long = [Workload(f"64 kB {language}", (conversation(language, LONG),)) for language in ("en", "fr", "de", "ru", "ar", "zh", "ja", "hi")]
    return [*long, Workload("1.5 kB, 13 languages", tuple(conversation(language, SHORT) for language in texts for _ in range(8)))]


def raw(conversation: Conversation) -> None:
    detect = load_model().detect
    for text in (conversation.prompt, conversation.thinking, conversation.answer):
        detect(text)


def by_rule(rule: str) -> Callable[[Conversation], None]:
    return lambda each: void(judge_language(rule, each.prompt, each.thinking, each.answer, None))


def void(_: object) -> None:
    return None


SIDES: dict[str, Callable[[Conversation], None]] = {"fastText": raw, "literal": by_rule("literal"), "refined": by_rule("refined")}


def measure(workload: Workload, rounds: int) -> dict[str, float]:
    """Median CPU seconds of each side, the sides taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in SIDES}
    for _ in range(rounds + 1):
        for name, side in SIDES.items():
            started = time.process_time()
            for conversation in workload.conversations:
                side(conversation)
            seconds[name].append(time.process_time() - started)
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def slowest() -> tuple[float, str]:
    found = []
    draw = random.Random(0)
    mixtures = ["".join(draw.choices(HOSTILE_PIECES, k=HOSTILE // 12)) for _ in range(3)]
    for piece in (*HOSTILE_PIECES, *mixtures):
        text = (piece * (HOSTILE // len(piece) + 1))[:HOSTILE]
        for prompt in (
            "How many hours does the train need for the whole way to the coast?",
            "一列火车早上八点从城里出发，三个小时以后到达海边。",
            "列車は朝の八時に町を出て、三時間後に海岸に着きます。",
            "Un train quitte la ville à huit heures et arrive sur la côte après trois heures.",
        ):
            judge_language("refined", prompt, text[:1000], "240", None)  # which compiles what this prompt's language needs
            started = time.process_time()
            judge_language("refined", prompt, text, "240", None)
            found.append((time.process_time() - started, piece))
    return max(found)


def loading() -> tuple[float, int]:
    """Seconds and bytes of memory that another model costs."""
    before, started = resident(), time.perf_counter()
    model = LanguageModel()
    took = time.perf_counter() - started
    model.detect("warm")
    return took, resident() - before


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    took, memory = loading()
    print(f"loading the model: {took * 1e3:.0f} ms, {memory / 1e6:.1f} MB")
    print(f"million characters per CPU second, medians of {rounds} rounds")
    print(f"{'':22} {'fastText':>9} {'literal':>9} {'refined':>9}   refined / fastText")
    ratios = []
    for workload in workloads(random.Random(0)):
        seconds = measure(workload, rounds)
        speeds = {name: workload.characters / each / 1e6 for name, each in seconds.items()}
        ratios.append(speeds["refined"] / speeds["fastText"])
        row = " ".join(f"{speeds[name]:9.2f}" for name in SIDES)
        per_second = f"   {len(workload.conversations) / seconds['refined']:.0f} conversations/s" if len(workload.conversations) > 1 else ""
        print(f"{workload.name:22} {row}   {ratios[-1]:.2f}{per_second}")
    worst, piece = slowest()
    print(f"slowest hostile input of {HOSTILE:,} characters: {worst * 1e3:.0f} ms ({piece[:40]!r} again and again)")
    print(f"ratio: language {statistics.median(ratios):.2f} (1.0 = raw fastText on the same texts)")


if __name__ == "__main__":
    main()
