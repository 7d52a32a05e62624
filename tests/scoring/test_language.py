from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service.scoring.language import Detection, base_language, literal_rule, strip_latex_and_code

CASES = [json.loads(line) for line in (Path(__file__).parents[1] / "cases" / "language.jsonl").read_text(encoding="utf-8").splitlines()]
PIECES = [
    "$",
    "$$",
    "\\(",
    "\\)",
    "\\[",
    "\\]",
    "\\begin{a}",
    "\\end{a}",
    "\\end{b}",
    "\\x",
    "{",
    "}",
    "[",
    "]",
    "\\",
    "\n",
    "\n\n",
    "```",
    "~~~",
    " ",
    "1",
    "mot",
]


@pytest.mark.parametrize("case", [case for case in CASES if case["kind"] == "strip"], ids=lambda case: case["id"])
def test_strip(case: dict[str, Any]) -> None:
    assert strip_latex_and_code(case["text"]) == case["stripped"], case["why"]


def test_cases_have_names_of_their_own() -> None:
    assert max(Counter(case["id"] for case in CASES).values()) == 1
    assert len(CASES) >= 60


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_what_is_left_was_there(text: str) -> None:
    left = iter(text)
    assert all(character in left for character in strip_latex_and_code(text) if not character.isspace())


@given(st.text(st.characters(exclude_categories=()), max_size=60))
def test_any_text_is_stripped(text: str) -> None:
    assert isinstance(strip_latex_and_code(text), str)


@given(st.text(st.sampled_from("abcé. \n漢1,;:()"), max_size=60))
def test_text_without_marks_stays(text: str) -> None:
    assert strip_latex_and_code(text) == text


@pytest.mark.parametrize(
    "piece",
    [
        "\\begin{align}",
        "\\begin{a}\\end{b}",
        "$",
        "$ ",
        "$a ",
        "a$",
        "\\a{",
        "\\a[",
        "\\a{}{}",
        "{",
        "\\(",
        "\\[\n\n",
        "\\",
        "```\n",
        "```x\n````\n",
        "`",
        "~~~a\n",
        "\n ",
        "\n",
    ],
)
def test_hostile_text_takes_linear_time(piece: str) -> None:
    text = piece * (100_000 // len(piece))
    started = time.process_time()
    strip_latex_and_code(text)
    assert time.process_time() - started < 1.0  # 30 to 150 ms; anything quadratic takes minutes


@pytest.mark.parametrize(
    ("code", "base"),
    [("fr", "fr"), ("FR-ca", "fr"), ("zh_Hant_TW", "zh"), ("yue", "zh"), ("wuu", "zh"), (" en ", "en"), ("ja", "ja"), ("", "")],
)
def test_base_language(code: str, base: str) -> None:
    assert base_language(code) == base


def first_word(text: str) -> Detection:
    """A classifier that believes the first word."""
    return Detection(text.split()[0] if text.split() else "en", 0.5)


@pytest.mark.parametrize(
    ("prompt", "thinking", "answer", "wanted", "consistent"),
    [
        ("fr a", "fr b", "fr c", None, True),
        ("fr a", "en b", "fr c", None, False),
        ("zh", "yue", "wuu", None, True),
        ("de", "fr b", "fr c", "fr-FR", True),
        ("fr", "fr b", "fr c", "de", False),
        ("$x$ fr", "$fr$ fr", "```\nen\n```\nfr", None, True),
        ("en", "", "en", None, False),
        ("en", "", "en", "en", False),
        ("en", "$x$", "en", None, True),
    ],
)
def test_literal_rule(prompt: str, thinking: str, answer: str, wanted: str | None, consistent: bool) -> None:
    assert literal_rule(prompt, thinking, answer, wanted, first_word).consistent is consistent


def test_detail_shows_what_was_seen() -> None:
    assert literal_rule("de x", "fr y", "fr z", None, first_word).detail == {
        "rule": "literal",
        "problem": {"language": "de", "probability": 0.5},
        "thinking": {"language": "fr", "probability": 0.5},
        "answer": {"language": "fr", "probability": 0.5},
    }
    assert literal_rule("de x", "", "fr z", "fr", first_word).detail == {
        "rule": "literal",
        "thinking": {"language": "en", "probability": 0.5},
        "answer": {"language": "fr", "probability": 0.5},
        "wanted": "fr",
        "empty_thinking": True,
    }
