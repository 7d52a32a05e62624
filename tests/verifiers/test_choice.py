"""The choice verifier: one letter, or one choice's own text, and nothing else."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service.effects import Effects, R, Task
from reward_service.errors import BadReference, JobKilled
from reward_service.records import AnswerForm, ChoiceReference, CodeBlock, DetailLevel, Verdict
from reward_service.verifiers.base import GroupContext
from reward_service.verifiers.choice import JUDGE, ChoiceVerifier

with open(Path(__file__).parents[1] / "cases" / "choice.jsonl", encoding="utf-8") as table:
    ROWS = [json.loads(line) for line in table]
CONTEXT = GroupContext(group_id="g", seed=0, fraction=False, detail=DetailLevel.FULL)
LETTERS = "ABCDE"


class Workers:
    """Runs tasks inline, or raises for the task given."""

    def __init__(self, failing: object = None) -> None:
        self.failing = failing

    async def run(self, task: Task[R], *args: object) -> R:
        if self.failing is task or self.failing == "all":
            raise JobKilled("cpu_limit")
        return task.function(*args)


def grade(answer: str, choices: list[str], final: Any, workers: Workers | None = None) -> Verdict:
    effects = Effects(workers=workers or Workers(), sandbox=None, judge_language=None)  # type: ignore[arg-type]

    async def run() -> Verdict:
        judge = await ChoiceVerifier().prepare(ChoiceReference(answer, tuple(choices)), CONTEXT, effects)
        return await judge(final)

    return asyncio.run(run())


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_table(row: dict[str, Any]) -> None:
    if row["cause"] is not None:
        with pytest.raises(BadReference, match=row["cause"]):
            grade(row["answer"], row["choices"], "C")
    else:
        verdict = grade(row["answer"], row["choices"], row["final"])
        assert verdict.correctness == float(row["equal"]), (row["why"], verdict.full)


def test_details_name_the_rule_and_are_bounded() -> None:
    verdict = grade("C", ["1", "2", "3"], r"\text{(C)}")
    assert verdict.brief == {"answer": r"\text{(C)}"}
    assert verdict.full == {"answer": r"\text{(C)}", "rule": "letter", "gold_form": "C", "answer_form": "C"}
    assert grade("C", [], "x" * 9000).brief == {"answer": "x" * 500}


def test_limits_are_the_references_fault_first_and_the_answers_afterwards() -> None:
    with pytest.raises(BadReference, match="cpu_limit"):
        grade("C", [], "C", Workers("all"))
    verdict = grade("C", [], "C", Workers(JUDGE))
    assert verdict == Verdict(0.0, {"answer": "C"}, {"answer": "C", "rule": "limit:cpu_limit"})


def test_a_code_block_is_no_choice() -> None:
    assert ChoiceVerifier().answer_form is AnswerForm.BOX
    with pytest.raises(TypeError):
        grade("C", [], CodeBlock("python", "C"))


@given(
    st.lists(st.sampled_from(LETTERS), min_size=2, max_size=5, unique=True),
    st.sampled_from([", ", " or ", " and ", "/", " ", "", ") ", "; ", ". "]),
)
def test_a_list_of_letters_names_none(letters: list[str], separator: str) -> None:
    spray = separator.join(letters)
    for choices in ([], ["10", "20", "30", "40", "50"]):
        assert [grade(letter, choices, spray).correctness for letter in LETTERS] == [0.0] * 5


@given(st.text(max_size=40))
def test_no_text_raises(text: str) -> None:
    assert grade("C", ["10", "20", "30"], text).correctness in (0.0, 1.0)
