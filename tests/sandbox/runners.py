"""Runners for tests: the real one as a process, and servers that say what a script has them say."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from sandbox import framing
from sandbox.docker import DockerConfig, containers
from sandbox.framing import Decoder, Kind, Message, Ready
from sandbox.namespaces.backend import NamespacesConfig, NamespacesSandbox
from sandbox.pool import Pool
from sandbox.remote import parse_address, runners

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / ".runtime" / "python"
# Takes its supervisor down with its memory where its input says so.
BOMB = """
import os, time
if input() == 'bomb':
    while True:
        if os.fork() == 0:
            b = bytearray(8 << 20)
            time.sleep(5)
print('ok')
"""


@contextlib.contextmanager
def runner_process(address: str, *arguments: str, token: str = "", slots: int = 2) -> Iterator[subprocess.Popen[str]]:
    """A real runner that listens at the address."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), **({"SANDBOX_TOKEN": token} if token else {})}
    command = [sys.executable, "-m", "sandbox.runner", "--listen", address, "--slots", str(slots), "--python", sys.executable, *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        lines = []
        while not lines or (lines[-1] and "slots at" not in lines[-1]):
            lines.append(process.stderr.readline())
        assert "slots at" in lines[-1], lines
        yield process
    finally:
        process.terminate()
        process.wait(20)
        if process.stderr is not None:
            process.stderr.close()


def remote(*addresses: str, token: str = "", patience_s: float = 20.0) -> Pool:
    """A pool over the runners at these addresses."""
    return Pool(runners(tuple(map(parse_address, addresses)), token), patience_s=patience_s)


@contextlib.contextmanager
def backend_named(name: str) -> Iterator[NamespacesSandbox | Pool]:
    """The sandbox that `--backend` names, not yet started; an address is that of a runner which runs already."""
    if name == "namespaces":
        yield NamespacesSandbox(NamespacesConfig(slots=2, python=sys.executable, packages=str(PACKAGES)))
    elif name == "docker":
        yield Pool(containers(DockerConfig(slots=2)))
    elif name == "docker-cgroup":
        with delegated_cgroup() as cgroup:
            yield Pool(containers(DockerConfig(slots=2, cgroup=cgroup, strict=True)))
    elif name == "remote":
        with tempfile.TemporaryDirectory() as folder, runner_process(f"unix:{folder}/a.sock", "--packages", str(PACKAGES)):
            yield remote(f"unix:{folder}/a.sock")
    elif name == "composed":
        with composed_sandbox() as folder:
            yield remote(f"unix:{folder}/*.sock")
    else:
        yield remote(name)


@contextlib.contextmanager
def delegated_cgroup(suffix: str = "") -> Iterator[str]:
    """A cgroup that runners in containers may divide; its name on this machine."""
    name, script = f"reward-runners-test-{os.getpid()}{suffix}", str(ROOT / "deploy/delegate-cgroup")
    driver = subprocess.run(["docker", "info", "--format", "{{.CgroupDriver}}"], capture_output=True, text=True).stdout.strip()
    if driver == "systemd":  # where dashes are levels
        name = f"{name.replace('-', '')}.slice"
    made = subprocess.run([script, name], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no cgroup can be given away here: {made.stderr.strip()}")
    try:
        yield f"/{name}"
    finally:
        remove = [script, "--remove", name]
        end = time.monotonic() + 10  # what was killed in there takes a moment
        while subprocess.run(remove, capture_output=True).returncode and time.monotonic() < end:
            time.sleep(0.1)
        subprocess.run(remove, check=True, capture_output=True)


@contextlib.contextmanager
def composed_sandbox() -> Iterator[str]:
    """The sandbox of `deploy/compose.yaml` as it stands; the folder of its sockets."""
    project = f"reward-attacks-{os.getpid()}"
    compose = ["docker", "compose", "--project-name", project, "--file", str(ROOT / "deploy/compose.yaml")]
    try:
        subprocess.run([*compose, "up", "--detach", "--wait", "--no-build", "sandbox"], check=True, capture_output=True)
        show = ["docker", "volume", "inspect", "--format", "{{.Mountpoint}}", f"{project}_sockets"]
        yield subprocess.run(show, check=True, capture_output=True, text=True).stdout.strip()
    finally:
        subprocess.run([*compose, "down", "--volumes", "--timeout", "5"], check=True, capture_output=True)


Script = Callable[["Peer"], Awaitable[None]]
ANYTHING = {kind: (1 << 24, 1 << 30) for kind in Kind}


class Peer:
    """One connection of a service to a scripted runner."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str) -> None:
        self._reader, self._writer, self._token = reader, writer, token
        self._decoder = Decoder(ANYTHING)
        self._heard: list[Message] = []

    async def hear(self) -> Message:
        """The next message that is no ping; pings are answered."""
        while True:
            while self._heard:
                message = self._heard.pop(0)
                if message.kind is not Kind.PING:
                    return message
                self.say(framing.encode_count(Kind.PONG, 0))
            data = await self._reader.read(65536)
            if not data:
                raise ConnectionResetError
            self._heard += self._decoder.feed(data)

    def say(self, message: Message | bytes) -> None:
        """Send a message, or raw bytes."""
        self._writer.write(message if isinstance(message, bytes) else framing.encode(message))

    async def greet(self, ready: Message | None = None) -> None:
        """Shake hands as a runner should."""
        nonce, ours = framing.check_hello(await self.hear()), bytes(framing.NONCE_BYTES)
        self.say(Message(Kind.WELCOME, b"", ours + framing.proof(self._token, "runner", nonce, ours)))
        assert (await self.hear()).body == framing.proof(self._token, "service", nonce, ours)
        self.say(ready or framing.ready(Ready(2, frozenset({"python"}), {"python": "works"}, {})))

    async def linger(self) -> None:
        """Answer pings until the service leaves."""
        while True:
            await self.hear()


@contextlib.asynccontextmanager
async def scripted_runner(path: Path, script: Script, token: str = "") -> AsyncIterator[None]:
    """A server at a Unix socket, each of whose connections follows the script."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await script(Peer(reader, writer, token))
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    try:
        yield
    finally:
        server.close()


async def until(condition: Callable[[], bool], seconds: float = 15.0) -> bool:
    """Whether it holds before long."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        await asyncio.sleep(0.02)
    return condition()
