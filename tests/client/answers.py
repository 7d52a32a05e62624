"""Answers of a scripted service."""

from __future__ import annotations

import json
from typing import Any

TERMS = {"format": 0.1, "correctness": 0.9, "length": 0.0, "language": 0.1}
RIGHT = {
    "group_id": "g", "rollout_id": "0", "outcome": "correct", "reward": 1.1, "correctness": 1.0, "terms": TERMS, "detail": {"answer": "4"},
}  # fmt: skip
LOST = {
    "group_id": "g", "rollout_id": "1", "outcome": "unscored", "reward": None, "correctness": None,
    "terms": dict.fromkeys(TERMS), "detail": {"reason": "deadline"},
}  # fmt: skip
GROUP = {
    "group_id": "g", "task": "math", "prompt": "2 + 2?", "reference": {"answer": "4"},
    "rollouts": [{"rollout_id": "0", "completion": "<think>\ud800</think>\\boxed{4}"}],
}  # fmt: skip


def answer_of(*grades: dict[str, Any]) -> bytes:
    return json.dumps({"grades": grades, "groups": [{"group_id": "g"}], "scheme": {"name": "magistral"}, "service": {}}).encode()


def lines_of(*entries: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)
