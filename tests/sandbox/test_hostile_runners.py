"""What a hostile or broken runner can do to the service: lose its connection, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from sandbox import framing, link
from sandbox import remote as remote_backend
from sandbox.framing import Ending, Kind, Message, Ready
from sandbox.interface import Job, Limits, RunnerLost, RunResult, Sandbox, SandboxUnavailable, Status, TestInput
from sandbox.pool import Pool
from sandbox.remote import Demands, parse_address, runners
from tests.sandbox.runners import Peer, Script, remote, scripted_runner

pytestmark = [pytest.mark.asyncio(loop_scope="session")]

ECHO = "print(input())"


async def results(sandbox: Sandbox, job: Job) -> list[RunResult]:
    async with contextlib.aclosing(sandbox.run(job)) as found:
        return [result async for result in found]


def answers(*messages: Message | bytes) -> Script:
    """A runner that shakes hands and answers the first job so."""

    async def script(peer: Peer) -> None:
        await peer.greet()
        while (await peer.hear()).kind is not Kind.JOB:
            pass
        for message in messages:
            peer.say(message)
        await peer.linger()

    return script


def run(index: int | None = 0, status: Status = Status.FINISHED, stdout: bytes = b"") -> Message:
    return framing.encode_result(RunResult(index, status, stdout, exit_code=0))


STARTED, DONE = Message(Kind.STARTED), framing.encode_end(Ending.DONE)
HOSTILE = {
    "garbage": (b"\xff" * 1000,),
    "result before start": (run(),),
    "end before results": (STARTED, DONE),
    "too few results": (STARTED, run(0), DONE),
    "out of order": (STARTED, run(1)),
    "twice the same": (STARTED, run(0), run(0)),
    "too many results": (STARTED, run(0), run(1), run(2)),
    "compile error late": (STARTED, run(0), run(None, Status.COMPILE_ERROR)),
    "more output than allowed": (STARTED, run(0, stdout=b"x" * 1001)),
    "endless output announced": (STARTED, framing.HEADER.pack(Kind.RESULT, 0, 0, 50, 1 << 40)),
    "a head that is no result": (STARTED, Message(Kind.RESULT, b"x" * 5)),
    "a job of its own": (framing.encode_jobs(Kind.JOB, (Job("python", "", ()),)),),
    "an end that is none": (STARTED, Message(Kind.END, b"[1, 2]")),
    "a deep end": (STARTED, Message(Kind.END, b"[" * 5000)),
    "cancelled by itself": (STARTED, framing.encode_end(Ending.CANCELLED)),
    "a word for a session": (STARTED, Message(Kind.DATA, b"", b"x")),
    "a broken pong": (Message(Kind.PONG, b"x"),),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_runner_loses_its_job_to_another(tmp_path: Path, name: str) -> None:
    """Nothing that it says reaches a grade but the results that it may give, and the service goes on."""

    async def honest(peer: Peer) -> None:
        await peer.greet()
        while (await peer.hear()).kind is not Kind.JOB:
            pass
        for message in (STARTED, run(0, stdout=b"1"), run(1, stdout=b"2"), DONE):
            peer.say(message)
        await peer.linger()

    hostile = answers(*HOSTILE[name])
    seen = 0

    async def script(peer: Peer) -> None:
        nonlocal seen
        seen += 1
        await (hostile if seen == 2 else honest)(peer)  # the first connection only watches

    async with scripted_runner(tmp_path / "a.sock", script):
        found = remote(f"unix:{tmp_path}/a.sock", patience_s=5)
        await found.start()
        got = await results(found, Job("python", ECHO, (TestInput(b"", 1000), TestInput(b"", 1000))))
        assert [one.index for one in got] == [0, 1]
        assert seen == 3
        await found.close()


@pytest.mark.parametrize(
    "greeting",
    [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 100, framing.HEADER.pack(Kind.WELCOME, 0, 0, 0, 1 << 50)],
    ids=["silence", "http", "zeros", "endless"],
)
async def test_a_runner_that_does_not_shake_hands_is_not_used(tmp_path: Path, greeting: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_backend, "_HANDSHAKE_S", 0.3)

    async def script(peer: Peer) -> None:
        peer.say(greeting)
        await peer.linger()

    async with scripted_runner(tmp_path / "a.sock", script):
        with pytest.raises(SandboxUnavailable):
            await remote(f"unix:{tmp_path}/a.sock", patience_s=3).start()


async def test_a_runner_without_the_token_learns_nothing(tmp_path: Path) -> None:
    heard: list[Message] = []

    async def script(peer: Peer) -> None:
        await peer.hear()
        peer.say(Message(Kind.WELCOME, b"", bytes(64)))
        heard.append(await peer.hear())

    async with scripted_runner(tmp_path / "a.sock", script, token="secret"):
        with pytest.raises(SandboxUnavailable, match="token"):
            await remote(f"unix:{tmp_path}/a.sock", token="secret", patience_s=3).start()
    assert heard == []


async def test_a_runner_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_SLACK_S", 0.2)
    async with scripted_runner(tmp_path / "a.sock", answers(STARTED)):
        found = remote(f"unix:{tmp_path}/a.sock", patience_s=5)
        await found.start()
        limits = Limits(cpu_s=0.0, wall_s=0.01, compile_s=0.0)
        with pytest.raises(RunnerLost):
            await results(found, Job("python", ECHO, (TestInput(b""),), limits))
        await found.close()


async def test_a_runner_that_claims_free_slots_and_starts_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that says nothing of a job may have others' jobs in all its slots; one that says it has not would draw all jobs to itself."""
    monkeypatch.setattr(link, "_LOOK_S", 0.02)
    monkeypatch.setattr(link, "_IDLE_S", 0.1)
    async with scripted_runner(tmp_path / "a.sock", answers()):
        found = remote(f"unix:{tmp_path}/a.sock", patience_s=5)
        await found.start()
        with pytest.raises(RunnerLost):
            await results(found, Job("python", ECHO, (TestInput(b""),)))
        await found.close()


