"""The pipeline over inline effects: outcomes, blame, order, groups."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from reward_service.effects import Effects
from reward_service.errors import BadReference, Cancelled, DeadlineExceeded, JobKilled, NoSandbox, NotScored, Overloaded, WorkerLost
from reward_service.pipeline import grade_groups, in_order, summarize
from reward_service.records import (
    ChoiceReference,
    CodeReference,
    DetailLevel,
    Grade,
    Group,
    LanguageFinding,
    MathReference,
    Outcome,
    ProgramTest,
    Reason,
    Rollout,
    Terms,
)
from reward_service.scoring.scheme import SCHEMES, Scheme, resolve_scheme
from sandbox.fake import FakeSandbox
from sandbox.interface import RunResult, Status
from tests.effects_for_tests import BrokenSandbox, InlineWorkers, effects

MAGISTRAL = SCHEMES["magistral"]
PLAIN = SCHEMES["correctness-only"]
RIGHT = "<think>\nSix times seven.\n</think>\nThe answer is \\boxed{42}."
WRONG = RIGHT.replace("42", "41")


def group(task: str, reference: object, *completions: str, name: str = "g", **more: object) -> Group:
    rollouts = tuple(Rollout(str(index), text, 100) for index, text in enumerate(completions))
    return Group(name, task, reference, rollouts, prompt="What is six times seven?", **more)  # type: ignore[arg-type]


def math(*completions: str, name: str = "g") -> Group:
    return group("math", MathReference(("42",)), *completions, name=name)


def code(*completions: str) -> Group:
    return group("code", CodeReference((ProgramTest("1", "1"), ProgramTest("2", "2"))), *completions)


async def grades_of(
    groups: Sequence[Group], scheme: Scheme = MAGISTRAL, given: Effects | None = None, detail: DetailLevel = DetailLevel.BRIEF
) -> list[Grade]:
    found = [grade async for grade in grade_groups(groups, scheme, given or effects(), detail)]
    return in_order(groups, found)


async def test_each_outcome_has_its_reward() -> None:
    right, wrong, bad = await grades_of([math(RIGHT, WRONG, "no tags \\boxed{42}")])
    assert (right.outcome, right.reward, right.terms) == (Outcome.CORRECT, 1.1, Terms(0.1, 0.9, 0.0, 0.1))
    assert (wrong.outcome, wrong.reward, wrong.correctness) == (Outcome.INCORRECT, 0.2, 0.0)
    assert (bad.outcome, bad.reward, bad.correctness, bad.terms) == (Outcome.FORMAT_VIOLATION, 0.0, 0.0, Terms(0.0, 0.0, 0.0, 0.0))
    assert bad.detail == {"violation": "no_opening_tag"}
    assert right.detail == {"answer": "42"}


async def test_another_language_costs_its_term_and_nothing_else() -> None:
    (grade,) = await grades_of([math(RIGHT)], given=effects(consistent=False))
    assert grade.terms == Terms(0.1, 0.9, 0.0, 0.0)


async def test_the_length_term_uses_the_tokens_of_the_request() -> None:
    scheme = resolve_scheme({"base": "magistral", "l_max": 150, "l_cache": 100})
    (grade,) = await grades_of([math(RIGHT)], scheme)
    assert grade.terms == Terms(0.1, 0.9, -0.05, 0.1)


async def test_without_the_gate_nothing_is_a_violation() -> None:
    right, none, empty = await grades_of([math("\\boxed{42}", "forty-two", "")], PLAIN)
    assert (right.outcome, right.reward) == (Outcome.CORRECT, 1.0)
    assert (none.outcome, none.reward, none.detail) == (Outcome.INCORRECT, 0.0, {"answer": None})
    assert (empty.outcome, empty.reward) == (Outcome.INCORRECT, 0.0)


async def test_choice_goes_the_same_way() -> None:
    reference = ChoiceReference("B", ("1", "42"))
    right, wrong = await grades_of([group("choice", reference, RIGHT.replace("42", "B"), RIGHT.replace("42", "A"))])
    assert (right.outcome, wrong.outcome) == (Outcome.CORRECT, Outcome.INCORRECT)


async def test_code_goes_the_same_way() -> None:
    block = "<think>t</think>\n```python\nprint(input())\n```"
    right, none = await grades_of([code(block, "<think>t</think> no code")])
    assert (right.outcome, right.reward) == (Outcome.CORRECT, 1.1)
    assert none.detail == {"violation": "no_code_block"}


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (NoSandbox(), Reason.SANDBOX_UNAVAILABLE),
        (DeadlineExceeded(), Reason.DEADLINE),
        (Overloaded(), Reason.OVERLOADED),
        (Cancelled(), Reason.CANCELLED),
        (WorkerLost(), Reason.WORKER_LOST),
        (RuntimeError("a bug of ours"), Reason.WORKER_LOST),
    ],
)
async def test_what_is_not_the_completions_fault_is_never_a_zero(failure: Exception, reason: Reason) -> None:
    block = "<think>t</think>\n```python\nprint(1)\n```"
    bad_format, grade = await grades_of([code("none", block)], given=effects(BrokenSandbox(failure)))
    assert (grade.outcome, grade.reward, grade.correctness, grade.terms) == (Outcome.UNSCORED, None, None, None)
    assert grade.detail == {"reason": reason.value}
    assert bad_format.outcome is Outcome.FORMAT_VIOLATION  # decided before the sandbox was asked


async def test_a_bug_of_ours_anywhere_is_unscored_and_never_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a bug of ours")

    monkeypatch.setattr("reward_service.pipeline.compose", broken)
    (grade,) = await asyncio.wait_for(grades_of([math(RIGHT)]), 30)
    assert grade.detail == {"reason": "worker_lost"}
    (grade,) = await asyncio.wait_for(grades_of([group("no such task", MathReference(("1",)), RIGHT)]), 30)
    assert grade.detail == {"reason": "worker_lost"}


async def test_a_bug_of_ours_is_logged_by_kind_and_place_alone(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> None:
        raise ValueError("secret completion text")

    monkeypatch.setattr("reward_service.pipeline.compose", broken)
    await grades_of([math(RIGHT)])
    assert "ValueError" in caplog.text
    assert "test_pipeline.py" in caplog.text
    assert "secret" not in caplog.text


async def test_a_slow_verdict_is_never_late_for_its_language_term() -> None:
    """A rollout whose program has run has started: no deadline may fall between its verdict and its other terms."""
    order: list[str] = []
    given = effects()

    async def judge_language(*args: object) -> LanguageFinding:
        order.append("language")
        return LanguageFinding(True, {})

    class Noted(FakeSandbox):
        async def run(self, job, **given):  # type: ignore[no-untyped-def]
            order.append("program")
            async for result in super().run(job, **given):
                yield result

    noted = Effects(given.workers, Noted(), judge_language)  # type: ignore[arg-type]
    await grades_of([code("<think>t</think>\n```python\nprint(input())\n```")], given=noted)
    assert order == ["language", "program"]


async def test_full_detail_says_more_of_an_unscored_one() -> None:
    block = "<think>t</think>\n```python\nprint(1)\n```"
    (grade,) = await grades_of([code(block)], given=effects(BrokenSandbox(WorkerLost("five times"))), detail=DetailLevel.FULL)
    assert grade.detail == {"reason": "worker_lost", "message": "five times"}


async def test_a_bad_reference_is_the_whole_groups_and_nobody_elses() -> None:
    bad = group("math", MathReference(("\\frac{1}{",)), RIGHT, "no tags", name="bad")
    grades = await grades_of([bad, math(RIGHT, name="good")])
    assert [grade.outcome for grade in grades] == [Outcome.UNSCORED, Outcome.UNSCORED, Outcome.CORRECT]
    assert grades[0].detail == {"reason": "bad_reference"}


async def test_a_comparison_that_is_killed_is_the_completions_failure() -> None:
    class KilledLater(InlineWorkers):
        async def run(self, task, *args):  # type: ignore[no-untyped-def]
            if "prepare" in task.function.__name__:
                return await super().run(task, *args)
            raise JobKilled("cpu_limit")

    (grade,) = await grades_of([math(RIGHT)], given=effects(workers=KilledLater()))
    assert (grade.outcome, grade.reward) == (Outcome.INCORRECT, 0.2)


async def test_a_reference_that_is_killed_is_a_bad_reference() -> None:
    (grade,) = await grades_of([math(RIGHT)], given=effects(workers=InlineWorkers(JobKilled("cpu_limit"))))
    assert grade.detail == {"reason": "bad_reference"}


async def test_grades_leave_as_they_are_known() -> None:
    class Slow(FakeSandbox):
        async def run(self, job, **given):  # type: ignore[no-untyped-def]
            await asyncio.sleep(0.05)
            yield RunResult(0, Status.FINISHED, stdout=b"1")
            yield RunResult(1, Status.FINISHED, stdout=b"2")

    groups = [code("<think>t</think>\n```python\nx\n```"), math(RIGHT, name="m")]
    order = [grade.group_id async for grade in grade_groups(groups, MAGISTRAL, effects(Slow()))]
    assert order == ["m", "g"]
    assert [grade.group_id for grade in await grades_of(groups, given=effects(Slow()))] == ["g", "m"]


async def test_closing_the_iterator_stops_the_work() -> None:
    started, stopped = asyncio.Event(), asyncio.Event()

    class Endless(FakeSandbox):
        async def run(self, job, **given):  # type: ignore[no-untyped-def]
            started.set()
            try:
                await asyncio.sleep(60)
            finally:
                stopped.set()
            yield RunResult(0, Status.FINISHED)

    grades = grade_groups([code("<think>t</think>\n```python\nx\n```"), math(RIGHT, name="m")], MAGISTRAL, effects(Endless()))
    await anext(grades)
    await started.wait()
    await grades.aclose()
    assert stopped.is_set()


async def test_no_groups_no_grades() -> None:
    assert await grades_of([]) == []


def grade(reward: float | None, group_id: str = "g") -> Grade:
    outcome = Outcome.UNSCORED if reward is None else Outcome.INCORRECT
    return Grade(group_id, "r", outcome, reward, None, None, {})


@pytest.mark.parametrize(
    ("rewards", "mean", "deviation", "flat"),
    [
        ([], None, None, None),
        ([None, None], None, None, None),
        ([1.0], 1.0, 0.0, None),
        ([1.0, None], 1.0, 0.0, None),
        ([1.0, 1.0, None], 1.0, 0.0, True),
        ([0.0, 1.0], 0.5, 0.5, False),
        ([0.0, 0.0], 0.0, 0.0, True),
        ([0.1, 0.2, 1.1, 1.1], 0.625, 0.476313972081441, False),
    ],
)
def test_group_statistics(rewards: list[float | None], mean: float | None, deviation: float | None, flat: bool | None) -> None:
    (summary,) = summarize([math(*([RIGHT] * len(rewards)))], [grade(reward) for reward in rewards])
    assert summary.rollouts == len(rewards)
    assert summary.scored == sum(reward is not None for reward in rewards)
    assert summary.reward_mean == mean
    assert summary.reward_std == pytest.approx(deviation)
    assert summary.zero_advantage is flat


def test_every_reason_has_an_error() -> None:
    reasons = {error.reason for error in NotScored.__subclasses__()}
    assert reasons == set(Reason)
    assert issubclass(BadReference, NotScored)
