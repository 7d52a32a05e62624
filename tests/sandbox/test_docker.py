"""Runners in containers: the contract, what a container is given, what dies with what, and what is left."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from sandbox import engine as engines
from sandbox.docker import ContainerRunner, DockerConfig, _Demultiplexer, containers
from sandbox.framing import Ready
from sandbox.interface import Job, Limits, RunnerLost, RunResult, Sandbox, SandboxUnavailable, TestInput
from sandbox.link import introduce, stream
from sandbox.pool import Pool
from sandbox.selfcheck import CANARIES, CONFORMANCE, Check, run_checks
from tests.sandbox.runners import until

pytestmark = [pytest.mark.asyncio(loop_scope="session")]
ROOT = Path(__file__).parents[2]
ECHO, SLOW = "print(input())", "import time\ntime.sleep(0.4)\nprint(input())"


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout


def ours() -> set[str]:
    """Ids of all containers of ours, running or not."""
    return set(docker("ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={engines.LABEL}").split())


def inspect(container: str) -> Any:
    return json.loads(docker("inspect", container))[0]


async def outputs(sandbox: Sandbox, *values: bytes, source: str = ECHO) -> list[bytes]:
    job = Job("python", source, tuple(TestInput(value) for value in values))
    async with contextlib.aclosing(sandbox.run(job)) as found:
        return [result.stdout async for result in found]


def ids(pool: Pool) -> list[str]:
    """The containers of a pool."""
    runners = [place.runner.member for place in pool._places.values() if place.runner is not None]
    return [runner.container for runner in runners if isinstance(runner, ContainerRunner)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pool() -> AsyncIterator[Pool]:
    found = Pool(containers(DockerConfig(slots=2)))
    await found.start()
    yield found
    await found.close()


@pytest.mark.containers
@pytest.mark.parametrize("check", [*CONFORMANCE, *CANARIES], ids=lambda check: check.name)
async def test_the_docker_backend_keeps_the_contract(pool: Pool, check: Check) -> None:
    (finding,) = await run_checks(pool, [check])
    assert finding.ok, finding.detail


@pytest.mark.containers
async def test_it_says_what_is_there_and_what_was_granted(pool: Pool) -> None:
    found = pool.describe()
    assert (pool.slots, pool.languages) == (2, {"python", "cpp"})
    assert found["precompiled header"] == "in use", "the image's header is good for exactly the flags that programs get"
    assert found["grants"].startswith(
        "the least: an ordinary user, no capabilities, no new privileges, a system-call filter, a read-only root"
    )
    assert pool.tools["g++"]


@pytest.mark.containers
async def test_a_container_is_given_the_least(pool: Pool) -> None:
    for container in ids(pool):
        seen = inspect(container)
        host, config = seen["HostConfig"], seen["Config"]
        assert host["Privileged"] is False
        assert host["NetworkMode"] == "none"
        assert host["ReadonlyRootfs"] is True
        assert host["CapDrop"] == ["ALL"]
        assert not host["CapAdd"]
        assert "no-new-privileges" in host["SecurityOpt"]
        assert any(option.startswith("seccomp=") for option in host["SecurityOpt"])
        assert host["Memory"] == host["MemorySwap"] > 0
        assert host["PidsLimit"] > 0
        assert host["NanoCpus"] > 0
        assert host["IpcMode"] == "private"
        assert not host["Binds"]
        assert not seen["Mounts"], "no volume, and never the engine's socket"
        assert config["User"] == "10001:10000"
        status = docker("exec", container, "cat", "/proc/1/status")
        assert "CapEff:\t0000000000000000" in status
        assert "CapBnd:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        assert "Seccomp:\t2" in status


@pytest.mark.containers
async def test_what_a_dead_container_was_doing_is_done_elsewhere(pool: Pool) -> None:
    before = pool.replaced
    tasks = [asyncio.create_task(outputs(pool, b"%d" % n, b"y", source=SLOW)) for n in range(6)]
    for _ in range(2):
        await asyncio.sleep(0.7)
        victim = ids(pool)[:1]
        if victim:
            docker("kill", *victim)
    assert await asyncio.gather(*tasks) == [[b"%d\n" % n, b"y\n"] for n in range(6)]
    assert pool.replaced > before
    assert await until(lambda: len(ids(pool)) == 2)
    assert await until(lambda: ours() == set(ids(pool)))


@pytest.mark.containers
async def test_a_container_that_has_served_enough_is_replaced_without_a_gap() -> None:
    found = Pool(containers(DockerConfig(slots=1, programs=3)))
    await found.start()
    try:
        (first,) = ids(found)
        assert [await outputs(found, b"%d" % n) for n in range(12)] == [[b"%d\n" % n] for n in range(12)]
        assert await until(lambda: ids(found) not in ([], [first]))
        assert await until(lambda: first not in ours())
        assert await outputs(found, b"after") == [b"after\n"]
    finally:
        await found.close()
    assert first not in ours()


@pytest.mark.containers
async def test_closing_leaves_no_container(pool: Pool) -> None:
    before = ours()
    found = Pool(containers(DockerConfig(slots=1)))
    await found.start()
    task = asyncio.create_task(outputs(found, b"1", source="import time\ntime.sleep(60)"))
    await asyncio.sleep(0.2)
    made = ours() - before
    assert len(made) == 1
    await found.close()
    with pytest.raises((RunnerLost, SandboxUnavailable)):
        await task
    assert ours().isdisjoint(made)


_SERVICE = """
import asyncio, sys
from sandbox.docker import DockerConfig, containers
from sandbox.framing import Ready
from sandbox.interface import Job, Limits, TestInput
from sandbox.pool import Pool
async def main():
    pool = Pool(containers(DockerConfig(slots=1)))
    await pool.start()
    task = asyncio.ensure_future(anext(pool.run(Job("python", "import time; time.sleep(60)", (TestInput(b""),), Limits(cpu_s=60)))))
    await asyncio.sleep(0.5)
    print(next(iter(pool._places.values())).runner.member.container, flush=True)
    await task
