"""What is left when the container engine itself is killed: tried with an engine of its own, so that nobody else's dies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.engine import LABEL

pytestmark = pytest.mark.containers
ROOT = Path(__file__).parents[2]

_SERVICE = """
import asyncio, contextlib, sys
from sandbox.docker import DockerConfig, containers
from sandbox.interface import Job, Limits, SandboxError, TestInput
from sandbox.pool import Pool

async def one(pool, number):
    job = Job("python", "import time\\ntime.sleep(0.2)\\nprint(input())", (TestInput(b"%d" % number), TestInput(b"x")), Limits(cpu_s=5))
    async with contextlib.aclosing(pool.run(job)) as results:
        assert [result.stdout async for result in results] == [b"%d\\n" % number, b"x\\n"]

async def main():
    pool = Pool(containers(DockerConfig(slots=1, host=sys.argv[1])))
    await pool.start()
    print("up", flush=True)
    for number in range(10_000):
        await one(pool, number)
        print(number, flush=True)
asyncio.run(main())
"""


class Engine:
    """An engine with a folder, a socket, a containerd and a network of its own: the last, since it would remove another's bridge."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.host = f"unix://{folder}/socket"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = {"data-root": "data", "exec-root": "run", "pidfile": "pid"}
        command = ["unshare", "--net", "dockerd", "--host", self.host, "--bridge=none", "--iptables=false", "--ip6tables=false"]
        command += [f"--{name}={self.folder}/{place}" for name, place in options.items()]
        with open(f"{self.folder}/log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        assert until(lambda: self.docker("version").returncode == 0, 30), Path(self.folder, "log").read_text()[-3000:]

    def docker(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["docker", "--host", self.host, *arguments], capture_output=True, text=True)

    def ours(self) -> list[str]:
        return self.docker("ps", "--all", "--quiet", "--filter", f"label={LABEL}").stdout.split()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            self.start()  # whatever it left is its own to clean up
        for name in self.ours():
            self.docker("rm", "--force", name)
        assert self.process is not None
        self.process.terminate()
        self.process.wait(30)


def until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


def runners(folder: str) -> list[int]:
    """Processes of runners and of their boxes in this engine's containers."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes()
                mounts = Path(f"/proc/{name}/mountinfo").read_text()
            except OSError:
                continue
            if (b"sandbox.runner" in words or b"/opt/runner" in words) and f"{folder}/data/overlay2" in mounts:
                found.append(int(name))
    return found


@pytest.fixture
def engine() -> Iterator[Engine]:
    folder = tempfile.mkdtemp(prefix="engine-")
    found = Engine(folder)
    try:
        found.start()
        saved = subprocess.Popen(["docker", "save", "reward-sandbox:latest"], stdout=subprocess.PIPE)
        loaded = subprocess.run(["docker", "--host", found.host, "load", "--quiet"], stdin=saved.stdout, capture_output=True, text=True)
        assert saved.wait() == 0
        assert loaded.returncode == 0, loaded.stderr
        yield found
    finally:
        found.stop()
        subprocess.run(["umount", "--lazy", f"{folder}/data"], capture_output=True)  # the engine mounts its folder onto itself
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("dockerd") is None, reason="needs root and dockerd, for an engine of its own")
def test_a_killed_engine_leaves_nothing_and_the_service_goes_on_with_the_next(engine: Engine) -> None:
    service = subprocess.Popen([sys.executable, "-c", _SERVICE, engine.host], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert service.stdout is not None
        assert service.stdout.readline() == "up\n"
        assert [service.stdout.readline() for _ in range(2)] == ["0\n", "1\n"]
        assert runners(engine.folder)
        engine.kill()
        assert until(lambda: not runners(engine.folder), 10), "they end by themselves"
        engine.start()
        assert [service.stdout.readline() for _ in range(4)] == [f"{number}\n" for number in range(2, 6)], "no job is lost, none runs twice"
        assert len(engine.ours()) == 1, "what the killed engine left is swept"
        assert engine.docker("volume", "ls", "--quiet").stdout == ""
    finally:
        service.kill()
        service.wait()
        if service.stdout is not None:
            service.stdout.close()
    assert until(lambda: engine.ours() == [], 10)
    assert until(lambda: not runners(engine.folder), 10)
