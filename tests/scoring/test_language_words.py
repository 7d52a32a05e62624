"""Words by a table of bytes are the words that the pattern of all scripts finds."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from reward_service.scoring.language_words import in_lower_case, lowered_words, words_of
from reward_service.scoring.scripts import LETTERS, WEIGHTS, letters_of

WORD = re.compile(f"[{letters_of(WEIGHTS)}]+|[{LETTERS}]{{2,}}")
WESTERN = st.text(st.characters(max_codepoint=0xFF) | st.sampled_from("’“–…\u0301 \u2028"), max_size=60)
ANY = st.text(st.sampled_from("abÉß œİşğ Жд漢字 かな가나 é.'2\n") | st.characters(), max_size=60)


@given(WESTERN | ANY)
def test_words_are_those_of_the_pattern(text: str) -> None:
    assert words_of(text) == WORD.findall(text)
    assert lowered_words(text) == [word.lower() for word in WORD.findall(text)]


@given(WESTERN, st.integers(0, 60), st.integers(0, 60))
def test_a_text_in_lower_case_can_be_cut_anywhere(text: str, start: int, end: int) -> None:
    lowered = in_lower_case(text)
    if lowered is not None:
        assert len(lowered) == len(text)
        assert [word for word in lowered[start:end].split() if len(word) > 1] == lowered_words(text[start:end])


def test_letters_beyond_latin_1_are_not_lost() -> None:
    assert in_lower_case("cœur") is None
    assert lowered_words("Le CŒUR de l’été") == ["le", "cœur", "de", "été"]
