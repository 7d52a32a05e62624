"""Runners behind sockets: the contract, what a hostile one can do, what is left when one dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from sandbox import framing, link
from sandbox.interface import Job, Limits, RunnerLost, RunResult, Sandbox, SandboxUnavailable, Status, TestInput
from sandbox.pool import Pool
from sandbox.remote import expand, parse_address
from sandbox.runner import sweep_sockets
from sandbox.selfcheck import CANARIES, CONFORMANCE, Check, run_checks
from tests.sandbox.runners import PACKAGES, ROOT, remote, runner_process, until

pytestmark = [pytest.mark.asyncio(loop_scope="session")]

ECHO = "print(input())"
SLOW = "import time\ntime.sleep(0.4)\nprint(input())"


def echo(*values: bytes, source: str = ECHO) -> Job:
    return Job("python", source, tuple(TestInput(value, 1000) for value in values))


async def results(sandbox: Sandbox, job: Job) -> list[RunResult]:
    async with contextlib.aclosing(sandbox.run(job)) as found:
        return [result async for result in found]


async def outputs(sandbox: Sandbox, job: Job) -> list[bytes]:
    return [result.stdout for result in await results(sandbox, job)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pool(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pool]:
    folder = tmp_path_factory.mktemp("runners")
    with runner_process(f"unix:{folder}/a.sock", "--packages", str(PACKAGES)):
        found = remote(f"unix:{folder}/*.sock")
        await found.start()
        yield found
        await found.close()


@pytest.mark.isolation
@pytest.mark.compiler
@pytest.mark.parametrize("check", [*CONFORMANCE, *CANARIES], ids=lambda check: check.name)
async def test_the_remote_backend_keeps_the_contract(pool: Pool, check: Check) -> None:
    (finding,) = await run_checks(pool, [check])
    assert finding.ok, finding.detail


@pytest.mark.isolation
@pytest.mark.compiler
async def test_it_says_what_is_there(pool: Pool) -> None:
    assert pool.slots == 2
    assert pool.languages == {"python", "cpp"}
    assert pool.describe()["runners"] == "all 1 run"
    assert pool.tools["g++"]
    assert pool.tools["cpp_standard"] == "gnu++20"
    assert pool.tools["program_python"].startswith("3.")


@pytest.mark.isolation
async def test_many_jobs_at_once_each_get_their_own_results(pool: Pool) -> None:
    found = await asyncio.gather(*(outputs(pool, echo(b"%d" % n, b"x%d" % n)) for n in range(30)))
    assert found == [[b"%d\n" % n, b"x%d\n" % n] for n in range(30)]


@pytest.mark.isolation
async def test_large_inputs_cross_in_parts_and_keep_their_places_and_seeds(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job("python", "import random\nprint(len(input()), random.random())", tuple(TestInput(b"x" * n) for n in (9, 5, 0, 30, 1, 1)))
    whole = await results(pool, job)
    monkeypatch.setattr(link, "_BATCH_BYTES", 10)
    assert [[len(test.stdin) for test in part.inputs] for _, part in link.batches(job)] == [[9], [5, 0], [30], [1, 1]]
    parts = await results(pool, job)
    assert [(part.index, part.stdout) for part in parts] == [(one.index, one.stdout) for one in whole]


@pytest.mark.isolation
async def test_a_job_that_is_given_up_is_killed_and_its_slot_is_free(pool: Pool) -> None:
    job = Job("python", "import time\nprint('x', flush=True)\ntime.sleep(60)", (TestInput(b""),), Limits(cpu_s=30))
    for _ in range(3):
        tasks = [asyncio.create_task(results(pool, job)) for _ in range(2)]
        await asyncio.sleep(0.3)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert await asyncio.gather(*(outputs(pool, echo(b"1")) for _ in range(4))) == [[b"1\n"]] * 4


@pytest.mark.isolation
async def test_a_job_closed_between_results_leaves_the_connection_usable(pool: Pool) -> None:
    for _ in range(5):
        run = pool.run(echo(*(b"%d" % n for n in range(50))))
        assert (await anext(run)).stdout == b"0\n"
        await run.aclose()
    assert await outputs(pool, echo(b"1")) == [b"1\n"]


@pytest.mark.isolation
@pytest.mark.compiler
async def test_sessions(pool: Pool) -> None:
    back = Job("python", "while True: print(input()[::-1], flush=True)", (TestInput(b""),))
    broken = Job("cpp", "int main() { return x; }", (TestInput(b""),))
    async with pool.talk(back, broken) as (session, failed):
        assert isinstance(failed, RunResult)
        assert failed.status is Status.COMPILE_ERROR
        assert not isinstance(session, RunResult)
        for n in range(20):
            await session.send(b"abc%d\n" % n)
            assert await session.receive() == (b"abc%d" % n)[::-1] + b"\n"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await session.receive()  # given up: what comes later belongs to the next
        await session.send(b"late\n")
        assert await session.receive() == b"etal\n"
        ended = await session.finish()
        assert ended.status is Status.RUNTIME_ERROR  # end of file at input()
        assert await session.receive() == b""
    assert await outputs(pool, echo(b"1")) == [b"1\n"]


@pytest.mark.isolation
async def test_two_sessions_talk_through_us(pool: Pool) -> None:
    asks = Job("python", "for n in range(50):\n    print(n, flush=True)\n    assert int(input()) == n * n", (TestInput(b""),))
    answers = Job("python", "while True: print(int(input()) ** 2, flush=True)", (TestInput(b""),))
    async with pool.talk(asks, answers) as (one, two):
        assert not isinstance(one, RunResult)
        assert not isinstance(two, RunResult)
        while asked := await one.receive():
            await two.send(asked)
            await one.send(await two.receive())
        assert (await one.finish()).status is Status.FINISHED


@pytest.mark.isolation
async def test_a_session_that_prints_too_much_has_hit_its_output_limit(pool: Pool) -> None:
    flood = Job("python", "while True: print('x' * 1000)", (TestInput(b"", 10_000),))
    async with pool.talk(flood) as (session,):
        assert not isinstance(session, RunResult)
        total = 0
        while piece := await session.receive():
            total += len(piece)
        assert total <= 10_000 + framing.CHUNK_BYTES
        assert (await session.finish()).status is Status.OUTPUT_LIMIT_EXCEEDED


# ---- death and failover ------------------------------------------------------------------------------------------------


@pytest.mark.isolation
async def test_what_a_dead_runner_was_doing_is_done_elsewhere(tmp_path: Path) -> None:
    with runner_process(f"unix:{tmp_path}/a.sock") as one, runner_process(f"unix:{tmp_path}/b.sock"):
        found = remote(f"unix:{tmp_path}/*.sock")
        await found.start()
        assert found.slots == 4
        tasks = [asyncio.create_task(outputs(found, echo(b"%d" % n, b"y%d" % n, b"z", source=SLOW))) for n in range(6)]
        await asyncio.sleep(0.8)
        one.kill()
        assert await asyncio.gather(*tasks) == [[b"%d\n" % n, b"y%d\n" % n, b"z\n"] for n in range(6)]
        assert await until(lambda: found.slots == 2)
        assert "1 of 2 run" in found.describe()["runners"]
        with runner_process(f"unix:{tmp_path}/c.sock"):
            assert not os.path.exists(tmp_path / "a.sock"), "a new runner removes the socket of a dead one"
            assert await until(lambda: found.slots == 4), "and is found"
        await found.close()


@pytest.mark.isolation
async def test_a_session_whose_runner_dies_is_a_lost_runner(tmp_path: Path) -> None:
    with runner_process(f"unix:{tmp_path}/a.sock") as one:
        found = remote(f"unix:{tmp_path}/a.sock")
        await found.start()

        async def talk() -> bytes:
            async with found.talk(Job("python", "import time\ntime.sleep(60)", (TestInput(b""),))) as (session,):
                assert not isinstance(session, RunResult)
                asyncio.get_running_loop().call_later(0.2, one.kill)
                return await session.receive()

        with pytest.raises(RunnerLost):
            await talk()
        await found.close()


@pytest.mark.isolation
async def test_without_a_runner_jobs_wait_and_then_are_told(tmp_path: Path) -> None:
    found = remote(f"unix:{tmp_path}/*.sock", patience_s=1.5)
    with pytest.raises(SandboxUnavailable, match="no runner"):
        await found.start()
    with runner_process(f"unix:{tmp_path}/a.sock") as one:
        await found.start()
        one.kill()
        with pytest.raises(SandboxUnavailable):
            await outputs(found, echo(b"1"))
    assert found.languages, "a moment without runners is no lack of a language"
    with runner_process(f"unix:{tmp_path}/a.sock"):
        assert await until(lambda: found.describe()["runners"].startswith("all 1"))
        assert await outputs(found, echo(b"1")) == [b"1\n"]
    await found.close()


@pytest.mark.isolation
async def test_a_dead_service_leaves_nothing_running(tmp_path: Path) -> None:
    with runner_process(f"unix:{tmp_path}/a.sock", slots=1):
        first, second = remote(f"unix:{tmp_path}/a.sock"), remote(f"unix:{tmp_path}/a.sock")
        await first.start()
        await second.start()
        task = asyncio.create_task(outputs(first, Job("python", "import time\ntime.sleep(60)", (TestInput(b""),), Limits(cpu_s=60))))
        await asyncio.sleep(0.3)
        for place in first._places.values():  # as the kernel does for a process that is killed
            assert place.runner is not None
            place.runner.member._end("killed")  # type: ignore[attr-defined]
        assert await outputs(second, echo(b"1")) == [b"1\n"], "its slot is free"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await first.close()
        await second.close()


@pytest.mark.isolation
async def test_a_stopped_runner_is_taken_for_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "SILENCE_S", 1.0)
    with runner_process(f"unix:{tmp_path}/a.sock") as one, runner_process(f"unix:{tmp_path}/b.sock"):
        found = remote(f"unix:{tmp_path}/*.sock")
        await found.start()
        one.send_signal(signal.SIGSTOP)
        try:
            assert await asyncio.gather(*(outputs(found, echo(b"%d" % n)) for n in range(6))) == [[b"%d\n" % n] for n in range(6)]
        finally:
            one.send_signal(signal.SIGCONT)
        await found.close()


# ---- tokens ------------------------------------------------------------------------------------------------------------


@pytest.mark.isolation
async def test_a_port_serves_whoever_has_the_token() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"tcp:127.0.0.1:{port}"
    with runner_process(address, token="right"):
        good, bad, none = remote(address, token="right"), remote(address, token="wrong", patience_s=2), remote(address, patience_s=2)
        await good.start()
        assert await outputs(good, echo(b"1")) == [b"1\n"]
        for pool in (bad, none):
            with pytest.raises(SandboxUnavailable, match="token"):
                await pool.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)  # a stranger that speaks another protocol
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await reader.read() == b""
        writer.close()
        assert await outputs(good, echo(b"2")) == [b"2\n"]
        await good.close()


async def test_a_port_without_a_token_is_refused() -> None:
    with pytest.raises(AssertionError, match="token"), runner_process("tcp:127.0.0.1:1"):
        pass


# ---- addresses ---------------------------------------------------------------------------------------------------------


@pytest.mark.isolation
async def test_a_runner_that_is_stopped_serves_on_until_nobody_asks(tmp_path: Path) -> None:
    """An engine that stops asks the service and its sandboxes at once: what the service has accepted is to be finished."""
    with runner_process(f"unix:{tmp_path}/a.sock", slots=1) as process:
        found = remote(f"unix:{tmp_path}/*.sock")
        await found.start()
        tasks = [asyncio.create_task(outputs(found, echo(b"%d" % n, source=SLOW))) for n in range(4)]
        await asyncio.sleep(0.2)
        process.terminate()
        assert await asyncio.gather(*tasks) == [[b"%d\n" % n] for n in range(4)]
        assert await until(lambda: process.poll() is not None)
        assert process.returncode == 0
        await found.close()


@pytest.mark.isolation
async def test_a_runner_that_is_stopped_serves_no_longer_than_it_may(tmp_path: Path) -> None:
    with runner_process(f"unix:{tmp_path}/a.sock", "--drain-s", "0.3", slots=1) as process:
        found = remote(f"unix:{tmp_path}/*.sock")
        await found.start()
        task = asyncio.create_task(outputs(found, echo(b"1", source="import time\ntime.sleep(60)")))
        await asyncio.sleep(0.3)
        process.terminate()
        assert await until(lambda: process.poll() is not None, 10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await found.close()


@pytest.mark.isolation
async def test_a_socket_that_somebody_removes_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with runner_process(f"unix:{path}"):
        assert os.listdir(tmp_path) == ["a.sock"]
        found = remote(f"unix:{tmp_path}/*.sock")
        await found.start()
        path.unlink()
        assert await until(path.exists)
        assert await outputs(found, echo(b"1")) == [b"1\n"]
        await found.close()
    assert os.listdir(tmp_path) == []


@pytest.mark.isolation
async def test_a_folder_that_cannot_be_listened_in_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sandbox.runner", "--listen", f"unix:{tmp_path}/missing/a.sock", "--slots", "1"]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    assert process.returncode == 1
    assert f"cannot listen at {tmp_path}/missing/a.sock" in said.decode()
    assert "mount a volume there" in said.decode()


async def test_addresses(tmp_path: Path) -> None:
    for wrong in ("", "unix:", "unix:relative", "tcp:host", "tcp::1", "tcp:host:0", "tcp:host:99999", "http://x", "tcp:host:port"):
        with pytest.raises(ValueError, match="address"):
            parse_address(wrong)
    assert str(parse_address("tcp:[::1]:9000")) == "tcp:::1:9000"
    (one,) = await expand(parse_address("tcp:127.0.0.1:9000"))
    assert (one.host, one.port) == ("127.0.0.1", 9000)
    assert await expand(parse_address(f"unix:{tmp_path}/*.sock")) == []
    with pytest.raises(OSError, match=r"name\.invalid"):
        await expand(parse_address("tcp:name.invalid:9000"))


async def test_sockets_of_the_dead_are_swept(tmp_path: Path) -> None:
    for name in ("dead.sock", "alive.sock", "other"):
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(tmp_path / name))
    os.unlink(tmp_path / "alive.sock")
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(tmp_path / "alive.sock"))
        alive.listen()
        assert sweep_sockets(str(tmp_path)) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alive.sock", "other"]
