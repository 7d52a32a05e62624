"""From settings to effects: the only place that names a sandbox backend, and where a request's share and deadline are bound in."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar, cast

from reward_service.costs import ANSWER, Costs, units_of
from reward_service.doubts import Doubts
from reward_service.effects import Effects, Talker, Task, Workers
from reward_service.errors import JobKilled, NoSandbox, WorkerLost
from reward_service.gathering import ALONE, Gatherer
from reward_service.langid import JUDGE_LANGUAGE, MODEL_PATH, LanguageModelUnusable, check_model_file, load_second_opinion
from reward_service.memo import Memo, key_of
from reward_service.records import JsonObject, LanguageFinding
from reward_service.settings import Settings
from reward_service.traces import note
from reward_service.turns import Share, Turns
from reward_service.verdict_memory import VerdictMemory
from reward_service.verifiers.limits_hit import limits_hit
from reward_service.versions import versions_of
from reward_service.worker_tiers import TieredPool
from reward_service.workers import WorkerStats
from sandbox.docker import DockerConfig, containers
from sandbox.interface import Job, RunnerLost, RunResult, Sandbox, SandboxUnavailable
from sandbox.languages import canonical_language
from sandbox.namespaces.backend import NamespacesConfig, NamespacesSandbox
from sandbox.pool import Pool as RunnerPool
from sandbox.remote import Demands, parse_address, runners
from sandbox.selfcheck import CANARIES, run_checks

LOSS_PAUSE_S = 0.05  # after a lost runner, doubled with each further one: what replaces it takes a moment
RUNNER_LOSSES = 5  # after which a job is given up; a job of which nothing is known is never a verdict
WORKERS_AHEAD = 2  # items handed to the pool beyond its processes, so that none of them waits for the event loop
RESULTS_KEPT = 32_768  # of workers' items: parsed references, comparisons, languages
PROGRAM = "program"  # the kind of a sandbox's work, in tests
PRIOR_S = {PROGRAM: 0.02, "judge_language": 0.01, ANSWER: 0.002, "compare_answers": 0.02, "prepare_gold": 0.02}  # until something is known
SANDBOX_RETRY_S = 5.0
NOTHING_RAN_S = 2e-4  # a turn up to which found everything known already, and says nothing of what programs cost

R = TypeVar("R")


class Pool(Workers, Protocol):
    """What the machine needs of `workers.WorkerPool`."""

    count: int

    @property
    def stats(self) -> WorkerStats:
        """Numbers for metrics."""

    async def start(self) -> None:
        """Start the processes."""

    async def close(self) -> None:
        """Kill the processes."""


class Machine:
    """Everything that grading may use on this machine, shared by all requests. Belongs to one event loop.

    `notes` says of each language or feature of the sandbox what was found at its start.
    """

    def __init__(self, settings: Settings, workers: Pool, sandbox: Sandbox, notes: Mapping[str, str] | None = None) -> None:
        self.settings = settings
        self.workers = workers
        self.sandbox = sandbox
        self.memory = VerdictMemory(settings.verdict_memory_bytes)
        self.worker_turns = Turns(workers.count + WORKERS_AHEAD)
        self.sandbox_turns = Turns(sandbox.slots)
        self.costs = Costs(PRIOR_S)
        self.gatherer = Gatherer(workers, workers.count, self.worker_turns, self.costs)
        self.results: Memo[object, Share] = Memo(RESULTS_KEPT, self.worker_turns.ahead)
        self.runner_losses = 0
        self.limit_hits: Counter[str] = Counter()  # by bound: answers and texts that were refused or stopped by it
        self._notes = notes if notes is not None else {}
        self._starting_again: asyncio.Task[None] | None = None
        self._sandbox_fault: str | None = "not started yet"
        self._versions: dict[str, str] = {}
        self._started = False

    async def start(self) -> None:
        """Start workers and sandbox. Where no isolation is possible the machine starts all the same, without code tasks.

        Raises:
            LanguageModelUnusable, WorkerLost: the machine's fault; the message says what to do.
        """
        await asyncio.to_thread(check_model_file, self.settings.language_model or MODEL_PATH)
        if self.settings.language_second_opinion:
            await asyncio.to_thread(load_second_opinion)
        await self.workers.start()
        await self._start_sandbox()
        if self._sandbox_fault is not None and isinstance(self.sandbox, RunnerPool):
            self._starting_again = asyncio.create_task(self._start_again())
        self._versions = await versions_of(self.settings, embedded=not isinstance(self.sandbox, RunnerPool))
        self._name_tool_chain()
        self._started = True

    async def _start_sandbox(self) -> bool:
        """Start the sandbox; whether it came up, be it refused for what a canary reached."""
        try:
            await self.sandbox.start()
            self._sandbox_fault = await _won_by_a_canary(self.sandbox)
        except SandboxUnavailable as error:
            self._sandbox_fault = str(error)
            return False
        return True

    async def _start_again(self) -> None:
        """Runners and engines may come up after the service."""
        while self._sandbox_fault is not None:
            await asyncio.sleep(SANDBOX_RETRY_S)
            if await self._start_sandbox():
                return

    async def close(self) -> None:
        """Kill everything that was started; nothing survives."""
        self._started = False
        if self._starting_again is not None:
            self._starting_again.cancel()
            await asyncio.gather(self._starting_again, return_exceptions=True)
        try:
            await self.sandbox.close()
        finally:
            await self.workers.close()

    def effects(self, share: Share | str, start_by: float | None) -> Effects:
        """What a request may use: `share` takes turns with others (a name is a flow), `start_by` is a time of the event loop's clock."""
        share = Share(share) if isinstance(share, str) else share
        judge = _BoundJudge(_BoundWorkers(self, share, start_by, None), self.settings)
        if isinstance(self.sandbox, RunnerPool):  # whose tools may change while we serve
            self._name_tool_chain()
        return Effects(
            workers=_BoundWorkers(self, share, start_by, self.settings.math_cpu_s),
            sandbox=_BoundSandbox(self, share, start_by),
            judge_language=judge,
            default_languages=self.settings.languages,
            math_conventions=self.settings.math_conventions,
            memory=self.memory,
        )

    def _name_tool_chain(self) -> None:
        self.memory.tool_chain = repr(sorted(self.versions().items()))

    async def after_a_loss(self, attempt: int) -> None:
        """Count a lost runner and leave what replaces it a moment; `attempt` counts from 0."""
        self.runner_losses += 1
        await asyncio.sleep(LOSS_PAUSE_S * 2**attempt)

    @property
    def runners_replaced(self) -> int:
        """Containers and other runners that ended and that others took the place of."""
        return self.sandbox.replaced if isinstance(self.sandbox, RunnerPool) else 0

    @property
    def sandbox_fault(self) -> str | None:
        """Why no code runs here, and what to do about it; None where it runs."""
        return self._sandbox_fault

    def readiness(self) -> JsonObject:
        """What works here and what does not: `ready` is whether everything does."""
        missing = self._missing_languages()
        reasons = [] if self._started else ["the service is not started"]
        if self._sandbox_fault is not None:
            reasons.append(f"no code runs here: {self._sandbox_fault}")
        elif missing:
            reasons.append(f"the setting `languages` names what does not work here: {'; '.join(missing)}")
        return {
            "ready": not reasons,
            "reasons": reasons,
            "tasks": {"math": self._started, "choice": self._started, "code": self._started and self._sandbox_fault is None},
            "languages": sorted(self.sandbox.languages) if self._sandbox_fault is None else [],
            "sandbox": {"backend": self.settings.sandbox, "slots": self.sandbox.slots, "notes": dict(self._notes)},
            "workers": self.workers.count,
        }

    def versions(self) -> dict[str, str]:
        """What decides a grade here: service, verifiers, tool chain."""
        return {**self._versions, **(self.sandbox.tools if isinstance(self.sandbox, RunnerPool) else {})}

    def _missing_languages(self) -> list[str]:
        """The allowed languages that do not run here, each with the note about it."""
        names = {name: canonical_language(name) or name for name in self.settings.languages}
        lacking = [(name, canonical) for name, canonical in names.items() if canonical not in self.sandbox.languages]
        return [f"{name} ({self._notes[canonical]})" if canonical in self._notes else name for name, canonical in lacking]


