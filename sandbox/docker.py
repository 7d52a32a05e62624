"""Runners in containers that the service itself starts: one container for each slot, warm, spoken to over its standard streams.

A container ends by itself when its service is gone: its standard input closes, or falls silent where the engine died. It is replaced when
it has ended or has served a set number of programs.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

from sandbox.engine import DockerConfig, Engine
from sandbox.framing import Ready
from sandbox.interface import Job, RunResult, SandboxUnavailable
from sandbox.link import START_S, Link, LinkSession, Refused, introduce, stream
from sandbox.streams import Gone, Stream

__all__ = ["ContainerRunner", "DockerConfig", "containers"]

_SAID_BYTES = 4096
_SWEEP_S = 60.0
_STDOUT = 1


def containers(config: DockerConfig) -> Callable[[], Awaitable[Mapping[str, Callable[[], ContainerRunner]]]]:
    """The source of a pool: a container for each slot."""
    engine = Engine(config)
    connected = False
    swept = 0.0

    async def source() -> Mapping[str, Callable[[], ContainerRunner]]:
        nonlocal connected, swept
        now = asyncio.get_running_loop().time()
        if not connected:
            await engine.call(engine.connect)
            connected, swept = True, now
        if now - swept > _SWEEP_S:
            swept = now
            with contextlib.suppress(SandboxUnavailable):  # the containers that are to be started say so
                await engine.call(engine.sweep)
        return {f"container {number}": functools.partial(ContainerRunner, engine, number, config) for number in range(config.slots)}

    return source


class ContainerRunner:
    """One container; see `sandbox.pool.Member`."""

    def __init__(self, engine: Engine, number: int, config: DockerConfig) -> None:
        self._engine = engine
        self._number = number
        self._config = config
        self._ready = Ready(1, frozenset(), {}, {})
        self._stream: Stream = stream()
        self._link = Link(self._stream)
        self._launching: asyncio.Task[socket.socket] | None = None
        self._served = 0
        self.container = ""

    @property
    def languages(self) -> frozenset[str]:
        """See `sandbox.pool.Member`."""
        return self._ready.languages

    @property
    def slots(self) -> int:
        """See `sandbox.pool.Member`."""
        return 1

    @property
    def busy(self) -> int:
        """See `sandbox.pool.Member`: nobody else uses it."""
        return 0

    @property
    def spent(self) -> bool:
        """See `sandbox.pool.Member`. One that lacks a language which another of the same image runs was disturbed when it started."""
        return self._served >= self._config.programs or not self._engine.languages <= self._ready.languages

    @property
    def notes(self) -> Mapping[str, str]:
        """See `sandbox.pool.Member`."""
        return {**self._ready.notes, "runtime": self._config.runtime or "the engine's default"}

    @property
    def tools(self) -> Mapping[str, str]:
        """See `sandbox.pool.Member`."""
        return self._ready.tools

    @property
    def ended(self) -> asyncio.Future[str]:
        """See `sandbox.pool.Member`."""
        return self._stream.ended

    async def start(self) -> None:
        """Start the container and shake hands. Raises SandboxUnavailable."""
        demultiplexer = _Demultiplexer(self._stream)
        self._launching = asyncio.create_task(self._engine.call(self._launch))
        connection = await asyncio.shield(self._launching)
        try:
            loop = asyncio.get_running_loop()
            connect = loop.create_unix_connection if connection.family == socket.AF_UNIX else loop.create_connection
            await connect(lambda: demultiplexer, sock=connection)
            self._ready = await introduce(self._stream, "", START_S)
        except Refused as error:
            raise SandboxUnavailable(f"the container's runner refuses: {error}") from error
        except (OSError, Gone) as error:
            raise SandboxUnavailable(f"the container ended: {demultiplexer.said() or error}") from error
        self._engine.languages |= self._ready.languages

    def _launch(self) -> socket.socket:
        self.container = self._engine.create(self._number)
        connection = self._engine.attach(self.container)
        try:
            self._engine.start(self.container)
        except SandboxUnavailable:
            connection.close()
            raise
        return connection

    async def run(self, job: Job) -> AsyncGenerator[RunResult, None]:
        """See `sandbox.interface.Sandbox.run`."""
        self._served += 1
        async with contextlib.aclosing(self._link.run(job)) as results:
            async for result in results:
                yield result

    @contextlib.asynccontextmanager
    async def talk(self, *jobs: Job) -> AsyncGenerator[tuple[LinkSession | RunResult, ...], None]:
        """See `sandbox.interface.Sandbox.talk`."""
        self._served += 1
        async with self._link.talk(*jobs) as sessions:
            yield sessions

    async def close(self) -> None:
        """Kill and remove the container."""
        if self._launching is not None:
            await asyncio.gather(self._launching, return_exceptions=True)
        self._stream.fail("no longer needed")
        if self.container:
            with contextlib.suppress(SandboxUnavailable):  # it ends by itself, and the next start sweeps what is left of it
                await self._engine.call(self._engine.remove, self.container)


class _Demultiplexer(asyncio.Protocol):
    """Takes apart what the engine sends: standard output goes to the stream, the first of standard error is kept."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._header = bytearray()
        self._kind, self._left = 0, 0
        self._errors = bytearray()

    def said(self) -> str:
        """What the runner wrote to its standard error, as far as kept."""
        return self._errors.decode("utf-8", "replace").strip()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._stream.connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._stream.connection_lost(error)

    def eof_received(self) -> bool:
        return self._stream.eof_received()

    def pause_writing(self) -> None:
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        self._stream.resume_writing()

    def data_received(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            if not self._left:
                take = 8 - len(self._header)
                self._header += data[at : at + take]
                at += take
                if len(self._header) == 8:
                    self._kind, self._left = self._header[0], int.from_bytes(self._header[4:], "big")
                    self._header.clear()
                continue
            piece = data[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            if self._kind == _STDOUT:
                self._stream.data_received(piece)
            elif len(self._errors) < _SAID_BYTES:
                self._errors += piece[: _SAID_BYTES - len(self._errors)]
