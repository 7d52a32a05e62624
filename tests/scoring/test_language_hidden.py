from __future__ import annotations

from collections.abc import Mapping

import pytest

from reward_service.scoring.language_hidden import LEAST_LETTERS, hidden_language
from reward_service.scoring.language_passages import Known
from reward_service.scoring.prose import find_prose

FRENCH = "Le train met trois heures pour tout le trajet, et dans chacune de ces heures il parcourt la même distance que dans les autres. "
ENGLISH = "The train needs three hours for the whole way, and in each of these hours it travels the same distance that it had before. "
CHINESE = "火车走完全程需要三个小时，而且每个小时走的路程都一样，所以只要把小时数乘以每小时的路程就可以了。"
PROGRAM = "total = 0\nfor value in values:\n    total = total + value\n"
UNKNOWN = Known("", frozenset())


def french(_: str) -> Mapping[str, float]:
    return {"fr": 0.99}


def hidden(text: str, letters: int = 100, known: Known = UNKNOWN) -> str | None:
    return hidden_language(find_prose(text).removed(), letters, "en", known, french)


def fenced(text: str) -> str:
    return f"\n```\n{text}\n```\n"


def test_prose_in_a_fence_has_a_language() -> None:
    assert hidden(fenced(FRENCH * 2)) == "fr"
    assert hidden(fenced(CHINESE * 2)) == "han"
    assert hidden(fenced(ENGLISH * 2)) is None


def test_prose_in_inline_code_formulas_and_addresses_has_too() -> None:
    words = (FRENCH * 2).split()
    assert hidden(" ".join(f"`{word}`" for word in words)) == "fr"
    assert hidden(" ".join(f"${word}$" for word in words)) == "fr"
    assert hidden(" ".join(f"http://{word}" for word in words)) == "fr"


def test_comments_of_a_program_are_not_looked_at() -> None:
    assert hidden(fenced(f"# {FRENCH}\n" * 4 + PROGRAM)) is None
    assert hidden(fenced(f"# {CHINESE}\n" * 4 + PROGRAM)) is None
    assert hidden(fenced(f'"""{FRENCH * 4}"""\n' + PROGRAM)) is None


def test_comments_of_no_program_are_prose() -> None:
    assert hidden(fenced(f"# {FRENCH}\n" * 4)) == "fr"
    assert hidden(fenced(f'"""{CHINESE * 2}"""')) == "han"


def test_a_program_has_no_language() -> None:
    assert hidden(fenced(PROGRAM * 20)) is None


@pytest.mark.parametrize(("letters", "found"), [(100, "fr"), (10_000, None)])
def test_what_is_hidden_is_weighed_against_what_is_read(letters: int, found: str | None) -> None:
    assert hidden(fenced(FRENCH * 2), letters) == found


def test_little_is_no_prose() -> None:
    assert hidden(fenced(FRENCH[: LEAST_LETTERS - 20])) is None


def test_what_the_prompt_says_may_be_repeated() -> None:
    words = frozenset(FRENCH.lower().replace(",", "").replace(".", "").split())
    assert hidden(fenced(FRENCH * 2), known=Known(FRENCH, words)) is None
    assert hidden(fenced("漢字\n" * 60)) == "han"
    assert hidden(fenced("漢字\n" * 60), known=Known("漢字", frozenset())) is None


def test_the_classifier_has_a_say() -> None:
    pieces = find_prose(fenced(FRENCH * 2)).removed()
    assert hidden_language(pieces, 100, "en", UNKNOWN, lambda _: {"en": 0.9, "fr": 0.1}) is None