asyncio.run(main())
"""


def service() -> tuple[subprocess.Popen[str], str]:
    """A service of its own process with one busy container; the container's id."""
    process = subprocess.Popen([sys.executable, "-c", _SERVICE], stdout=subprocess.PIPE, cwd=ROOT, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


@pytest.mark.containers
async def test_a_killed_service_leaves_no_container() -> None:
    process, container = await asyncio.to_thread(service)
    pid = inspect(container)["State"]["Pid"]
    end(process)
    assert await until(lambda: container not in ours(), 10)
    assert not os.path.exists(f"/proc/{pid}")


@pytest.mark.containers
async def test_what_cannot_end_by_itself_is_swept_by_the_next_start(pool: Pool) -> None:
    process, container = await asyncio.to_thread(service)
    docker("pause", container)
    end(process)
    await asyncio.sleep(1)
    assert container in ours()
    found = Pool(containers(DockerConfig(slots=1)))
    await found.start()
    assert container not in ours()
    assert set(ids(pool)) <= ours(), "a living service's containers are left alone"
    await found.close()


@pytest.mark.containers
async def test_a_container_that_hears_nothing_any_more_ends_by_itself(pool: Pool) -> None:
    """What is left where the engine was killed: nobody closes its standard input, and nobody speaks."""
    process, container = await asyncio.to_thread(service)
    pid = inspect(container)["State"]["Pid"]
    process.send_signal(signal.SIGSTOP)
    try:
        assert await until(lambda: not os.path.exists(f"/proc/{pid}"), 10)
    finally:
        end(process)


@pytest.mark.containers
async def test_an_engine_or_an_image_that_is_not_there_is_named() -> None:
    for config, why in (
        (DockerConfig(image="no-such-image"), "docker build"),
        (DockerConfig(host="unix:///nonexistent.sock"), "no container engine"),
        (DockerConfig(runtime="no-such-runtime"), "no runtime"),
    ):
        with pytest.raises(SandboxUnavailable, match=why):
            await Pool(containers(config), patience_s=2).start()


async def test_an_engine_that_hangs_holds_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads of everybody are few; launches of many slots would take them all for a minute."""
    answered = threading.Event()

    def hang(*_: object) -> str:
        answered.wait(60)
        raise SandboxUnavailable("it hung")

    monkeypatch.setattr(engines.Engine, "connect", lambda _: None)
    monkeypatch.setattr(engines.Engine, "create", hang)
    found = Pool(containers(DockerConfig(slots=64)), patience_s=1)
    starting = asyncio.create_task(found.start())
    await asyncio.sleep(0.3)
    try:
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "done"), 30) == "done"
    finally:
        answered.set()
        with pytest.raises(SandboxUnavailable):
            await starting


def label(**changed: object) -> dict[str, str]:
    return {engines.OWNER_LABEL: json.dumps({**json.loads(engines.owner()), **changed})}


async def test_whose_containers_are_orphans() -> None:
    now = time.time()
    assert not engines.is_orphan("running", label(), now, now)
    assert not engines.is_orphan("created", label(), now - 1000, now), "ours are about to start"
    assert engines.is_orphan("running", label(started=1), now, now), "another process has its number now"
    assert engines.is_orphan("running", label(boot="another"), now, now)
    for elsewhere in (label(namespace="pid:[1]"), {}, {engines.OWNER_LABEL: "nonsense"}, {engines.OWNER_LABEL: "[]"}):
        assert not engines.is_orphan("running", elsewhere, now - 1000, now), "it ends by itself"
        assert not engines.is_orphan("created", elsewhere, now - 1, now)
        for state in ("exited", "created", "dead", "paused"):
            assert engines.is_orphan(state, elsewhere, now - 1000, now)


@pytest.mark.parametrize("step", [1, 3, 1000])
async def test_what_the_engine_sends_is_taken_apart(step: int) -> None:
    heard = bytearray()
    target = stream()
    target.data_received = heard.extend  # type: ignore[method-assign,assignment]
    taken = _Demultiplexer(target)
    pieces = [(1, b"abc"), (2, b"oh no"), (1, b""), (1, b"d" * 300), (2, b"x" * 9000)]
    data = b"".join(bytes([kind, 0, 0, 0]) + len(piece).to_bytes(4, "big") + piece for kind, piece in pieces)
    for at in range(0, len(data), step):
        taken.data_received(data[at : at + step])
    assert bytes(heard) == b"abc" + b"d" * 300
    assert taken.said().startswith("oh nox")
    assert len(taken.said()) == 4096


@pytest.mark.containers
async def test_a_job_given_up_leaves_the_container_usable(pool: Pool) -> None:
    before = ids(pool)
    job = Job("python", "import time\ntime.sleep(60)", (TestInput(b""),), Limits(cpu_s=60))

    async def first() -> RunResult:
        async with contextlib.aclosing(pool.run(job)) as found:
            return await anext(found)

    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await first()
    assert await outputs(pool, b"1") == [b"1\n"]
    assert ids(pool) == before


@pytest.mark.containers
async def test_a_container_that_started_with_less_serves_until_a_whole_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill may hit its self-test. Nobody waits for it, and it does not stay."""
    introduced = 0

    async def disturbed(*arguments: Any) -> Ready:
        nonlocal introduced
        introduced += 1
        ready = await introduce(*arguments)
        return dataclasses.replace(ready, languages=frozenset({"python"})) if introduced == 2 else ready

    monkeypatch.setattr("sandbox.docker.introduce", disturbed)
    found = Pool(containers(DockerConfig(slots=1)))
    await found.start()
    try:
        (first,) = ids(found)
        docker("kill", first)
        assert await until(lambda: introduced == 2)
        assert await outputs(found, b"1") == [b"1\n"]
        assert found.languages == {"python", "cpp"}
        job = Job("cpp", "#include <iostream>\nint main() { std::cout << 2; }", (TestInput(b""),))
        async with contextlib.aclosing(found.run(job)) as results:
            assert [result.stdout async for result in results] == [b"2"]
        assert introduced == 3
    finally:
        await found.close()
