"""Binding effects to a request: turns, deadlines, runners that are lost, machines without isolation."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from reward_service.effects import Effects, Talker, Task
from reward_service.errors import DeadlineExceeded, JobKilled, NoSandbox, WorkerLost
from reward_service.langid import LanguageModelUnusable, load_second_opinion
from reward_service.settings import Settings
from reward_service.wiring import RUNNER_LOSSES, Machine, build_machine
from sandbox.fake import FakeSandbox, FakeSession
from sandbox.interface import Job, RunnerLost, RunResult, SandboxUnavailable, Status, TestInput
from sandbox.namespaces.backend import NamespacesSandbox
from sandbox.pool import Pool
from tests.server.doubles import BrokenSandbox, InlinePool

JOB = Job("python", "print(input())", tuple(TestInput(str(number).encode()) for number in range(4)))


def double(value: int) -> int:
    return 2 * value


class Losing(FakeSandbox):
    """Loses its runner before the given result, as often as told."""

    def __init__(self, losses: list[int]) -> None:
        super().__init__()
        self.losses = losses

    async def run(self, job: Job) -> AsyncGenerator[RunResult, None]:
        if job is not JOB:  # the canaries of the start
            yield RunResult(0, Status.FINISHED)
            return
        loses_at = self.losses.pop(0) if self.losses else None
        self.jobs.append(job)
        for index in range(len(job.inputs)):
            if index == loses_at:
                raise RunnerLost("killed")
            yield RunResult(index, Status.FINISHED, stdout=job.inputs[index].stdin)


async def started(sandbox: FakeSandbox | None = None, pool: InlinePool | None = None, **settings: Any) -> Machine:
    machine = Machine(Settings(**settings), pool or InlinePool(), sandbox or FakeSandbox())
    await machine.start()
    return machine


async def results(effects: Effects, job: Job = JOB) -> list[RunResult]:
    return [result async for result in effects.sandbox.run(job)]


def soon() -> float:
    return asyncio.get_running_loop().time() + 60


def killing(cause: str, message: str = "") -> Callable[..., Any]:
    def run(*_: object) -> Any:
        raise JobKilled(cause, message)

    return run


async def test_results_pass_through() -> None:
    machine = await started()
    found = await results(machine.effects("a", soon()))
    assert [result.index for result in found] == [0, 1, 2, 3]
    assert machine.sandbox_turns.busy == 0


@pytest.mark.parametrize("losses", [[0], [2], [3, 1], [1, 2, 3, 0]])
async def test_a_lost_runner_changes_no_result(losses: list[int]) -> None:
    count = len(losses)
    sandbox = Losing(losses)
    machine = await started(sandbox)
    found = await results(machine.effects("a", soon()))
    assert [(result.index, result.stdout) for result in found] == [(k, str(k).encode()) for k in range(4)]
    assert all(job is JOB for job in sandbox.jobs), "inputs keep their places, on which what they see may depend"
    assert machine.runner_losses == count


async def test_a_runner_that_is_always_lost_is_given_up() -> None:
    sandbox = Losing([1] * 10)
    machine = await started(sandbox)
    with pytest.raises(WorkerLost):
        await results(machine.effects("a", soon()))
    assert len(sandbox.jobs) == RUNNER_LOSSES
    assert machine.sandbox_turns.busy == 0


async def test_a_canary_that_gets_out_closes_the_sandbox() -> None:
    machine = await started(FakeSandbox(lambda job, index: RunResult(index, Status.FINISHED, stdout=b"escaped: read /etc/shadow\n")))
    with pytest.raises(NoSandbox, match="/etc/shadow"):
        await results(machine.effects("a", soon()))
    assert machine.readiness()["ready"] is False


async def test_a_second_run_that_ends_early_is_no_result() -> None:
    class Odd(Losing):
        async def run(self, job: Job) -> AsyncGenerator[RunResult, None]:
            if len(self.jobs) == 1:
                self.jobs.append(job)
                yield RunResult(None, Status.COMPILE_ERROR)
                return
            async for result in super().run(job):
                yield result

    machine = await started(Odd([3]))
    assert [result.index for result in await results(machine.effects("a", soon()))] == [0, 1, 2, 3]


async def test_closing_the_results_gives_the_slot_back() -> None:
    machine = await started(FakeSandbox(slots=1))
    run = machine.effects("a", soon()).sandbox.run(JOB)
    await anext(run)
    assert machine.sandbox_turns.busy == 1
    await run.aclose()
    assert machine.sandbox_turns.busy == 0


async def test_what_has_not_started_by_the_deadline_does_not_start() -> None:
    machine = await started()
    effects = machine.effects("a", asyncio.get_running_loop().time() - 1)
    with pytest.raises(DeadlineExceeded):
        await results(effects)
    with pytest.raises(DeadlineExceeded):
        await effects.workers.run(Task(double, int), 1)


async def test_what_has_started_is_run_again_after_the_deadline() -> None:
    sandbox = Losing([1])
    machine = await started(sandbox)
    effects = machine.effects("a", asyncio.get_running_loop().time() + 0.05)
    run = effects.sandbox.run(JOB)
    first = await anext(run)
    await asyncio.sleep(0.1)
    assert [first.index, *[result.index async for result in run]] == [0, 1, 2, 3]


class LosingTalks(FakeSandbox):
    """Loses its runner while it talks, as often as told."""

    def __init__(self, losses: int) -> None:
        super().__init__(lambda job, index: RunResult(index, Status.FINISHED))
        self.losses = losses
        self.talks = 0

    @contextlib.asynccontextmanager
    async def talk(self, *jobs: Job) -> AsyncGenerator[tuple[FakeSession | RunResult, ...], None]:
        self.talks += 1
        async with super().talk(*jobs) as sessions:
            yield sessions
            if self.talks <= self.losses:
                raise RunnerLost("killed")


async def said(one: Talker, other: Talker) -> tuple[bytes, bytes]:
    assert not isinstance(one, RunResult)
    assert not isinstance(other, RunResult)
    return await one.receive(), await other.receive()


async def test_a_conversation_holds_a_slot_and_gives_it_back() -> None:
    machine = await started(FakeSandbox(talker=lambda job: FakeSession([job.source.encode()])))

    async def conversation(one: Talker, other: Talker) -> tuple[bytes, bytes]:
        assert machine.sandbox_turns.busy == 1
        return await said(one, other)

    talk = machine.effects("a", soon()).sandbox.talk
    assert await talk(conversation, JOB, Job("python", "other", ())) == (b"print(input())", b"other")
    assert machine.sandbox_turns.busy == 0


@pytest.mark.parametrize("losses", [0, 1, RUNNER_LOSSES - 1])
async def test_a_conversation_is_held_again_where_a_runner_is_lost(losses: int) -> None:
    sandbox = LosingTalks(losses)
    machine = await started(sandbox)
    assert await machine.effects("a", soon()).sandbox.talk(said, JOB, JOB) == (b"", b"")
    assert (sandbox.talks, machine.runner_losses) == (losses + 1, losses)


async def test_a_conversation_whose_runner_is_always_lost_is_given_up() -> None:
    machine = await started(LosingTalks(99))
    with pytest.raises(WorkerLost):
        await machine.effects("a", soon()).sandbox.talk(said, JOB, JOB)
    assert machine.sandbox_turns.busy == 0


async def test_a_conversation_starts_before_the_deadline_or_goes_on_after_it() -> None:
    machine = await started()
    late = machine.effects("a", asyncio.get_running_loop().time() - 1).sandbox
    with pytest.raises(DeadlineExceeded):
        await late.talk(said, JOB, JOB)
    assert await late.talk(said, JOB, JOB, started=True) == (b"", b"")


async def test_without_isolation_the_machine_starts_and_says_why() -> None:
    machine = await started(BrokenSandbox())
    readiness = machine.readiness()
    assert readiness["ready"] is False
    assert "user namespaces are off" in str(readiness["reasons"])
    effects = machine.effects("a", None)
    with pytest.raises(NoSandbox, match="user namespaces are off"):
        _ = effects.sandbox.languages
    with pytest.raises(NoSandbox):
        await results(effects)
    assert await effects.workers.run(Task(double, int), 2) == 4


async def test_isolation_that_goes_away_later_is_no_verdict() -> None:
    class Gone(FakeSandbox):
        async def run(self, job: Job) -> AsyncGenerator[RunResult, None]:
            raise SandboxUnavailable("gone")
            yield

    machine = await started(Gone())
    with pytest.raises(NoSandbox, match="gone"):
        await results(machine.effects("a", None))


async def test_the_limit_of_the_settings_is_the_verifiers() -> None:
    limits: list[float] = []

    class Watching(InlinePool):
        async def run(self, task: Task[Any], *args: object) -> Any:
            limits.append(task.cpu_s)
            return await super().run(task, *args)

    machine = await started(pool=Watching(), math_cpu_s=0.5)
    await machine.effects("a", None).workers.run(Task(double, int, cpu_s=9.0), 1)
    assert limits == [0.5]


async def test_languages_are_judged_by_the_model() -> None:
    machine = await started()
    judge = machine.effects("a", None).judge_language
    english = "The quick brown fox jumps over the lazy dog, and then it sleeps for a while."
    french = "Le renard brun saute par-dessus le chien paresseux, puis il dort pendant un moment."
    assert (await judge("literal", english, english, english, None)).consistent
    assert not (await judge("literal", english, english, french, None)).consistent


async def test_a_text_that_exhausts_its_worker_earns_no_language_term(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = InlinePool()
    machine = await started(pool=pool)
    monkeypatch.setattr(pool, "run", killing("cpu_limit"))
    assert not (await machine.effects("a", None).judge_language("literal", "a", "b", "c", None)).consistent


async def test_a_model_that_is_gone_is_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = InlinePool()
    machine = await started(pool=pool)
    monkeypatch.setattr(pool, "run", killing("exception", "LanguageModelUnusable"))
    with pytest.raises(WorkerLost):
        await machine.effects("a", None).judge_language("literal", "a", "b", "c", None)


async def test_a_missing_model_is_an_error_at_the_start() -> None:
    with pytest.raises(LanguageModelUnusable, match="no-model"):
        await started(language_model="/no-model")


async def test_a_second_opinion_that_is_missing_is_an_error_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lingua", None)
    load_second_opinion.cache_clear()
    with pytest.raises(LanguageModelUnusable, match="language_second_opinion"):
        await started(language_second_opinion=True)


async def test_versions_name_what_decides() -> None:
    versions = (await started()).versions()
    assert {"service", "python", "sandbox", "math-verify", "sympy", "program_python"} <= set(versions)
    assert all(versions.values())


def test_the_machine_of_the_settings() -> None:
    machine = build_machine(Settings(workers=3, sandbox_slots=5))
    assert (machine.workers.count, machine.sandbox.slots) == (3, 5)
    assert machine.readiness()["ready"] is False


async def test_which_inputs_run_is_asked_when_the_turn_has_come_and_once() -> None:
    machine = await started(FakeSandbox(slots=1))
    given = machine.effects("a", soon())
    asked: list[str] = []

    def choose() -> list[int]:
        asked.append("asked")
        return [2, 0]

    async with contextlib.aclosing(given.sandbox.run(JOB)) as holding:
        await anext(holding)
        waiting = asyncio.create_task(collect(given.sandbox.run(JOB, choose=choose)))
        await asyncio.sleep(0.01)
        assert asked == []
    assert [result.index for result in await waiting] == [2, 0]
    assert asked == ["asked"]


async def collect(results: AsyncGenerator[RunResult, None]) -> list[RunResult]:
    return [result async for result in results]


async def test_chosen_inputs_keep_their_places_over_lost_runners() -> None:
    lost: list[int] = []

    class Dying(FakeSandbox):
        async def run(self, job: Job) -> AsyncGenerator[RunResult, None]:
            for index, given in enumerate(job.inputs):
                if given.stdin == b"3" and not lost:
                    lost.append(index)
                    raise RunnerLost("killed")
                yield RunResult(index, Status.FINISHED, given.stdin)

    machine = await started(Dying())
    run = machine.effects("a", soon()).sandbox.run(JOB, choose=lambda: [2, 3, 0])
    assert [(result.index, result.stdout) async for result in run] == [(2, b"2"), (3, b"3"), (0, b"0")]
    assert lost == [1]


async def test_nothing_runs_where_nothing_is_chosen_or_wanted() -> None:
    sandbox = FakeSandbox()
    machine = await started(sandbox)
    sandbox.jobs.clear()
    given = machine.effects("a", soon())
    assert [result async for result in given.sandbox.run(JOB, choose=lambda: [])] == []

    async def never(one: object, other: object) -> None:
        raise AssertionError

    assert await given.sandbox.talk(never, JOB, JOB, wanted=lambda: False) is None
    assert sandbox.jobs == []


async def test_the_settings_name_the_backend() -> None:
    assert isinstance(build_machine(Settings(sandbox="namespaces")).sandbox, NamespacesSandbox)
    assert isinstance(build_machine(Settings(sandbox="docker")).sandbox, Pool)
    remote = Settings(sandbox="remote", runners=("unix:/run/sandbox/*.sock", "tcp:sandbox:9000"), runner_token="t")
    assert isinstance(build_machine(remote).sandbox, Pool)
    with pytest.raises(ValueError, match="address of a runner"):
        build_machine(Settings(sandbox="remote", runners=("sandbox:9000",)))


async def test_turns_follow_the_slots_of_runners_that_come_and_go() -> None:
    sandbox = FakeSandbox(slots=1)
    machine = await started(sandbox)
    sandbox._slots = 5
    assert len(await results(machine.effects("a", soon()))) == 4
    assert machine.sandbox_turns.slots == 5
