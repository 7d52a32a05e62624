"""A backend with scripted results, for tests of whatever stands above the sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence

from sandbox.interface import Job, RunResult, Status


class FakeSession:
    """A running program by script: what it says first, what it says to each thing that it is told, and how it ends.

    Each piece is received at once; after the last one it has ended. `told` records what it was sent.
    """

    def __init__(
        self, first: Iterable[bytes] = (), reply: Callable[[bytes], Iterable[bytes]] | None = None, result: RunResult | None = None
    ) -> None:
        self._pieces = deque(first)
        self._reply = reply or (lambda data: ())
        self._result = result or RunResult(0, Status.FINISHED, exit_code=0)
        self.told: list[bytes] = []

    async def send(self, data: bytes) -> None:
        """Told, and answered by script."""
        self.told.append(data)
        self._pieces.extend(self._reply(data))

    async def receive(self) -> bytes:
        """The next piece."""
        return self._pieces.popleft() if self._pieces else b""

    async def finish(self) -> RunResult:
        """As given."""
        return self._result


class FakeSandbox:
    """Answers each run by `answer(job, index)`, each conversation by `talker(job)`; records the jobs it got and the results taken."""

    def __init__(
        self,
        answer: Callable[[Job, int], RunResult] | None = None,
        languages: frozenset[str] = frozenset({"python", "cpp"}),
        slots: int = 2,
        talker: Callable[[Job], FakeSession | RunResult] | None = None,
    ) -> None:
        self._answer = answer or (lambda job, index: RunResult(index, Status.FINISHED, stdout=job.inputs[index].stdin, exit_code=0))
        self._languages = languages
        self._slots = slots
        self._talker = talker or (lambda job: FakeSession())
        self.jobs: list[Job] = []
        self.results_taken = 0

    @property
    def languages(self) -> frozenset[str]:
        """As given."""
        return self._languages

    @property
    def slots(self) -> int:
        """As given."""
        return self._slots

    async def start(self) -> None:
        """Nothing to make ready."""

    async def run(
        self, job: Job, *, started: bool = False, choose: Callable[[], Sequence[int]] | None = None
    ) -> AsyncGenerator[RunResult, None]:
        """The scripted results; one whose index is None ends the job. What `choose` does stands in `reward_service.effects`."""
        chosen = range(len(job.inputs)) if choose is None else choose()
        if not chosen:
            return
        self.jobs.append(dataclasses.replace(job, inputs=tuple(job.inputs[place] for place in chosen)))
        for index in chosen:
            await asyncio.sleep(0)
            result = self._answer(job, index)
            self.results_taken += 1
            yield result
            if result.index is None:
                return

    @contextlib.asynccontextmanager
    async def talk(self, *jobs: Job) -> AsyncGenerator[tuple[FakeSession | RunResult, ...], None]:
        """The scripted sessions."""
        self.jobs += jobs
        yield tuple(self._talker(job) for job in jobs)

    async def close(self) -> None:
        """Nothing to end."""
