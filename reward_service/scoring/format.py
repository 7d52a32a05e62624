"""The format gate: a completion that fails it earns a reward of 0, and nothing else about it is graded."""

from __future__ import annotations

from reward_service.records import AnswerForm, Completion, FinalAnswer, FormatFinding, Violation
from reward_service.scoring.equivalence.extract import last_boxed
from reward_service.scoring.programs.extract import first_code_block

_NOTHING_FOUND = {AnswerForm.BOX: Violation.NO_BOXED_ANSWER, AnswerForm.CODE_BLOCK: Violation.NO_CODE_BLOCK}


def format_gate(completion: Completion, form: AnswerForm) -> FormatFinding:
    """The first violation in the declared order, or the final answer: exactly one of the two (Magistral, arXiv 2506.10910v1, 2.2.1).

    What is wrong with the tags comes before what is missing in the answer section, and hides it. Linear in the completion's length.
    """
    if completion.violation is not None:
        return FormatFinding(completion.violation, None)
    final_answer = find_final_answer(completion.answer, form)
    return FormatFinding(_NOTHING_FOUND[form] if final_answer is None else None, final_answer)


def find_final_answer(answer: str, form: AnswerForm) -> FinalAnswer | None:
    """The last box's content or the first code block of an answer section, or None; all that a scheme without a gate asks for."""
    return last_boxed(answer) if form is AnswerForm.BOX else first_code_block(answer)
