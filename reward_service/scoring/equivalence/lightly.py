"""The comparisons without SymPy: what needs it is None, to be asked again of a worker that holds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from reward_service.scoring.equivalence.choices import ChoiceFinding, PreparedChoice, judge_choice, prepare_choice
from reward_service.scoring.equivalence.compare import Comparison, Prepared, compare_answers, prepare_gold
from reward_service.scoring.equivalence.second_opinion import Deferred, deferred

R = TypeVar("R")


def _unless_deferred(function: Callable[[], R]) -> R | None:
    with deferred():
        try:
            return function()
        except Deferred:
            return None


def prepare_lightly(gold: str) -> Prepared | None:
    """See `compare.prepare_gold`."""
    return _unless_deferred(lambda: prepare_gold(gold))


def compare_lightly(golds: list[str], answers: list[str], conventions: list[str]) -> list[Comparison | None]:
    """See `compare.compare_answers`; one finding for each answer, in their order."""
    return [_unless_deferred(lambda answer=answer: compare_answers(golds, answer, conventions)) for answer in answers]  # type: ignore[misc]


def prepare_choice_lightly(answer: str, choices: list[str]) -> PreparedChoice | None:
    """See `choices.prepare_choice`."""
    return _unless_deferred(lambda: prepare_choice(answer, choices))


def judge_choice_lightly(reference: str, letter: str, choices: list[str], answer: str) -> ChoiceFinding | None:
    """See `choices.judge_choice`."""
    return _unless_deferred(lambda: judge_choice(reference, letter, choices, answer))
