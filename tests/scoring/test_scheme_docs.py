from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from reward_service.errors import RequestError
from reward_service.records import FormatFinding, Outcome, Terms, Verdict, Violation
from reward_service.scoring.scheme import SCHEMES, Scheme, compose, resolve_scheme

PAGE = (Path(__file__).parents[2] / "docs" / "schemes.md").read_text()


def table(heading: str) -> list[list[str]]:
    """The cells of the rows of the first table under a heading, without code marks."""
    lines = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0].splitlines()
    rows = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return rows[2:]


def spec(cell: str) -> Any:
    return json.loads(cell.replace("{B", '{"base": "magistral"'))


def with_value(key: str, value: object) -> dict[str, object]:
    part, _, name = key.partition(".")
    return {"base": "magistral", **({part: {name: value}} if name else {part: value})}


KEYS = {row[0]: row for row in table("Keys")}
NUMBERS = [(key, *map(int, found.groups())) for key, row in KEYS.items() if (found := re.match(r"(\d+) to (\d+)", row[2]))]
EXAMPLES = table("Worked examples")


def test_the_schemes_are_all_there_and_differ_as_stated() -> None:
    rows = table("The three schemes")
    assert [row[0] for row in rows] == list(SCHEMES)
    for name, _, changes in rows:
        changed = resolve_scheme({"base": "magistral", **({} if changes == "nothing" else json.loads(changes))})
        assert dataclasses.replace(changed, name=name) == SCHEMES[name]


def test_every_key_is_there_with_its_default() -> None:
    flat = {**dataclasses.asdict(SCHEMES["magistral"])}
    weights = flat.pop("weights")
    flat = {key: value for key, value in flat.items() if key != "name"} | {f"weights.{key}": value for key, value in weights.items()}
    assert set(KEYS) == {"base", *flat}
    assert {key: row[1] for key, row in KEYS.items() if key != "base"} == {key: json.dumps(value) for key, value in flat.items()}
    assert all(row[4] for row in KEYS.values()), "a source each"


def test_the_numbers_with_a_range() -> None:
    assert {key for key, *_ in NUMBERS} == {
        *(f"weights.{name}" for name in ("format", "correctness", "language", "length")),
        *("l_max", "l_cache", "draw", "seed"),
    }


@pytest.mark.parametrize(("key", "least", "most"), NUMBERS)
def test_a_range_is_what_the_code_takes(key: str, least: int, most: int) -> None:
    small_cache = {"l_cache": 0} if key == "l_max" else {}
    for value in (least, most):
        resolve_scheme({**with_value(key, value), **small_cache})
    for value in (least - 1, most + 1):
        with pytest.raises(RequestError):
            resolve_scheme({**with_value(key, value), **small_cache})
    if "null" in KEYS[key][2]:
        resolve_scheme(with_value(key, None))
    else:
        with pytest.raises(RequestError):
            resolve_scheme(with_value(key, None))


def test_the_digests() -> None:
    assert dict(table("The digest")) == {name: scheme.digest for name, scheme in SCHEMES.items()}


@pytest.mark.parametrize("row", EXAMPLES, ids=range(len(EXAMPLES)))
def test_a_worked_example(row: list[str]) -> None:
    cell, found, same, tokens, outcome, form, correct, length, language, reward, correctness = row
    scheme: Scheme = resolve_scheme(spec(cell))
    verdict = Verdict(float(found), {}) if found[0].isdigit() else None
    violation = None if verdict or found == "nothing" else Violation(found)
    finding = FormatFinding(violation, "42" if verdict else None)
    terms = Terms(format=float(form), correctness=float(correct), length=float(length), language=float(language))
    expected = (Outcome(outcome), float(reward), float(correctness), terms)
    assert compose(scheme, finding, verdict, {"yes": True, "no": False}[same], int(tokens)) == expected


def test_the_examples_are_many() -> None:
    assert len(EXAMPLES) >= 20
    assert {row[4] for row in EXAMPLES} == {"correct", "incorrect", "format_violation"}
