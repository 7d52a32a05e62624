"""Programs that are talked to while they run."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses

import pytest

from sandbox.interface import Job, Limits, RunnerLost, RunResult, Status, TestInput
from sandbox.namespaces.backend import NamespacesSandbox

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.isolation]

ECHO = "import sys\nfor line in sys.stdin:\n    print(line.strip() + '!', flush=True)\n"


def job(source: str, *, language: str = "python", limits: Limits | None = None, output_bytes: int = 1 << 20) -> Job:
    return Job(language, source, (TestInput(b"", output_bytes),), limits or Limits(cpu_s=1.0))


async def test_two_programs_talk_through_us(sandbox: NamespacesSandbox) -> None:
    async with sandbox.talk(job(ECHO), job(ECHO.replace("'!'", "'?'"))) as (one, two):
        assert not isinstance(one, RunResult)
        assert not isinstance(two, RunResult)
        for number in range(50):
            await one.send(b"%d\n" % number)
            said = await one.receive()
            await two.send(said)
            assert await two.receive() == b"%d!?\n" % number
        first, second = await one.finish(), await two.finish()
    assert (first.status, second.status) == (Status.FINISHED, Status.FINISHED)


async def test_one_that_does_not_compile_has_its_result_in_its_place(sandbox: NamespacesSandbox) -> None:
    async with sandbox.talk(job(ECHO), job("def (")) as (one, two):
        assert not isinstance(one, RunResult)
        assert isinstance(two, RunResult)
        assert two.status is Status.COMPILE_ERROR


async def test_limits_hold_in_a_conversation(sandbox: NamespacesSandbox) -> None:
    async with sandbox.talk(job("while True: pass", limits=Limits(cpu_s=0.2))) as (one,):
        assert not isinstance(one, RunResult)
        assert await one.receive() == b""
        assert (await one.finish()).status is Status.TIME_LIMIT_EXCEEDED
    async with sandbox.talk(job("while True: print('x' * 1000)", output_bytes=100_000)) as (one,):
        assert not isinstance(one, RunResult)
        while await one.receive():
            pass
        assert (await one.finish()).status is Status.OUTPUT_LIMIT_EXCEEDED
    async with sandbox.talk(job("import time\ntime.sleep(60)", limits=Limits(cpu_s=1.0, wall_s=0.3))) as (one,):
        assert not isinstance(one, RunResult)
        assert await one.receive() == b""
        assert (await one.finish()).status is Status.TIME_LIMIT_EXCEEDED


async def test_leaving_kills_both_and_frees_the_slot(sandbox: NamespacesSandbox) -> None:
    for _ in range(5):
        async with sandbox.talk(job("import time\ntime.sleep(60)"), job("import time\ntime.sleep(60)")):
            pass
    async with contextlib.aclosing(sandbox.run(Job("python", "print(1)", (TestInput(b""),)))) as results:
        assert [result.stdout async for result in results] == [b"1\n"]


async def test_many_conversations_share_the_slots(sandbox: NamespacesSandbox) -> None:
    async def talk(number: int) -> bytes:
        async with sandbox.talk(job(ECHO), job(ECHO)) as (one, _):
            assert not isinstance(one, RunResult)
            await one.send(b"%d\n" % number)
            return await one.receive()

    assert await asyncio.gather(*(talk(number) for number in range(8))) == [b"%d!\n" % number for number in range(8)]


async def test_memory_of_each_is_its_own(sandbox: NamespacesSandbox) -> None:
    hungry = job("b = bytearray(80 << 20)\nprint(len(b), flush=True)\ninput()", limits=Limits(cpu_s=2, memory_bytes=100 << 20))
    greedy = job("b = bytearray(150 << 20)\nprint(len(b), flush=True)\ninput()", limits=Limits(cpu_s=2, memory_bytes=100 << 20))
    async with sandbox.talk(hungry, greedy) as (one, two):
        assert not isinstance(one, RunResult)
        assert not isinstance(two, RunResult)
        assert await one.receive() == b"%d\n" % (80 << 20)
        assert await two.receive() == b""
        try:
            result = await two.finish()
        except RunnerLost:  # the kernel took the supervisor with it
            return
        assert result.status is Status.MEMORY_LIMIT_EXCEEDED


async def test_conversations_that_ask_for_a_quiet_slot_are_held_one_after_the_other(sandbox: NamespacesSandbox) -> None:
    open_now, most = 0, 0

    async def talk(number: int) -> bytes:
        nonlocal open_now, most
        quiet = dataclasses.replace(job(ECHO), alone=True)
        async with sandbox.talk(quiet, quiet) as (one, _):
            open_now += 1
            most = max(most, open_now)
            assert not isinstance(one, RunResult)
            await one.send(b"%d\n" % number)
            answer = await one.receive()
            open_now -= 1
            return answer

    async def plain() -> bytes:
        async with contextlib.aclosing(sandbox.run(Job("python", "print(1)", (TestInput(b""),)))) as results:
            return (await anext(results)).stdout

    found = await asyncio.gather(*(talk(number) for number in range(4)), plain())
    assert found == [*(b"%d!\n" % number for number in range(4)), b"1\n"]
    assert most == 1
