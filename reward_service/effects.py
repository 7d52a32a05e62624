"""Protocols of the three things that grading may use: workers, the sandbox, language detection.

An `Effects` belongs to one request: whoever builds it (`wiring.Machine.effects`) has bound the request's share of the machine and
its deadline into it, so that verifiers neither queue nor look at a clock. Work that has not started at the deadline raises
`DeadlineExceeded`; work that has started is bounded by its own limits and gets its verdict.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from reward_service.records import LanguageFinding
from reward_service.verdict_memory import VerdictMemory
from sandbox.interface import Job, RunResult, Session

R = TypeVar("R")
Talker = Session | RunResult  # a program that runs, or the result of one that does not compile


@dataclass(frozen=True, slots=True)
class Task(Generic[R]):
    """A pure function that may not end, and what it may use.

    `function` is a module-level function of this package whose arguments and result are JSON-like values or dataclasses of these
    (they cross a process border as data, never as pickles); `result` is its result's type; `cpu_s` the CPU seconds one call may take.
    `heavy`: it may need SymPy, which few workers hold.
    """

    function: Callable[..., R]
    result: type[R]
    cpu_s: float = 2.0
    heavy: bool = False


class Workers(Protocol):
    """Processes that run pure functions and are killed at their deadline."""

    async def run(self, task: Task[R], *args: object) -> R:
        """The function's result.

        Raises:
            JobKilled: the arguments' fault: the CPU limit was hit, memory ran out, the function raised or crashed its process.
            NotScored: ours: not started before the deadline, or the worker was lost again and again without evidence.
        """
        ...


class Sandbox(Protocol):
    """Where candidates' programs run (`sandbox.interface.Sandbox`, bound to a request)."""

    @property
    def languages(self) -> frozenset[str]:
        """The languages that this machine can run, by their canonical names."""
        ...

    def run(self, job: Job, *, started: bool = False, choose: Callable[[], Sequence[int]] | None = None) -> AsyncGenerator[RunResult, None]:
        """One result per input, in order, or a single one where the program does not compile; closing the iterator stops the job.

        `started` says that the job goes on with work that has started, so that the deadline does not stop it any more. `choose` is asked
        when the job's turn has come: the places of the inputs to run, in this order; none ends it. A result's index is the input's place
        in `job` all the same.

        Raises:
            NotScored: ours: no isolation here, not started before the deadline, or the runner was lost again and again.
        """
        ...

    async def talk(
        self,
        conversation: Callable[[Talker, Talker], Awaitable[R]],
        *jobs: Job,
        started: bool = False,
        wanted: Callable[[], bool] = lambda: True,
    ) -> R | None:
        """What a conversation with two running programs comes to; it is held anew, with programs started anew, where a runner is lost.

        `started` says the same as in `run`. `wanted` is asked when its turn has come; None where it no longer is.

        Raises:
            NotScored: ours: no isolation here, not started before the deadline, or the runner was lost again and again.
        """
        ...


class LanguageJudge(Protocol):
    """Do prompt, thinking and answer share a language? Runs where CPU work may run."""

    async def __call__(self, rule: str, prompt: str, thinking: str, answer: str, wanted: str | None) -> LanguageFinding:
        """The finding under `rule` (`literal` or `refined`).

        Raises:
            NotScored: ours: not started before the deadline, or the worker was lost.
        """
        ...


@dataclass(frozen=True, slots=True)
class Economy:
    """What is left out where a verdict is known without it. No grade depends on any of these."""

    stop_early: bool = True  # at the first failure, where nobody asks for the share of tests passed
    failed_first: bool = True  # begin with the tests that others failed
    join: bool = True  # wait for the same program where it runs already, instead of running it beside itself


@dataclass(frozen=True, slots=True)
class Effects:
    """What one request may use, and the server's answer to what it lacks."""

    workers: Workers
    sandbox: Sandbox
    judge_language: LanguageJudge
    default_languages: tuple[str, ...] = ("python", "cpp")  # programming languages allowed where a reference names none
    math_conventions: tuple[str, ...] = ()  # choices that differ from the defaults, as `rounding=digits`
    economy: Economy = Economy()
    memory: VerdictMemory = field(default_factory=VerdictMemory)  # of verdicts, shared by all requests
