r"""Multiple choice: does the boxed answer name the right choice? For example `(C)` or the choice's own text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from reward_service.effects import Effects, Task
from reward_service.errors import BadReference, JobKilled
from reward_service.records import AnswerForm, ChoiceReference, FinalAnswer, Verdict
from reward_service.scoring.equivalence.choices import ChoiceFinding, PreparedChoice, judge_choice, prepare_choice
from reward_service.scoring.equivalence.lightly import judge_choice_lightly, prepare_choice_lightly
from reward_service.verifiers.base import GroupContext, Judge
from reward_service.verifiers.tiers import run_lightly_first

CPU_S = 2.0
MAX_SHOWN_CHARS = 500  # of an answer in a grade's detail
PREPARE: Task[PreparedChoice | None] = Task(prepare_choice_lightly, cast(type[PreparedChoice | None], PreparedChoice | None), CPU_S)
PREPARE_FULLY: Task[PreparedChoice] = Task(prepare_choice, PreparedChoice, CPU_S, heavy=True)
JUDGE: Task[ChoiceFinding | None] = Task(judge_choice_lightly, cast(type[ChoiceFinding | None], ChoiceFinding | None), CPU_S)
JUDGE_FULLY: Task[ChoiceFinding] = Task(judge_choice, ChoiceFinding, CPU_S, heavy=True)


@dataclass(frozen=True, slots=True)
class ChoiceVerifier:
    """Reads letters and texts in killable workers."""

    answer_form: AnswerForm = AnswerForm.BOX

    async def prepare(self, reference: ChoiceReference, context: GroupContext, effects: Effects) -> Judge:
        """Find the right choice.

        Raises:
            BadReference: the dataset's fault: it names no choice, or one that is not there.
            NotScored: ours.
        """
        try:
            asked = (reference.answer, list(reference.choices))
            prepared = await run_lightly_first(effects.workers, PREPARE, PREPARE_FULLY, *asked)
        except JobKilled as error:
            raise BadReference(f"the reference could not be read: {error.cause}") from error
        if prepared.cause is not None:
            raise BadReference(f"the reference cannot be used: {prepared.cause}")
        return _ChoiceJudge(reference, prepared.letter, effects)


@dataclass(frozen=True, slots=True)
class _ChoiceJudge:
    """Judges one group's answers."""

    reference: ChoiceReference
    letter: str
    effects: Effects

    async def __call__(self, final_answer: FinalAnswer) -> Verdict:
        """1 if the answer names the right choice and no other, else 0."""
        if not isinstance(final_answer, str):
            raise TypeError("choice answers are text")
        shown = final_answer[:MAX_SHOWN_CHARS]
        arguments = (self.reference.answer, self.letter, list(self.reference.choices), final_answer)
        try:
            found = await run_lightly_first(self.effects.workers, JUDGE, JUDGE_FULLY, *arguments)
        except JobKilled as error:
            return Verdict(0.0, {"answer": shown}, {"answer": shown, "rule": f"limit:{error.cause}"})
        full = {"answer": shown, "rule": found.rule, "gold_form": found.gold_form, "answer_form": found.answer_form}
        return Verdict(1.0 if found.equal else 0.0, {"answer": shown}, full)
