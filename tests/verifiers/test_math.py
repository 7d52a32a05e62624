"""The math verifier: whose fault it is when something does not end."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from reward_service.effects import Effects, R, Task
from reward_service.errors import BadReference, JobKilled, WorkerLost
from reward_service.records import AnswerForm, CodeBlock, DetailLevel, MathReference, Verdict
from reward_service.verifiers.base import GroupContext
from reward_service.verifiers.math import COMPARE, COMPARE_FULLY, PREPARE, MathVerifier
from reward_service.worker_tiers import TieredPool

CONTEXT = GroupContext(group_id="g", seed=0, fraction=False, detail=DetailLevel.FULL)


class Workers:
    """Runs tasks inline; `failures` are raised for the tasks they are given for. Counts comparisons."""

    def __init__(self, **failures: Exception) -> None:
        self.failures = failures
        self.compared = 0

    async def run(self, task: Task[R], *args: object) -> R:
        self.compared += task is COMPARE
        name = "prepare" if task is PREPARE else "compare"
        if name in self.failures:
            raise self.failures[name]
        return task.function(*args)


def grade(answers: tuple[str, ...], *finals: Any, workers: Any = None) -> list[Verdict]:
    effects = Effects(workers=workers or Workers(), sandbox=None, judge_language=None)  # type: ignore[arg-type]

    async def run() -> list[Verdict]:
        judge = await MathVerifier().prepare(MathReference(answers), CONTEXT, effects)
        return [await judge(final) for final in finals]

    return asyncio.run(run())


def test_right_and_wrong_answers() -> None:
    right, wrong = grade((r"\frac{1}{2}",), "0.5", "0.51")
    assert (right.correctness, wrong.correctness) == (1.0, 0.0)
    assert right.brief == {"answer": "0.5"}
    assert right.full == {"answer": "0.5", "rule": "exact", "gold_form": "1/2", "answer_form": "1/2"}
    assert wrong.full["witness"] == "0.5 against 0.51"


def test_answers_that_come_together_are_judged_in_chunks_and_alone_where_one_stops_a_chunk() -> None:
    calls: list[list[str]] = []

    class Stopped(Workers):
        async def run(self, task: Task[R], *args: object) -> R:
            if task is COMPARE:
                answers = cast(list[str], args[1])
                calls.append(answers)
                await asyncio.sleep(0)
                if "bomb" in answers:
                    raise JobKilled("cpu_limit")
            return await super().run(task, *args)

    async def run() -> list[Verdict]:
        effects = Effects(workers=Stopped(), sandbox=None, judge_language=None)  # type: ignore[arg-type]
        judge = await MathVerifier().prepare(MathReference(("1",)), CONTEXT, effects)
        return await asyncio.gather(*(judge(answer) for answer in ("1", "2", "bomb", "3", "1.0", "1", "2", "1/1", "4", "5")))

    verdicts = asyncio.run(run())
    assert [verdict.correctness for verdict in verdicts] == [1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0]
    assert verdicts[2].full["rule"] == "limit:cpu_limit"
    assert max(map(len, calls)) > 1
    assert ["bomb"] in calls
    assert sorted({answer for call in calls for answer in call}) == sorted({"1", "2", "bomb", "3", "1.0", "1/1", "4", "5"})


def test_what_needs_sympy_is_asked_of_a_worker_that_holds_it() -> None:
    asked: list[Task[Any]] = []

    class Listening(Workers):
        async def run(self, task: Task[R], *args: object) -> R:
            asked.append(task)
            return await super().run(task, *args)

    verdicts = grade((r"\frac{1}{2}",), r"\int_0^1 x dx", "0.5", workers=Listening())
    assert [verdict.correctness for verdict in verdicts] == [1.0, 1.0]
    assert asked == [PREPARE, COMPARE, COMPARE_FULLY, COMPARE]
    assert (COMPARE_FULLY.heavy, COMPARE.heavy) == (True, False)


def test_any_of_several_answers() -> None:
    assert [verdict.correctness for verdict in grade(("1", "2"), "2", "1", "3")] == [1.0, 1.0, 0.0]


def test_the_same_answer_is_compared_once() -> None:
    workers = Workers()
    grade(("1",), "1", "1", "2", "1", workers=workers)
    assert workers.compared == 2


@pytest.mark.parametrize("answers", [("",), ("1", r"\frac{1}{"), ("1/0",), ("x" * 5000,), ()])
def test_a_bad_reference_is_the_datasets_fault(answers: tuple[str, ...]) -> None:
    with pytest.raises(BadReference) as caught:
        grade(answers, "1")
    assert "xxx" not in str(caught.value)


@pytest.mark.parametrize("cause", ["cpu_limit", "wall_limit", "memory_limit", "signal", "exception"])
def test_a_limit_is_the_references_fault_first_and_the_answers_afterwards(cause: str) -> None:
    with pytest.raises(BadReference, match=cause):
        grade(("1",), "1", workers=Workers(prepare=JobKilled(cause)))
    (verdict,) = grade(("1",), "2", workers=Workers(compare=JobKilled(cause)))
    assert verdict == Verdict(0.0, {"answer": "2"}, {"answer": "2", "rule": f"limit:{cause}"})


@pytest.mark.parametrize("when", ["prepare", "compare"])
def test_a_lost_worker_is_ours(when: str) -> None:
    with pytest.raises(WorkerLost):
        grade(("1",), "1", workers=Workers(**{when: WorkerLost("lost")}))


def test_details_are_bounded() -> None:
    (verdict,) = grade(("1",), "9" * 100_000)
    assert verdict.brief == {"answer": "9" * 500}
    assert verdict.full["rule"] == "limit:max_chars"
    assert all(len(str(value)) <= 500 for value in verdict.full.values())


def test_a_code_block_is_no_math_answer() -> None:
    assert MathVerifier().answer_form is AnswerForm.BOX
    with pytest.raises(TypeError):
        grade(("1",), CodeBlock("python", "1"))


def test_in_real_workers() -> None:
    async def run() -> list[float]:
        pool = TieredPool(1, 268_435_456)
        await pool.start()
        light = set(pool.pids)
        try:
            effects = Effects(workers=pool, sandbox=None, judge_language=None)  # type: ignore[arg-type]
            judge = await MathVerifier().prepare(MathReference((r"\sqrt{3+2\sqrt{2}}",)), CONTEXT, effects)
            answers = [r"1+\sqrt2", "2.414", "\ud800", "9^9^9^9^9", r"\int_0^1 x dx"]
            found = [(await judge(answer)).correctness for answer in answers]
            assert light < set(pool.pids)  # the integral asked for more
            return found
        finally:
            await pool.close()

    assert asyncio.run(run()) == [1.0, 0.0, 0.0, 0.0, 0.0]