def build_machine(settings: Settings) -> Machine:
    """The machine that the settings describe, not yet started."""
    sandbox = _embedded(settings) if settings.sandbox == "namespaces" else _pool(settings)
    return Machine(settings, TieredPool(settings.workers, settings.worker_memory_bytes), sandbox, sandbox.notes)


def _pool(settings: Settings) -> RunnerPool:
    """Runners in containers of ours, or runners that somebody else starts."""
    if settings.sandbox == "remote":
        token = settings.runner_token.get_secret_value() if settings.runner_token is not None else ""
        demands = Demands(strict=settings.strict, cpp_standard=settings.cpp_standard)
        return RunnerPool(runners(tuple(map(parse_address, settings.runners)), token, demands))
    config = DockerConfig(
        image=settings.docker_image, slots=settings.sandbox_slots, runtime=settings.docker_runtime, cgroup=settings.docker_cgroup,
        programs=settings.docker_programs, host=settings.docker_host, strict=settings.strict, cpp_standard=settings.cpp_standard,
        max_memory_bytes=settings.max_memory_bytes,
    )  # fmt: skip
    return RunnerPool(containers(config))


def _embedded(settings: Settings) -> NamespacesSandbox:
    return NamespacesSandbox(
        NamespacesConfig(
            slots=settings.sandbox_slots,
            python=settings.python,
            packages=settings.python_packages,
            strict=settings.strict,
            cpp_standard=settings.cpp_standard,
            max_memory_bytes=settings.max_memory_bytes,
            binaries_disk_bytes=settings.binaries_disk_bytes,
        )
    )


