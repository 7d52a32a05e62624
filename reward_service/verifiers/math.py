r"""Math: is the boxed answer equal to the reference? For example `\frac{1}{2}` and `0.5`."""

from __future__ import annotations

from dataclasses import dataclass

from reward_service.effects import Effects, Task
from reward_service.errors import BadReference, JobKilled
from reward_service.records import AnswerForm, FinalAnswer, MathReference, Verdict
from reward_service.scoring.equivalence.compare import Comparison, Prepared, compare_answers, prepare_gold
from reward_service.verifiers.base import GroupContext, Judge

CPU_S = 2.0
MAX_SHOWN_CHARS = 500  # of an answer in a grade's detail
PREPARE: Task[Prepared] = Task(prepare_gold, Prepared, CPU_S)
COMPARE: Task[Comparison] = Task(compare_answers, Comparison, CPU_S)


@dataclass(frozen=True, slots=True)
class MathVerifier:
    """Compares in killable workers: a reference alone first, then each answer with it."""

    answer_form: AnswerForm = AnswerForm.BOX

    async def prepare(self, reference: MathReference, context: GroupContext, effects: Effects) -> Judge:
        """Read every answer of the reference and compare it with itself.

        Raises:
            BadReference: the dataset's fault: one of its answers is empty, malformed, unequal to itself, or too costly to read.
            NotScored: ours.
        """
        if not reference.answers:
            raise BadReference("no answer")
        for answer in reference.answers:
            try:
                prepared = await effects.workers.run(PREPARE, answer)
            except JobKilled as error:
                raise BadReference(f"the reference's answer could not be read: {error.cause}") from error
            if prepared.cause is not None:
                raise BadReference(f"the reference's answer cannot be used: {prepared.cause}")
        return _MathJudge(list(reference.answers), effects)


class _MathJudge:
    """Judges one group's answers; the same answer is compared once."""

    def __init__(self, golds: list[str], effects: Effects) -> None:
        self._golds = golds
        self._effects = effects
        self._known: dict[str, Verdict] = {}

    async def __call__(self, final_answer: FinalAnswer) -> Verdict:
        """1 if equal to any answer of the reference, else 0."""
        if not isinstance(final_answer, str):
            raise TypeError("math answers are text")
        verdict = self._known.get(final_answer)
        if verdict is None:
            verdict = self._known[final_answer] = await self._compare(final_answer)
        return verdict

    async def _compare(self, answer: str) -> Verdict:
        shown = answer[:MAX_SHOWN_CHARS]
        try:
            found = await self._effects.workers.run(COMPARE, self._golds, answer, list(self._effects.math_conventions))
        except JobKilled as error:
            # The reference was read within its bounds before, so what broke them now is the answer.
            return Verdict(0.0, {"answer": shown}, {"answer": shown, "rule": f"limit:{error.cause}"})
        full = {"answer": shown, "rule": found.rule, "gold_form": found.gold_form, "answer_form": found.answer_form}
        if found.witness:
            full["witness"] = found.witness
        return Verdict(1.0 if found.equal else 0.0, {"answer": shown}, full)
