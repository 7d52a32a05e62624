"""One training step through HTTP: 1,024 math rollouts of 64 kB in groups of 16 (66 MB), and one of which half is code with 20 tests each.

    python bench/step.py [--groups 64] [--size 64000] [--code-groups 8]

Each step is sent whole, as a trainer would, to a service in a process of its own. Printed are MB/s per core under `magistral` and
`correctness-only`, the share of each stage, the batch's tail, and the memory of all the service's processes together (PSS) at its highest.
"""

from __future__ import annotations

import sys

ROOT = __file__.rpartition("/bench/")[0]
sys.path[0] = ROOT  # this folder would hide `math`, `http` and `sandbox` behind its files

import argparse  # noqa: E402
import asyncio  # noqa: E402
import contextlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import random  # noqa: E402
import time  # noqa: E402
import urllib.request  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from bench.http import SERVE, connect, post, started  # noqa: E402

CASES = Path(ROOT) / "tests" / "cases" / "language_refined.jsonl"
PER_GROUP = 16
STAGES = ("receive", "read", "grade", "answer")
FORMULA = " $x_{n+1} = \\frac{a_n}{2} + b$. "
PROGRAM = "numbers = list(map(int, input().split()))\nprint(sum(numbers){})"


@dataclass
class Step:
    """One step's body, and what it took."""

    name: str
    body: bytes
    seconds: float = 0.0
    memory_bytes: int = 0


def thoughts(draw: random.Random, size: int) -> tuple[str, str]:
    """A prompt and thinking of that many characters, in one language."""
    rows = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]
    row = draw.choice([row for row in rows if row["id"] in ("same-en", "same-fr", "same-de")])
    sentences = [sentence for sentence in row["thinking"].replace(". ", ". |").split("|") if sentence]
    text = ""
    while len(text) < size:
        text += draw.choice(sentences) + (FORMULA if draw.random() < 0.2 else " ")
    return row["prompt"], text[:size]


def math_group(draw: random.Random, group_id: str, size: int) -> dict[str, Any]:
    prompt, _ = thoughts(draw, 10)
    rollouts = []
    answer = draw.randrange(10**6)
    for k in range(PER_GROUP):
        said = answer if draw.random() < 0.5 else draw.randrange(10**6)
        completion = f"<think>\n{thoughts(draw, size)[1]}\n</think>\nThe answer is $\\boxed{{{said}}}$."
        rollouts.append({"rollout_id": str(k), "completion": completion, "completion_tokens": size // 4})
    return {"group_id": group_id, "prompt": prompt, "task": "math", "reference": {"answer": str(answer)}, "rollouts": rollouts}


def code_group(draw: random.Random, group_id: str, size: int) -> dict[str, Any]:
    tests = []
    for _ in range(20):
        numbers = [draw.randrange(1000) for _ in range(50)]
        tests.append({"stdin": " ".join(map(str, numbers)) + "\n", "stdout": f"{sum(numbers)}\n"})
    rollouts = []
    for k in range(PER_GROUP):
        program = f"# {group_id} {k}\n" + PROGRAM.format("" if draw.random() < 0.5 else " + 1")
        completion = f"<think>\n{thoughts(draw, size)[1]}\n</think>\nThis reads the numbers.\n```python\n{program}\n```"
        rollouts.append({"rollout_id": str(k), "completion": completion, "completion_tokens": size // 4})
    prompt, _ = thoughts(draw, 10)
    return {"group_id": group_id, "prompt": prompt, "task": "code", "reference": {"tests": tests}, "rollouts": rollouts}


def steps(options: Any) -> list[Step]:
    found = []
    for scheme in ("magistral", "correctness-only"):
        draw = random.Random(scheme)
        groups = [math_group(draw, f"{scheme}/{number}", options.size) for number in range(options.groups)]
        found.append(Step(f"math, {scheme}", json.dumps({"scheme": scheme, "groups": groups}).encode()))
    draw = random.Random("mixed")
    mixed = [math_group(draw, f"m/{number}", options.size) for number in range(options.code_groups)]
    mixed += [code_group(draw, f"c/{number}", options.size) for number in range(options.code_groups)]
    return [*found, Step("half of it code, magistral", json.dumps({"scheme": "magistral", "groups": mixed}).encode())]


def family(pid: int) -> list[int]:
    found = [pid]
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                found += family(int(child))
    return found


def memory_bytes(pid: int) -> int:
    """Proportional set size of a process and all its descendants."""
    total = 0
    for one in family(pid):
        with contextlib.suppress(OSError):
            line = next(line for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines() if line.startswith("Pss:"))
            total += int(line.split()[1]) * 1024
    return total


def stage_seconds(port: int) -> dict[str, float]:
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    return {
        line.split('stage="')[1].split('"')[0]: float(line.split()[-1])
        for line in text.splitlines()
        if line.startswith("reward_stage_seconds_sum")
    }


async def take(step: Step, port: int, pid: int) -> None:
    before = await asyncio.to_thread(stage_seconds, port)
    stream = await connect(port)
    begun_s = time.perf_counter()
    work = asyncio.create_task(post(stream, step.body))
    while not work.done():
        step.memory_bytes = max(step.memory_bytes, await asyncio.to_thread(memory_bytes, pid))
        await asyncio.wait({work}, timeout=0.25)
    step.seconds = time.perf_counter() - begun_s
    grades = json.loads(work.result())["grades"]
    stream[1].close()
    after = await asyncio.to_thread(stage_seconds, port)
    spent = {stage: after.get(stage, 0.0) - before.get(stage, 0.0) for stage in STAGES}
    shares = ", ".join(f"{stage} {100 * spent[stage] / sum(spent.values()):.0f}%" for stage in STAGES)
    speed = len(step.body) / 1e6 / step.seconds
    cores = len(os.sched_getaffinity(0))
    unscored = sum(grade["outcome"] == "unscored" for grade in grades)
    print(
        f"{step.name}: {len(grades)} rollouts, {len(step.body) / 1e6:.0f} MB, {step.seconds:.1f} s, {speed:.2f} MB/s, "
        f"{speed / cores:.2f} MB/s per core; {shares}; memory {step.memory_bytes / 1e6:.0f} MB; unscored {unscored}"
    )


async def run(options: Any) -> None:
    taken = steps(options)
    with started(SERVE, REWARD_PORT="0") as (port, pid):
        for step in taken:
            await take(step, port, pid)
    magistral, bare, _ = taken
    peak = max(step.memory_bytes for step in taken)
    cores = len(os.sched_getaffinity(0))
    print(f"wanted: magistral 1.5 MB/s per core, correctness-only 30 MB/s, memory under 1,000 MB; highest {peak / 1e6:.0f} MB")
    print(f"ratio: step-correctness-only {len(bare.body) / 1e6 / bare.seconds / 30:.2f} (1.0 = 30 MB/s)")
    print(f"ratio: step-magistral {len(magistral.body) / 1e6 / magistral.seconds / cores / 1.5:.2f} (1.0 = 1.5 MB/s per core)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=64)
    parser.add_argument("--size", type=int, default=64_000)
    parser.add_argument("--code-groups", type=int, default=8, help="of each kind, in the mixed step")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