async def test_no_number_of_slots_makes_a_job_wait_longer_than_an_hour() -> None:
    assert link._patience_s(Job("python", ECHO, (TestInput(b""),), Limits(wall_s=1e9)), 4096) == 3600


async def test_bytes_that_drip_do_not_count_as_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sign of life keeps a connection, not a job."""
    monkeypatch.setattr(link, "_PATIENCE_MOST_S", 0.3)
    dripped = 0

    async def script(peer: Peer) -> None:
        nonlocal dripped
        await peer.greet(framing.ready(Ready(4096, frozenset({"python"}), {}, {})))
        while (await peer.hear()).kind is not Kind.JOB:
            pass
        peer.say(STARTED)
        peer.say(framing.HEADER.pack(Kind.RESULT, 0, 0, *framing.result_bounds(1000)))
        while True:
            peer.say(b"\0")
            dripped += 1
            await asyncio.sleep(0.01)

    async with scripted_runner(tmp_path / "a.sock", script):
        found = remote(f"unix:{tmp_path}/a.sock", patience_s=5)
        await found.start()
        with pytest.raises(RunnerLost):
            await results(found, Job("python", ECHO, (TestInput(b"", 1000),)))
        assert dripped > 3
        await found.close()


async def test_names_without_end_in_the_folder_of_sockets_are_not_all_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever broke out of a box may write there."""
    monkeypatch.setattr(remote_backend, "_MOST", 5)
    for number in range(50):
        (tmp_path / f"{number}.sock").touch()
    found = await runners((parse_address(f"unix:{tmp_path}/*.sock"),), "")()
    assert len(found) == 5


@pytest.mark.parametrize(
    ("demands", "accounting", "standard", "why"),
    [
        (Demands(), "rlimit", "c++20", None),
        (Demands(strict=True), "cgroup v1", "gnu++20", None),
        (Demands(strict=True), "rlimit", "gnu++20", "strict.*rlimit"),
        (Demands(cpp_standard="gnu++20"), "rlimit", "gnu++20", None),
        (Demands(cpp_standard="c++20"), "rlimit", "gnu++20", r"compiles for gnu\+\+20, not for c\+\+20"),
    ],
)
async def test_a_runner_that_lacks_what_is_demanded_is_not_used(
    tmp_path: Path, demands: Demands, accounting: str, standard: str, why: str | None
) -> None:
    ready = Ready(1, frozenset({"python"}), {"memory accounting": accounting}, {"cpp_standard": standard})

    async def script(peer: Peer) -> None:
        await peer.greet(framing.ready(ready))
        await peer.linger()

    async with scripted_runner(tmp_path / "a.sock", script):
        found = Pool(runners((parse_address(f"unix:{tmp_path}/a.sock"),), "", demands), patience_s=2)
        if why is None:
            await found.start()
            await found.close()
        else:
            with pytest.raises(SandboxUnavailable, match=why):
                await found.start()
