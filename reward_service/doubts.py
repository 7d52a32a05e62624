"""Which ends of a program are not believed at once, since the machine or somebody else may have brought them about."""

from __future__ import annotations

import signal
from dataclasses import replace

from sandbox.interface import Job, RunnerLost, RunResult, Status, starved

KILLS_DOUBTED = 2  # inputs of one program whose SIGKILL is not believed at once: programs can do that to themselves, so can others to them
PATIENCE = 4  # times the net of the wall clock that a program gets which lacked a core: then it had a tenth of one and was too slow


class Doubts:
    """About one job. What is doubted is run again, and believed when it comes a second time."""

    def __init__(self) -> None:
        self._killed: set[int | None] = set()
        self._patient = False

    def check(self, result: RunResult, job: Job) -> None:
        """Return if the result may be believed.

        Raises:
            RunnerLost: ours: the job is to be run again, as `patient` makes it.
        """
        if _killed(result) and result.index not in self._killed and len(self._killed) < KILLS_DOUBTED:
            self._killed.add(result.index)
            raise RunnerLost("a program was killed, by itself or by somebody else")
        if not self._patient and starved(result, job.limits):
            self._patient = True
            raise RunnerLost("a program had no core for too long")

    def patient(self, job: Job) -> Job:
        """The job as it is to be run now: with more time on the wall clock, the same CPU time, after a program was starved."""
        return replace(job, limits=replace(job.limits, wall_s=PATIENCE * job.limits.net_s)) if self._patient else job


def _killed(result: RunResult) -> bool:
    """Whether a program ended by a SIGKILL that no limit of its own explains."""
    return result.status is Status.RUNTIME_ERROR and result.signal == signal.SIGKILL
