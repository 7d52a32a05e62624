from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from reward_service.effects import Effects
from reward_service.errors import RequestError
from reward_service.offline.dumps import DumpError, open_dump
from reward_service.offline.ledger import LedgerError, Stamp, open_ledger
from reward_service.offline.run import BAD_ROW, Grading, Tally, score_dump
from reward_service.records import Grade, Group, JsonObject, MathReference, Outcome, Rollout, Terms
from reward_service.scoring.scheme import SCHEMES, Scheme

SCHEME = SCHEMES["magistral"]
STAMP = Stamp("magistral", SCHEME.digest, {})


def read_group(value: JsonObject) -> Group:
    rollouts = value["rollouts"]
    assert isinstance(rollouts, list)
    if value["task"] != "math":
        raise RequestError("/task", "must be one of math")
    made = tuple(Rollout(rollout["rollout_id"], rollout["completion"]) for rollout in rollouts)
    return Group(str(value["group_id"]), "math", MathReference(("1",)), made)


class Grader:
    """Grades by the completion's text, in an order of its own, and counts what is in flight."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.groups: list[Group] = []
        self.in_flight = self.most_in_flight = 0
        self.pause_s = pause_s

    async def __call__(self, groups: Sequence[Group], scheme: Scheme, effects: Effects) -> AsyncIterator[Grade]:
        self.groups += groups
        self.in_flight += 1
        self.most_in_flight = max(self.in_flight, self.most_in_flight)
        await asyncio.sleep(self.pause_s)
        for group in groups:
            for rollout in reversed(group.rollouts):
                yield self.grade(group, rollout)
        self.in_flight -= 1

    def grade(self, group: Group, rollout: Rollout) -> Grade:
        if rollout.completion == "ours":
            return Grade(group.group_id, rollout.rollout_id, Outcome.UNSCORED, None, None, None, {"reason": "worker_lost"})
        if rollout.completion == "bug":
            raise RuntimeError("a bug")
        right = rollout.completion == "right"
        outcome, reward = (Outcome.CORRECT, 1.0) if right else (Outcome.INCORRECT, 0.1)
        return Grade(group.group_id, rollout.rollout_id, outcome, reward, float(right), Terms(0.1, 0.9 * right, 0.0, 0.0), {"answer": None})


def row(group: int, rollout: int, completion: str = "right", **fields: Any) -> dict[str, Any]:
    ids = {"group_id": f"g{group}", "rollout_id": str(rollout)}
    return {**ids, "task": "math", "reference": {"answer": "1"}, "completion": completion} | fields


def write(path: Path, *rows: dict[str, Any] | str) -> str:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in rows))
    return str(path)


async def score(dump: str, ledger: Path, grader: Grader | None = None, **options: Any) -> Tally:
    grading = Grading(SCHEME, read_group, lambda: None, grader or Grader())  # type: ignore[arg-type, return-value]
    with open_ledger(ledger, STAMP) as opened:
        return await score_dump(open_dump(dump), opened, grading, **options)


def lines(ledger: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ledger.read_text().splitlines()]


async def test_every_row_gets_its_own_grade(tmp_path: Path) -> None:
    dump = write(tmp_path / "a.jsonl", row(0, 0), row(0, 0, "wrong"), row(0, 1, "ours"), "{", row(1, 0, task="nope"), row(1, 0))
    tally = await score(dump, tmp_path / "l.jsonl")
    found = {line["row"]: (line["rollout_id"], line["outcome"], line["reward"]) for line in lines(tmp_path / "l.jsonl")}
    assert found == {
        1: ("0", "correct", 1.0),
        2: ("0", "incorrect", 0.1),
        3: ("1", "unscored", None),
        4: (None, None, None),
        5: ("0", None, None),
        6: ("0", "correct", 1.0),
    }
    assert tally.rows == 6
    assert tally.kept == 0
    assert tally.outcomes["math"] == {"correct": 2, "incorrect": 1, "unscored": 1}
    assert tally.outcomes["nope"] == tally.outcomes["?"] == {BAD_ROW: 1}
    assert tally.reasons == {"worker_lost": 1}
    assert tally.reward_mean("math") == pytest.approx(0.7)
    assert tally.reward_mean("?") is None
    assert not tally.all_scored
    assert tally.position == (tmp_path / "a.jsonl").stat().st_size


async def test_rows_of_a_group_are_graded_together(tmp_path: Path) -> None:
    grader = Grader()
    await score(write(tmp_path / "a.jsonl", *(row(number // 8, number) for number in range(32))), tmp_path / "l.jsonl", grader)
    assert [(group.group_id, len(group.rollouts)) for group in grader.groups] == [(f"g{number}", 8) for number in range(4)]


async def test_a_second_run_does_only_what_is_missing(tmp_path: Path) -> None:
    dump = write(tmp_path / "a.jsonl", *(row(number // 4, number) for number in range(40)))
    ledger = tmp_path / "l.jsonl"
    await score(dump, ledger)
    whole = lines(ledger)
    kept = [line for line in whole if line["row"] % 3]
    ledger.write_text("".join(json.dumps(line) + "\n" for line in kept))
    grader = Grader()
    tally = await score(dump, ledger, grader)
    assert sorted(line["row"] for line in lines(ledger)) == list(range(1, 41))
    assert sum(len(group.rollouts) for group in grader.groups) == 13
    assert (tally.rows, tally.kept) == (40, 27)
    assert tally.all_scored
    again = Grader()
    assert (await score(dump, ledger, again)).kept == 40
    assert not again.groups


async def test_work_in_flight_is_bounded(tmp_path: Path) -> None:
    grader = Grader(pause_s=0.002)
    await score(write(tmp_path / "a.jsonl", *(row(number, 0) for number in range(60))), tmp_path / "l.jsonl", grader, in_flight=5)
    assert 2 <= grader.most_in_flight <= 5


async def test_progress_ends_with_everything(tmp_path: Path) -> None:
    seen: list[int] = []
    dump = write(tmp_path / "a.jsonl", *(row(number, 0) for number in range(20)))
    await score(dump, tmp_path / "l.jsonl", on_progress=lambda tally: seen.append(tally.rows))
    assert seen[0] == 0
    assert seen[-1] == 20
    assert seen == sorted(seen)


async def test_what_stands_before_a_damage_is_graded(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    write(tmp_path / "d" / "a.jsonl", *(row(number, 0) for number in range(20)))
    (tmp_path / "d" / "b.jsonl.gz").write_bytes(b"\x1f\x8bno gzip")
    with pytest.raises(DumpError, match=r"b\.jsonl\.gz: cannot be read after line 0"):
        await score(str(tmp_path / "d"), tmp_path / "l.jsonl")
    assert len(lines(tmp_path / "l.jsonl")) == 20


async def test_a_changed_dump_stops_the_run(tmp_path: Path) -> None:
    dump = write(tmp_path / "a.jsonl", row(0, 0), row(1, 0))
    await score(dump, tmp_path / "l.jsonl")
    write(tmp_path / "a.jsonl", row(0, 0), row(1, 0, "other"))
    with pytest.raises(LedgerError, match="has changed"):
        await score(dump, tmp_path / "l.jsonl")


async def test_a_bug_is_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        await score(write(tmp_path / "a.jsonl", row(0, 0, "bug")), tmp_path / "l.jsonl")


async def test_a_cancelled_run_keeps_what_it_has(tmp_path: Path) -> None:
    dump = write(tmp_path / "a.jsonl", *(row(number, 0) for number in range(200)))
    ledger = tmp_path / "l.jsonl"
    run = asyncio.create_task(score(dump, ledger, Grader(pause_s=0.01), in_flight=4))
    while not ledger.exists() or len(ledger.read_bytes()) < 1000:
        await asyncio.sleep(0.005)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert 0 < len(lines(ledger)) < 200
    assert (await score(dump, ledger)).rows == 200


SLOW_RUN = """
import asyncio, importlib.util, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("slow", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
asyncio.run(module.score(sys.argv[2], Path(sys.argv[3]), module.Grader(pause_s=0.005), in_flight=3))
"""


def test_kill_9_again_and_again_loses_and_doubles_nothing(tmp_path: Path) -> None:
    dump = write(tmp_path / "a.jsonl", *(row(number // 2, number, "right" if number % 3 else "wrong") for number in range(400)))
    ledger = tmp_path / "l.jsonl"
    killed = 0
    for _ in range(4):
        before = ledger.stat().st_size if ledger.exists() else 0
        process = subprocess.Popen([sys.executable, "-c", SLOW_RUN, __file__, dump, str(ledger)], cwd=Path(__file__).parents[2])
        while process.poll() is None and (not ledger.exists() or ledger.stat().st_size < before + 9_000):
            time.sleep(0.001)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.wait()
    assert killed >= 2
    assert (
        subprocess.run([sys.executable, "-c", SLOW_RUN, __file__, dump, str(ledger)], check=False, cwd=Path(__file__).parents[2]).returncode
        == 0
    )
    found = {line["row"]: line["outcome"] for line in lines(ledger)}
    assert len(lines(ledger)) == 400
    assert found == {number + 1: "correct" if number % 3 else "incorrect" for number in range(400)}