@functools.lru_cache(maxsize=64)
def _bounded(task: Task[R], cpu_s: float) -> Task[R]:
    return replace(task, cpu_s=cpu_s)


class _BoundWorkers:
    """The workers, for one request. `cpu_s`, where given, replaces the limit that a task states."""

    def __init__(self, machine: Machine, share: Share, start_by: float | None, cpu_s: float | None) -> None:
        self._machine, self._share, self._start_by, self._cpu_s = machine, share, start_by, cpu_s

    async def run(self, task: Task[R], *args: object) -> R:
        """See `effects.Workers`. What was computed before, or is just being computed for another request, is not computed again."""
        bounded = task if self._cpu_s is None else _bounded(task, self._cpu_s)
        kind = task.function.__qualname__
        key = key_of(task.function.__module__, kind, bounded.cpu_s, args)
        found = await self._machine.results.get(key, self._share, lambda: self._compute(key, bounded, kind, args))
        self._machine.limit_hits.update(limits_hit(found))
        if isinstance(found, JobKilled):
            raise JobKilled(found.cause, str(found))
        return cast(R, found)

    async def _compute(self, key: bytes, task: Task[R], kind: str, args: tuple[object, ...]) -> object:
        """The result, or how the item ended its worker: the same item would do so again."""
        costs, units, asked_s = self._machine.costs, units_of(args), time.perf_counter()
        if self._share.single:
            found = await self._machine.gatherer.run(self._share, self._start_by, task, kind, units, args)
            if found is not ALONE:
                note("worker", asked_s, work=kind)
                return found
        async with self._machine.worker_turns.take(self._share, self._start_by, costs.estimate_s(kind, units)):
            known = self._machine.results.peek(key)
            if known is not None:
                return known
            note("queue", asked_s, queue="workers")
            begun_s = costs.begin(kind, units)
            try:
                return await self._machine.workers.run(task, *args)
            except JobKilled as killed:
                if killed.cause == "exception":  # which may be ours, like a file that is gone
                    raise
                return killed
            finally:
                costs.end(kind, units, begun_s)
                note("worker", begun_s, work=kind)


class _BoundJudge:
    """The language model behind workers, for one request."""

    def __init__(self, workers: _BoundWorkers, settings: Settings) -> None:
        self._workers = workers
        self._model = (settings.language_model or MODEL_PATH, settings.language_second_opinion)

    async def __call__(self, rule: str, prompt: str, thinking: str, answer: str, wanted: str | None) -> LanguageFinding:
        """See `effects.LanguageJudge`. A text that exhausts its worker has no language: that is the completion's doing."""
        try:
            return await self._workers.run(JUDGE_LANGUAGE, rule, prompt, thinking, answer, wanted, *self._model)
        except JobKilled as killed:
            if str(killed) == LanguageModelUnusable.__name__:
                raise WorkerLost("the language model is gone") from killed
            return LanguageFinding(consistent=False, detail={"stopped": killed.cause})


