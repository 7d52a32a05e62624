from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service.records import Completion, Violation
from reward_service.scoring.completion import split_completion

THINK = ("<think>", "</think>")
BRACKETS = ("[THINK]", "[/THINK]")
PIECES = ["<think>", "</think>", "<think", "</", "think>", "[THINK]", "[/THINK]", " ", "\n", "a", "\ud800"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(st.characters())


def split(text: str, tags: tuple[str, str] = THINK, opened: bool = False, leading: bool = False) -> Completion:
    return split_completion(text, tags, prompt_opened_tag=opened, leading_whitespace=leading)


def places(text: str, tag: str) -> list[int]:
    return [index for index in range(len(text)) if text[index : index + len(tag)] == tag]


def violations(text: str, tags: tuple[str, str], opened: bool, leading: bool) -> list[Violation]:
    """All that is wrong, by the letter of the rules, in the declared order."""
    opens, closes = places(text, tags[0]), places(text, tags[1])
    allowed = next((i for i, character in enumerate(text) if not character.isspace()), 0) if leading else 0
    checks = {
        Violation.NO_OPENING_TAG: not opened and not opens,
        Violation.TEXT_BEFORE_TAG: not opened and bool(opens) and opens[0] != allowed,
        Violation.NO_CLOSING_TAG: not closes,
        Violation.REPEATED_TAG: len(opens) > (0 if opened else 1) or len(closes) > 1,
    }
    return [violation for violation in Violation if checks.get(violation)]


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("<think>a</think>b", "a", "b"),
        ("<think>\na\n</think>\nb\n", "\na\n", "\nb\n"),
        ("<think></think>", "", ""),
        ("a</think>b", "a", "b"),
        ("a<think>b</think>c", "b", "c"),
        ("</think>a<think>b", "", "a<think>b"),
        ("x</think>a<think>b", "x", "a<think>b"),
        ("<think>a</think>b</think>c", "a</think>b", "c"),
        ("<think>a<think>b</think>c", "a<think>b", "c"),
        ("<think>a", "", "<think>a"),
        ("a", "", "a"),
        ("", "", ""),
    ],
)
def test_the_two_parts(text: str, thinking: str, answer: str) -> None:
    completion = split(text)
    assert (completion.thinking, completion.answer) == (thinking, answer)


def test_the_prompts_tag_leaves_the_whole_beginning_to_the_thinking() -> None:
    assert split("a\n</think>b", opened=True) == Completion("a\n", "b", None)


@given(TEXTS, st.sampled_from([THINK, BRACKETS]), st.booleans(), st.booleans())
def test_the_first_violation_by_the_letter(text: str, tags: tuple[str, str], opened: bool, leading: bool) -> None:
    assert split(text, tags, opened, leading).violation == next(iter(violations(text, tags, opened, leading)), None)


@given(TEXTS, TEXTS)
def test_a_wrapped_pair_comes_apart_again(thinking: str, answer: str) -> None:
    text = f"<think>{thinking}</think>{answer}"
    if text.count("<think>") == text.count("</think>") == 1:
        assert split(text) == Completion(thinking, answer, None)
        assert split(text.removeprefix("<think>"), opened=True) == Completion(thinking, answer, None)
        assert split(" \n" + text, leading=True) == Completion(thinking, answer, None)
        assert split(" \n" + text).violation is Violation.TEXT_BEFORE_TAG


@given(TEXTS, st.booleans(), st.booleans())
def test_parts_do_not_depend_on_what_is_tolerated(text: str, opened: bool, leading: bool) -> None:
    completion, usual = split(text, opened=opened, leading=leading), split(text)
    assert (completion.thinking, completion.answer) == (usual.thinking, usual.answer)
    assert completion.answer == text.rpartition("</think>")[2]


@pytest.mark.parametrize("piece", ["<think>", "</think>", "<think", "</think", "<", " ", "<think></think>"])
def test_a_megabyte_of_anything_ends(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    assert split(text, leading=True).violation == next(iter(violations(text[:100], THINK, False, True)), None)
