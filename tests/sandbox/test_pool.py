"""Which runner gets a job, and who waits for whom: runners that say what a test has them say."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping

import pytest

from sandbox.interface import Job, RunResult, SandboxUnavailable, Session, Status, TestInput
from sandbox.pool import Pool

pytestmark = pytest.mark.asyncio(loop_scope="function")


class Scripted:
    """A runner of these languages, which prints its name."""

    def __init__(self, name: str, *languages: str) -> None:
        self.name, self.languages = name, frozenset(languages)
        self.slots, self.busy, self.spent = 1, 0, False
        self.notes: Mapping[str, str] = {}
        self.tools: Mapping[str, str] = {}
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Nothing to do."""

    async def run(self, job: Job) -> AsyncGenerator[RunResult, None]:
        """One result, with the runner's name."""
        yield RunResult(0, Status.FINISHED, self.name.encode(), exit_code=0)

    @contextlib.asynccontextmanager
    async def talk(self, *jobs: Job) -> AsyncIterator[tuple[Session | RunResult, ...]]:
        """The runner's name once for each job."""
        yield tuple([RunResult(0, Status.FINISHED, self.name.encode(), exit_code=0) for _ in jobs])

    async def close(self) -> None:
        """End."""
        if not self.ended.done():
            self.ended.set_result("closed")


class Places:
    """What there should be, changed by the test."""

    def __init__(self) -> None:
        self.wanted: dict[str, Callable[[], Scripted]] = {}
        self.living: dict[str, Scripted] = {}

    def add(self, name: str, *languages: str) -> None:
        """A runner of these languages from now on."""

        def make() -> Scripted:
            self.living[name] = Scripted(name, *languages)
            return self.living[name]

        self.wanted[name] = make

    async def __call__(self) -> Mapping[str, Callable[[], Scripted]]:
        return dict(self.wanted)


def job(language: str) -> Job:
    return Job(language, "", (TestInput(b""),))


async def who(pool: Pool, language: str) -> str:
    async with contextlib.aclosing(pool.run(job(language))) as results:
        return "".join([result.stdout.decode() async for result in results])


async def half_left(patience_s: float) -> tuple[Places, Pool]:
    """A pool of a runner of C++ alone, after one of both languages died."""
    places = Places()
    places.add("whole", "python", "cpp")
    pool = Pool(places, patience_s=patience_s)
    await pool.start()
    places.add("half", "cpp")
    del places.wanted["whole"]
    places.living["whole"].ended.set_result("killed")
    while "half" not in places.living or "whole" in pool._places:
        await asyncio.sleep(0.01)
    return places, pool


async def test_a_job_waits_for_a_runner_of_its_language_and_not_for_any() -> None:
    """A runner whose self-test was disturbed runs one language less; while it is alone, jobs of the other are not refused."""
    places, pool = await half_left(patience_s=20)
    assert await who(pool, "cpp") == "half"
    assert pool.languages == {"python", "cpp"}
    waiting = asyncio.create_task(who(pool, "python"))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    places.add("again", "python", "cpp")
    assert await waiting == "again"
    await pool.close()


async def test_a_language_that_has_long_not_run_is_refused() -> None:
    _, pool = await half_left(patience_s=0.3)
    with pytest.raises(SandboxUnavailable, match="python does not run here"):
        await who(pool, "python")  # whoever waits is told, and so is whoever comes later
    while "python" in pool.languages:
        await asyncio.sleep(0.01)
    with pytest.raises(SandboxUnavailable, match="python does not run here"):
        await who(pool, "python")
    assert await who(pool, "cpp") == "half"
    await pool.close()


async def test_two_programs_that_talk_get_a_runner_of_both_languages() -> None:
    places = Places()
    places.add("half", "cpp")
    places.add("whole", "python", "cpp")
    pool = Pool(places, patience_s=5)
    await pool.start()
    for _ in range(5):
        async with pool.talk(job("cpp"), job("python")) as sessions:
            assert [one.stdout for one in sessions if isinstance(one, RunResult)] == [b"whole", b"whole"]
    await pool.close()
