"""Ends of programs that are not believed at once: kills, and stops by the wall clock of what had no core."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from reward_service.settings import Settings
from reward_service.wiring import Machine
from sandbox.fake import FakeSandbox
from sandbox.interface import Job, RunResult, Status, TestInput
from tests.server.doubles import InlinePool

JOB = Job("python", "print(input())", tuple(TestInput(str(number).encode()) for number in range(4)))


async def statuses_of(sandbox: FakeSandbox) -> list[str]:
    machine = Machine(Settings(), InlinePool(), FakeSandbox())
    await machine.start()
    machine.sandbox = sandbox
    return [result.status.value async for result in machine.effects("a", None).sandbox.run(JOB)]


class Killing(FakeSandbox):
    """Programs are killed on these inputs, as often as told."""

    def __init__(self, kills: dict[int, int]) -> None:
        super().__init__()
        self.kills, self.runs = kills, 0

    async def run(self, job: Job) -> AsyncGenerator[RunResult, None]:
        self.runs += 1
        for index in range(len(job.inputs)):
            if self.kills.get(index, 0):
                self.kills[index] -= 1
                yield RunResult(index, Status.RUNTIME_ERROR, signal=9)
            else:
                yield RunResult(index, Status.FINISHED, stdout=b"ok")


@pytest.mark.parametrize(("kills", "statuses"), [
    ({1: 1}, ["finished"] * 4),
    ({0: 1, 3: 1}, ["finished"] * 4),
    ({1: 99}, ["finished", "runtime_error", "finished", "finished"]),
    (dict.fromkeys(range(4), 99), ["runtime_error"] * 4),
])  # fmt: skip
async def test_a_kill_counts_against_a_program_when_it_comes_again(kills: dict[int, int], statuses: list[str]) -> None:
    sandbox = Killing(kills)
    assert await statuses_of(sandbox) == statuses
    assert sandbox.runs <= 3


class Starving(FakeSandbox):
    """The second input's program lacks a core, until it gets more time or as often as told."""

    def __init__(self, result: RunResult, stops: int) -> None:
        super().__init__()
        self.result, self.stops, self.nets = result, stops, list[float]()

    async def run(self, job: Job) -> AsyncGenerator[RunResult, None]:
        self.nets.append(job.limits.net_s)
        for index in range(len(job.inputs)):
            if index == 1 and self.stops:
                self.stops -= 1
                yield replace(self.result, wall_s=self.result.wall_s * self.nets[-1] / self.nets[0])
            else:
                yield RunResult(index, Status.FINISHED, stdout=b"ok")


@pytest.mark.parametrize(("found", "stops", "status", "nets"), [
    ({"wall_s": 10.1, "waited_s": 7.0, "cpu_s": 2.4}, 1, "finished", [10, 40]),
    ({"wall_s": 10.1, "waited_s": 7.0, "cpu_s": 2.4}, 99, "time_limit_exceeded", [10, 40]),
    ({"wall_s": 10.1, "waited_s": 0.0, "cpu_s": 0.1}, 99, "time_limit_exceeded", [10]),
    ({"wall_s": 9.0, "waited_s": 5.0, "cpu_s": 4.1}, 99, "time_limit_exceeded", [10]),
    ({"wall_s": 10.1, "waited_s": 5.0, "cpu_s": 4.1}, 1, "finished", [10, 40]),  # slow cores allow more CPU time than the limit
])  # fmt: skip
async def test_a_program_that_lacks_a_core_gets_more_time_once(found: dict[str, float], stops: int, status: str, nets: list[int]) -> None:
    """Load turns no right answer wrong; who sleeps, and who uses up the CPU time, is too slow at once."""
    sandbox = Starving(RunResult(1, Status.TIME_LIMIT_EXCEEDED, **found), stops)  # type: ignore[arg-type]
    assert await statuses_of(sandbox) == ["finished", status, "finished", "finished"]
    assert sandbox.nets == nets
