"""A backend with scripted results, for tests of whatever stands above the sandbox."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from sandbox.interface import Job, RunResult, Status


class FakeSandbox:
    """Answers each run by `answer(job, index)`; records the jobs it got and how many results were taken."""

    def __init__(
        self,
        answer: Callable[[Job, int], RunResult] | None = None,
        languages: frozenset[str] = frozenset({"python", "cpp"}),
        slots: int = 2,
    ) -> None:
        self._answer = answer or (lambda job, index: RunResult(index, Status.FINISHED, stdout=job.inputs[index].stdin, exit_code=0))
        self._languages = languages
        self._slots = slots
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

    async def run(self, job: Job, *, started: bool = False) -> AsyncGenerator[RunResult, None]:
        """The scripted results; one whose index is None ends the job."""
        self.jobs.append(job)
        for index in range(len(job.inputs)):
            result = self._answer(job, index)
            self.results_taken += 1
            yield result
            if result.index is None:
                return

    async def close(self) -> None:
        """Nothing to end."""
