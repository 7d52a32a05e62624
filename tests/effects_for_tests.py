"""Effects that run inline, for tests of the glue above them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from reward_service.effects import Effects, R, Talker, Task
from reward_service.errors import NotScored, WorkerLost
from reward_service.records import LanguageFinding
from sandbox.fake import FakeSandbox
from sandbox.interface import Job, RunnerLost, RunResult, Sandbox

Choose = Callable[[], Sequence[int]]


class InlineWorkers:
    """Runs each task in this process; `failure`, where given, is raised instead."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure

    async def run(self, task: Task[R], *args: object) -> R:
        if self.failure is not None:
            raise self.failure
        return task.function(*args)


class BrokenSandbox:
    """Every run ends in `failure`, which is nobody's completion's fault."""

    languages = frozenset({"python", "cpp"})

    def __init__(self, failure: NotScored | Exception) -> None:
        self.failure = failure

    async def run(self, job: Job, *, started: bool = False, choose: Choose | None = None) -> AsyncGenerator[RunResult, None]:
        raise self.failure
        yield


class DirectSandbox:
    """A real backend without turns or deadlines, for tests of verifiers; a lost runner is tried again, as in the service."""

    def __init__(self, backend: Sandbox) -> None:
        self.backend = backend
        self.losses = 0

    @property
    def languages(self) -> frozenset[str]:
        return self.backend.languages

    async def run(self, job: Job, *, started: bool = False, choose: Choose | None = None) -> AsyncGenerator[RunResult, None]:
        chosen = range(len(job.inputs)) if choose is None else choose()
        if not chosen:
            return
        job = dataclasses.replace(job, inputs=tuple(job.inputs[place] for place in chosen))
        async with contextlib.aclosing(self.backend.run(job)) as results:
            async for result in results:
                yield result if result.index is None else dataclasses.replace(result, index=chosen[result.index])

    async def talk(
        self,
        conversation: Callable[[Talker, Talker], Awaitable[R]],
        *jobs: Job,
        started: bool = False,
        wanted: Callable[[], bool] = lambda: True,
    ) -> R | None:
        if not wanted():
            return None
        for _ in range(5):
            try:
                async with self.backend.talk(*jobs) as (one, other):
                    return await conversation(one, other)
            except RunnerLost:
                self.losses += 1
        raise WorkerLost


def judge_by(consistent: Callable[[str, str, str], bool]):  # type: ignore[no-untyped-def]
    async def judge(rule: str, prompt: str, thinking: str, answer: str, wanted: str | None) -> LanguageFinding:
        return LanguageFinding(consistent(prompt, thinking, answer), {"rule": rule, "wanted": wanted})

    return judge


def effects(sandbox: object | None = None, workers: object | None = None, consistent: bool = True) -> Effects:
    return Effects(
        workers=workers or InlineWorkers(),  # type: ignore[arg-type]
        sandbox=sandbox or FakeSandbox(),  # type: ignore[arg-type]
        judge_language=judge_by(lambda *_: consistent),
    )
