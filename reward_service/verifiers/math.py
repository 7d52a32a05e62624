r"""Math: is the boxed answer equal to the reference? For example `\frac{1}{2}` and `0.5`."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import cast

from reward_service.effects import Effects, Task
from reward_service.errors import BadReference, JobKilled, NotScored
from reward_service.records import AnswerForm, FinalAnswer, MathReference, Verdict
from reward_service.scoring.equivalence.compare import Comparison, Prepared, compare_answers, prepare_gold
from reward_service.scoring.equivalence.lightly import compare_lightly, prepare_lightly
from reward_service.verifiers.base import GroupContext, Judge
from reward_service.verifiers.tiers import run_lightly_first

CPU_S = 2.0
MAX_SHOWN_CHARS = 500  # of an answer in a grade's detail
CHUNK_ANSWERS, CHUNK_CHARS = 32, 4_000  # of one task: about a millisecond of the commonest answers
FLIGHTS = 4  # chunks of one group that may be under way at a time
PREPARE: Task[Prepared | None] = Task(prepare_lightly, cast(type[Prepared | None], Prepared | None), CPU_S)
PREPARE_FULLY: Task[Prepared] = Task(prepare_gold, Prepared, CPU_S, heavy=True)
COMPARE: Task[list[Comparison | None]] = Task(compare_lightly, list[Comparison | None], CPU_S)
COMPARE_FULLY: Task[Comparison] = Task(compare_answers, Comparison, CPU_S, heavy=True)


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
                prepared = await run_lightly_first(effects.workers, PREPARE, PREPARE_FULLY, answer)
            except JobKilled as error:
                raise BadReference(f"the reference's answer could not be read: {error.cause}") from error
            if prepared.cause is not None:
                raise BadReference(f"the reference's answer cannot be used: {prepared.cause}")
        return _MathJudge(list(reference.answers), effects, alone=context.rollouts == 1)


class _MathJudge:
    """Judges one group's answers; the same answer is compared once, and those that come while others are judged go in chunks."""

    def __init__(self, golds: list[str], effects: Effects, *, alone: bool = False) -> None:
        self._golds = golds
        self._alone = alone  # there is one answer only, which needs no flight to be shared
        self._effects = effects
        self._verdicts: dict[str, asyncio.Future[Verdict]] = {}
        self._waiting: deque[str] = deque()
        self._flights: set[asyncio.Task[None]] = set()

    async def __call__(self, final_answer: FinalAnswer) -> Verdict:
        """1 if equal to any answer of the reference, else 0."""
        if not isinstance(final_answer, str):
            raise TypeError("math answers are text")
        if self._alone:
            return (await self._judged([final_answer]))[0]
        verdict = self._verdicts.get(final_answer)
        if verdict is None:
            loop = asyncio.get_running_loop()
            verdict = self._verdicts[final_answer] = loop.create_future()
            verdict.add_done_callback(_look_at)
            self._waiting.append(final_answer)
            if len(self._flights) < FLIGHTS:
                flight = loop.create_task(self._fly())
                self._flights.add(flight)
                flight.add_done_callback(self._flights.discard)
        return await asyncio.shield(verdict)

    async def _fly(self) -> None:
        while self._waiting:
            chunk = self._next_chunk()
            try:
                verdicts = await self._judged(chunk)
                for answer, verdict in zip(chunk, verdicts, strict=True):
                    self._verdicts[answer].set_result(verdict)
            except NotScored as error:
                for answer in chunk:
                    self._verdicts[answer].set_exception(error)
            finally:
                for answer in chunk:
                    self._verdicts[answer].cancel()  # only where this flight itself was ended

    def _next_chunk(self) -> list[str]:
        chunk = [self._waiting.popleft()]
        chars = len(chunk[0])
        while self._waiting and len(chunk) < CHUNK_ANSWERS and chars + len(self._waiting[0]) <= CHUNK_CHARS:
            chunk.append(self._waiting.popleft())
            chars += len(chunk[-1])
        return chunk

    async def _judged(self, chunk: list[str]) -> list[Verdict]:
        """One verdict for each; what stops a chunk of several is found by comparing each alone."""
        conventions = list(self._effects.math_conventions)
        try:
            found = await self._effects.workers.run(COMPARE, self._golds, chunk, conventions)
        except JobKilled as error:
            if len(chunk) == 1:
                # The reference was read within its bounds before, so what broke them now is the answer.
                return [_stopped(chunk[0], error)]
            return [verdict for answer in chunk for verdict in await self._judged([answer])]
        return [
            _verdict(answer, comparison) if comparison is not None else await self._compared_fully(answer)
            for answer, comparison in zip(chunk, found, strict=True)
        ]

    async def _compared_fully(self, answer: str) -> Verdict:
        try:
            return _verdict(
                answer, await self._effects.workers.run(COMPARE_FULLY, self._golds, answer, list(self._effects.math_conventions))
            )
        except JobKilled as error:
            return _stopped(answer, error)


def _look_at(verdict: asyncio.Future[Verdict]) -> None:
    """Mark an exception as seen: whoever asked may have gone."""
    if not verdict.cancelled():
        verdict.exception()


def _verdict(answer: str, found: Comparison) -> Verdict:
    shown = answer[:MAX_SHOWN_CHARS]
    full = {"answer": shown, "rule": found.rule, "gold_form": found.gold_form, "answer_form": found.answer_form}
    if found.witness:
        full["witness"] = found.witness
    return Verdict(1.0 if found.equal else 0.0, {"answer": shown}, full)


def _stopped(answer: str, error: JobKilled) -> Verdict:
    shown = answer[:MAX_SHOWN_CHARS]
    return Verdict(0.0, {"answer": shown}, {"answer": shown, "rule": f"limit:{error.cause}"})
