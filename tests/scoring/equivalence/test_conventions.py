"""Declared conventions: each choice by a table, and the page that lists them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from reward_service.scoring.equivalence.compare import compare_answers
from reward_service.scoring.equivalence.conventions import CHOICES, Conventions, in_force, read_conventions

ROOT = Path(__file__).parents[3]
ROWS = [json.loads(line) for line in (ROOT / "tests/cases/math_conventions.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_each_choice(row: dict[str, Any]) -> None:
    assert compare_answers([row["gold"]], row["answer"]).equal == row["equal"], row["why"]
    assert compare_answers([row["gold"]], row["answer"], [row["choice"]]).equal == row["chosen"], row["why"]


def test_every_convention_has_rows_in_which_its_choice_matters() -> None:
    assert {row["convention"] for row in ROWS if row["equal"] != row["chosen"]} == set(CHOICES)


def test_the_page_lists_each_with_its_default_and_its_choice() -> None:
    page = (ROOT / "docs/math-conventions.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \| `(\w+)` \|.*\| `(\w+)`[^|]*\|$", page, re.MULTILINE)
    assert listed == [(name, *choices) for name, choices in CHOICES.items()]


def test_defaults_are_the_first_choices() -> None:
    assert Conventions() == read_conventions([f"{name}={choices[0]}" for name, choices in CHOICES.items()])


@pytest.mark.parametrize(
    ("written", "says"),
    [("colour=red", "no convention"), ("rounding=never", "exact, digits"), ("rounding", "as in rounding=digits"), ("units=optional", "")],
)
def test_unknown_choices_are_named(written: str, says: str) -> None:
    if not says:
        assert read_conventions([written]) == Conventions()
        return
    with pytest.raises(ValueError, match=says):
        read_conventions([written])
    with pytest.raises(ValueError, match="twice"):
        read_conventions(["rounding=digits", "rounding=exact"])


def test_a_choice_ends_with_its_comparison() -> None:
    compare_answers(["0.333"], r"\frac13", ["rounding=digits"])
    assert in_force() == Conventions()
    assert not compare_answers(["0.333"], r"\frac13").equal
