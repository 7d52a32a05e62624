from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service.scoring.prose import find_prose

CASES = [
    json.loads(line) for line in (Path(__file__).parents[1] / "cases" / "language_prose.jsonl").read_text(encoding="utf-8").splitlines()
]
PIECES = ["$", "$$", "\\(", "\\)", "\\[", "\\]", "\\begin{a}", "\\end{a}", "\\end{b}", "\\x", "{", "}", "\\", "\n", "\n\n", "```", "~~~"]
PIECES += ["`", "``", " ", "1", "mot", "un long mot de plus que six mots longs", "https://a", "\u200b", "𝐀", "漢字漢字漢字漢字漢字漢字漢字"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_prose(case: dict[str, Any]) -> None:
    assert find_prose(case["text"]).text.split() == case["prose"].split(), case["why"]


def test_cases_have_names_of_their_own() -> None:
    assert len({case["id"] for case in CASES}) == len(CASES) >= 40


@given(st.lists(st.sampled_from([piece for piece in PIECES if piece not in ("\u200b", "𝐀")]), max_size=40).map("".join))
def test_every_character_of_the_prose_has_its_place_in_the_text(text: str) -> None:
    prose = find_prose(text)
    places = [place for place, character in enumerate(prose.text) if not character.isspace()]
    assert all(prose.text[place] == text[origin] for place, origin in zip(places, prose.origins(places), strict=True))


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join) | st.text(st.characters(exclude_categories=()), max_size=60))
def test_any_text_has_prose_no_longer_than_itself(text: str) -> None:
    assert len(find_prose(text).text.split()) <= 2 * len(text)
    assert len("".join(find_prose(text).text.split())) <= len(text)


@given(st.text(st.characters(codec="ascii", exclude_characters="$\\`~/w\r"), max_size=80))
def test_text_without_marks_is_all_prose(text: str) -> None:
    assert find_prose(text).text.split() == text.split()


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.integers(2, 5))
def test_an_unclosed_mark_does_not_reach_into_another_paragraph(text: str, times: int) -> None:
    paragraph = "\n\nplain words\n\n"
    if "```" not in text and "~~~" not in text and "\\" not in text:
        assert find_prose((text + paragraph) * times).text.count("plain words") == times


def test_marks_over_letters_become_part_of_them() -> None:
    assert find_prose("e\u0301te\u0301 t\u0332h\u0332e\u0332 x\u0301 \u0301 \u0439").text.split() == ["été", "the", "x", "й"]
    assert find_prose("a" + "\u0301\u0323" * 50_000 + "b").text.split() == ["\u1ea1b"]


@given(st.lists(st.sampled_from([piece for piece in PIECES if piece not in ("\u200b", "𝐀")]), max_size=40).map("".join))
def test_what_is_no_prose_was_removed(text: str) -> None:
    prose = find_prose(text)
    kept = [text[start:end] for start, end in prose.pieces]
    assert sorted("".join((*kept, *prose.removed()))) == sorted(text)