class _BoundSandbox:
    """The sandbox, for one request: takes turns, runs a job again when its runner is lost."""

    def __init__(self, machine: Machine, share: Share, start_by: float | None) -> None:
        self._machine, self._share, self._start_by = machine, share, start_by

    @property
    def languages(self) -> frozenset[str]:
        """See `effects.Sandbox`.

        Raises:
            NoSandbox: the machine's fault. Whoever asks what runs here learns that nothing does, and why, not that a language is missing.
        """
        if self._machine.sandbox_fault is not None:
            raise NoSandbox(self._machine.sandbox_fault)
        return self._machine.sandbox.languages

    async def run(
        self, job: Job, *, started: bool = False, choose: Callable[[], Sequence[int]] | None = None
    ) -> AsyncGenerator[RunResult, None]:
        """See `effects.Sandbox`. A job that is run again runs whole, since what an input sees may depend on its place in the job."""
        given = 0
        start_by = None if started else self._start_by
        chosen: Sequence[int] | None = None
        doubts = Doubts()
        for attempt in range(RUNNER_LOSSES):
            async with self._turn(start_by, len(job.inputs)):
                start_by = None  # it has started: from here on it is bounded by its own limits
                if choose is not None and chosen is None:
                    chosen = tuple(choose())
                    job = replace(job, inputs=tuple(job.inputs[place] for place in chosen))
                if chosen is not None and not chosen:
                    return
                try:
                    position = 0
                    async with contextlib.aclosing(self._attempt(doubts.patient(job))) as results:
                        async for result in results:
                            doubts.check(result, job)
                            position += 1
                            if position > given:
                                given = position
                                yield result if chosen is None or result.index is None else replace(result, index=chosen[result.index])
                    if position >= given:
                        return
                except RunnerLost:
                    pass
            await self._machine.after_a_loss(attempt)
        raise WorkerLost(f"the runner of a program was lost {RUNNER_LOSSES} times")

    async def talk(
        self,
        conversation: Callable[[Talker, Talker], Awaitable[R]],
        *jobs: Job,
        started: bool = False,
        wanted: Callable[[], bool] = lambda: True,
    ) -> R | None:
        """See `effects.Sandbox`."""
        start_by = None if started else self._start_by
        for attempt in range(RUNNER_LOSSES):
            async with self._turn(start_by, 1):
                start_by = None  # it has started: from here on it is bounded by its own limits
                if self._machine.sandbox_fault is not None:
                    raise NoSandbox(self._machine.sandbox_fault)
                if not wanted():
                    return None
                try:
                    async with self._machine.sandbox.talk(*jobs) as (one, other):
                        return await conversation(one, other)
                except RunnerLost:
                    pass
                except SandboxUnavailable as error:
                    raise NoSandbox(str(error)) from error
            await self._machine.after_a_loss(attempt)
        raise WorkerLost(f"the runner of a program was lost {RUNNER_LOSSES} times")

    @contextlib.asynccontextmanager
    async def _turn(self, start_by: float | None, tests: int) -> AsyncGenerator[None, None]:
        costs, asked_s = self._machine.costs, time.perf_counter()
        if self._machine.sandbox_turns.slots != self._machine.sandbox.slots:  # runners come and go
            self._machine.sandbox_turns.resize(self._machine.sandbox.slots)
        async with self._machine.sandbox_turns.take(self._share, start_by, costs.estimate_s(PROGRAM, tests)):
            note("queue", asked_s, queue="sandbox")
            begun_s = costs.begin(PROGRAM, tests)
            try:
                yield
            finally:
                costs.end(PROGRAM, tests, begun_s, NOTHING_RAN_S)
                note("sandbox", begun_s, tests=tests)

    async def _attempt(self, job: Job) -> AsyncGenerator[RunResult, None]:
        fault = self._machine.sandbox_fault
        if fault is not None:
            raise NoSandbox(fault)
        try:
            async with contextlib.aclosing(self._machine.sandbox.run(job)) as results:
                async for result in results:
                    yield result
        except SandboxUnavailable as error:
            raise NoSandbox(str(error)) from error


async def _won_by_a_canary(sandbox: Sandbox) -> str | None:
    """What an attack of the self-test reached: then the service refuses code tasks. None where all of them are contained."""
    won = [finding for finding in await run_checks(sandbox, CANARIES) if not finding.ok]
    return "; ".join(f"the promise '{finding.name}' does not hold ({finding.detail})" for finding in won) or None
