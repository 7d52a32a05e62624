"""Effects that run inline, for tests of the glue above them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from reward_service.effects import Effects, R, Task
from reward_service.errors import NotScored
from reward_service.records import LanguageFinding
from sandbox.fake import FakeSandbox
from sandbox.interface import Job, RunResult


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

    async def run(self, job: Job, *, started: bool = False) -> AsyncGenerator[RunResult, None]:
        raise self.failure
        yield


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
