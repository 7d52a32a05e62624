"""Runners behind Unix sockets or TCP ports: what a deployment whose service may start no containers uses.

Addresses are `unix:/folder/*.sock` (every socket there, as runners come and go) and `tcp:name:port` (every address of that name).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import glob
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass

from sandbox.framing import Ready
from sandbox.interface import Job, RunResult, SandboxUnavailable
from sandbox.link import Link, LinkSession, Refused, RunnerGone, introduce, stream
from sandbox.streams import Gone, Stream

_CONNECT_S, _HANDSHAKE_S = 5.0, 10.0
_MOST = 1024  # runners: whoever may write the sockets' folder could plant any number of names


@dataclass(frozen=True, slots=True)
class Address:
    """Where one runner listens: a path, or a host and a port."""

    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"tcp:{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """An address as an operator writes it. Raises ValueError."""
    kind, _, where = text.partition(":")
    if kind == "unix" and where.startswith("/"):
        return Address(path=where)
    host, _, port = where.rpartition(":")
    if kind == "tcp" and host and port.isdigit() and 0 < int(port) < 65_536:
        return Address(host=host.strip("[]"), port=int(port))
    raise ValueError(f"an address of a runner is unix:/path or tcp:host:port, not {text!r}")


async def expand(address: Address) -> list[Address]:
    """Every runner that an address stands for now. Raises OSError where the name is not known."""
    if address.path:
        return [Address(path=path) for path in sorted(glob.glob(address.path))]
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise OSError(f"{address}: {error.strerror}") from error
    return [Address(host=where[0], port=where[1]) for where in sorted({(str(info[4][0]), int(info[4][1])) for info in found})]


@dataclass(frozen=True, slots=True)
class Demands:
    """What a runner must have, or it is not used: a cgroup for each program, the C++ standard that programs are compiled for."""

    strict: bool = False
    cpp_standard: str | None = None

    def unmet(self, ready: Ready) -> str | None:
        """What a runner lacks, and what to do about it; None where it lacks nothing."""
        bounded, standard = ready.notes.get("memory accounting", "unknown"), ready.tools.get("cpp_standard")
        if self.strict and not bounded.startswith("cgroup"):
            return f"strict: programs have no cgroups of their own there (memory accounting: {bounded}); give it one, docs/deploy.md"
        if None not in (standard, self.cpp_standard) and standard != self.cpp_standard:
            return f"it compiles for {standard}, not for {self.cpp_standard} (REWARD_CPP_STANDARD): start it with --cpp-standard"
        return None


def runners(
    addresses: tuple[Address, ...], token: str, demands: Demands = Demands()
) -> Callable[[], Awaitable[Mapping[str, Callable[[], RemoteRunner]]]]:
    """The source of a pool: the runners that listen now."""

    async def source() -> Mapping[str, Callable[[], RemoteRunner]]:
        found = [one for address in addresses for one in await expand(address)]
        return {str(one): functools.partial(RemoteRunner, one, token, demands) for one in found[:_MOST]}

    return source


class RemoteRunner:
    """One runner; see `sandbox.pool.Member`. A connection of its own tells whether it lives, others carry a job each and are kept."""

    def __init__(self, address: Address, token: str, demands: Demands) -> None:
        self._address = address
        self._token = token
        self._demands = demands
        self._ready = Ready(1, frozenset(), {}, {})
        self._watch: Link | None = None
        self._idle: list[Link] = []
        self._streams: set[Stream] = set()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def languages(self) -> frozenset[str]:
        """See `sandbox.pool.Member`."""
        return self._ready.languages

    @property
    def slots(self) -> int:
        """See `sandbox.pool.Member`."""
        return self._ready.slots

    @property
    def busy(self) -> int:
        """See `sandbox.pool.Member`."""
        return self._watch.peer_busy if self._watch is not None else 0

    @property
    def spent(self) -> bool:
        """See `sandbox.pool.Member`: whoever started it replaces it."""
        return False

    @property
    def notes(self) -> Mapping[str, str]:
        """See `sandbox.pool.Member`."""
        return self._ready.notes

    @property
    def tools(self) -> Mapping[str, str]:
        """See `sandbox.pool.Member`."""
        return self._ready.tools

    async def start(self) -> None:
        """Connect. Raises SandboxUnavailable."""
        try:
            self._watch, self._ready = await self._connect()
        except (OSError, Gone, Refused) as error:
            raise SandboxUnavailable(f"{self._address}: {error}") from error
        unmet = self._demands.unmet(self._ready)
        if unmet is not None:
            raise SandboxUnavailable(f"{self._address}: {unmet}")
        self._watch.ended.add_done_callback(lambda ended: self._end(ended.result()))

    def _end(self, why: str) -> None:
        if not self.ended.done():
            self.ended.set_result(why)
        for one in tuple(self._streams):
            one.fail(why)

    async def _connect(self) -> tuple[Link, Ready]:
        """A connection of its own. Raises OSError, Gone, Refused."""
        loop, address, connected = asyncio.get_running_loop(), self._address, stream()
        try:
            async with asyncio.timeout(_CONNECT_S):
                if address.path:
                    await loop.create_unix_connection(lambda: connected, address.path)
                else:
                    await loop.create_connection(lambda: connected, address.host, address.port)
        except TimeoutError:
            raise OSError(f"no connection within {_CONNECT_S:g} s") from None
        self._streams.add(connected)
        connected.ended.add_done_callback(lambda _: self._streams.discard(connected))
        try:
            ready = await introduce(connected, self._token, _HANDSHAKE_S)
        except BaseException:
            connected.fail("no handshake")
            raise
        return Link(connected, ready.slots), ready

    async def run(self, job: Job) -> AsyncGenerator[RunResult, None]:
        """See `sandbox.interface.Sandbox.run`."""
        async with self._link() as link, contextlib.aclosing(link.run(job)) as results:
            async for result in results:
                yield result

    @contextlib.asynccontextmanager
    async def talk(self, *jobs: Job) -> AsyncGenerator[tuple[LinkSession | RunResult, ...], None]:
        """See `sandbox.interface.Sandbox.talk`."""
        async with self._link() as link, link.talk(*jobs) as sessions:
            yield sessions

    @contextlib.asynccontextmanager
    async def _link(self) -> AsyncGenerator[Link, None]:
        link = next((link for link in iter(self._take_idle, None) if not link.ended.done()), None)
        if link is None:
            try:
                link, _ = await self._connect()
            except (OSError, Gone, Refused) as error:
                raise RunnerGone(f"{self._address}: {error}") from error
        try:
            yield link
        finally:
            if not link.ended.done():
                self._idle.append(link)

    def _take_idle(self) -> Link | None:
        return self._idle.pop() if self._idle else None

    async def close(self) -> None:
        """End every connection; the runner kills what runs for them."""
        self._end("closed")
        await asyncio.sleep(0)
