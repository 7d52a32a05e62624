"""The examples' expected grades follow the published rule, cover what they say they cover, and are what the service gives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reward_service.records import Outcome, TestStatus, Violation

EXAMPLES = Path(__file__).parent.parent / "examples"
ROWS = [json.loads(line) for path in sorted(EXAMPLES.glob("*.jsonl")) for line in path.read_text(encoding="utf-8").splitlines()]
SOFT_TOKENS, HARD_TOKENS = 400, 600


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['group_id']}-{row['rollout_id']}")
def test_expected_grades_follow_the_published_rule(row: dict[str, Any]) -> None:
    expected, terms = row["expected"], row["expected"]["terms"]
    assert terms.keys() == {"format", "correctness", "length", "language"}
    match Outcome(expected["outcome"]):
        case Outcome.UNSCORED:
            assert (expected["reward"], set(terms.values())) == (None, {None})
        case Outcome.FORMAT_VIOLATION:
            assert (expected["reward"], set(terms.values())) == (0.0, {0.0})
        case outcome:
            used = (row["completion_tokens"] - SOFT_TOKENS) / (HARD_TOKENS - SOFT_TOKENS)
            assert terms["format"] == 0.1
            assert terms["correctness"] == (0.9 if outcome is Outcome.CORRECT else 0.0)
            assert terms["length"] == pytest.approx(-0.1 * min(1.0, max(0.0, used)))
            assert terms["language"] in (0.0, 0.1)
            assert expected["reward"] == pytest.approx(sum(terms.values()))
    assert row["why"]


def test_every_kind_of_rollout_is_among_the_examples() -> None:
    assert {row["expected"]["outcome"] for row in ROWS} == set(Outcome)
    assert {row["task"] for row in ROWS} == {"math", "choice", "code"}
    details = [row["expected"].get("detail", {}) for row in ROWS]
    assert {detail["violation"] for detail in details if "violation" in detail} == set(Violation)
    assert {detail["status"] for detail in details if "status" in detail} == set(TestStatus) - {
        TestStatus.ACCEPTED, TestStatus.NOT_RUN, TestStatus.POLICY_VIOLATION,
    }  # fmt: skip
    assert any(row["expected"]["terms"]["language"] == 0.0 for row in ROWS if row["expected"]["outcome"] == "correct")
    keys = [(row["group_id"], row["rollout_id"]) for row in ROWS]
    assert len(set(keys)) == len(keys)


def test_rows_of_others_name_their_origin() -> None:
    for row in ROWS:
        assert row["task"] != "code" or row["source"]
        assert ("licence" in row) == ("rights_owner" in row)
        assert not str(row.get("source", "")).startswith(("Kodsport", "icpc")) or row["licence"]


@pytest.mark.isolation
@pytest.mark.compiler
def test_the_demo_finds_every_grade_as_expected() -> None:
    done = subprocess.run([sys.executable, EXAMPLES / "demo.py"], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"all {len(ROWS)} grades are as worked out by hand" in done.stdout
    for row in ROWS:
        assert row["rollout_id"] in done.stdout


def test_the_demo_stops_its_service_when_it_is_stopped() -> None:
    demo = subprocess.Popen([sys.executable, EXAMPLES / "demo.py"], stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert demo.stdout is not None
        assert "up after" in demo.stdout.readline()
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(60) == 143
        with pytest.raises(ProcessLookupError):
            os.killpg(demo.pid, 0)
    finally:
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGKILL)
