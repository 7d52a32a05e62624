from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service.records import AnswerForm, CodeBlock, Completion, FormatFinding, Violation
from reward_service.scoring.completion import split_completion
from reward_service.scoring.format import find_final_answer, format_gate
from reward_service.scoring.scheme import resolve_scheme

TABLE = Path(__file__).parents[1] / "cases" / "format.jsonl"
ROWS: list[dict[str, Any]] = [json.loads(line) for line in TABLE.read_text().splitlines()]
PIECES = ["<think>", "</think>", "\\boxed{", "{", "}", "\\", "1", " ", "\n", "```", "python", "`", "\r\n", "\ud800", "é"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=24).map("".join) | st.text(st.characters())
FORMS = st.sampled_from(AnswerForm)


def finding_of(text: str, form: AnswerForm, **options: object) -> FormatFinding:
    scheme = resolve_scheme({"base": "magistral", **options})
    completion = split_completion(
        text, scheme.tags, prompt_opened_tag=scheme.prompt_opened_tag, leading_whitespace=scheme.leading_whitespace
    )
    return format_gate(completion, form) if scheme.gate else FormatFinding(None, find_final_answer(completion.answer, form))


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_the_table(row: dict[str, Any]) -> None:
    final = row["final_answer"]
    expected = CodeBlock(**final) if isinstance(final, dict) else final
    finding = finding_of(row["text"], AnswerForm(row["form"]), **row["options"])
    assert finding == FormatFinding(Violation(row["violation"]) if row["violation"] else None, expected), row["why"]


def test_the_table_is_whole() -> None:
    assert len(ROWS) >= 180
    assert len({row["id"] for row in ROWS}) == len(ROWS)
    assert all(row["why"] and row["source"] for row in ROWS)
    assert {row["violation"] for row in ROWS} == {None, *(violation.value for violation in Violation)}


@given(TEXTS, FORMS)
def test_a_violation_or_an_answer_never_both_never_neither(text: str, form: AnswerForm) -> None:
    finding = finding_of(text, form)
    assert (finding.violation is None) != (finding.final_answer is None)


@given(TEXTS.filter(lambda text: "<think>" not in text and "</think>" not in text), TEXTS.filter(lambda text: "think>" not in text), FORMS)
def test_a_wrapped_text_is_judged_by_its_answer_alone(thinking: str, answer: str, form: AnswerForm) -> None:
    final = find_final_answer(answer, form)
    missing = Violation.NO_BOXED_ANSWER if form is AnswerForm.BOX else Violation.NO_CODE_BLOCK
    assert finding_of(f"<think>{thinking}</think>{answer}", form) == FormatFinding(missing if final is None else None, final)


@given(TEXTS, FORMS)
def test_without_the_gate_nothing_is_a_violation(text: str, form: AnswerForm) -> None:
    assert finding_of(text, form, gate=False).violation is None


@given(TEXTS, FORMS)
def test_what_the_gate_lets_through_is_what_is_found_without_it(text: str, form: AnswerForm) -> None:
    finding = finding_of(text, form)
    if finding.violation is None:
        assert finding_of(text, form, gate=False) == finding


@pytest.mark.parametrize("violation", list(Violation)[:4])
@pytest.mark.parametrize("form", AnswerForm)
def test_tags_come_before_the_answer(violation: Violation, form: AnswerForm) -> None:
    answer = "\\boxed{1}\n```python\n1\n```"
    for text in ("", answer):
        assert format_gate(Completion("", text, violation), form) == FormatFinding(violation, None)
