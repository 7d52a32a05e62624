"""Reading requests and test sets: small bodies at once, the others in processes of their own, while the event loop goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol, TypeVar

from reward_service.errors import Overloaded, RequestError
from reward_service.records import CodeReference
from reward_service.server.bodies import Body
from reward_service.server.bounds import INLINE_BYTES, Bounds
from reward_service.server.decompress import Encoding, TooLarge, decompress
from reward_service.server.frames import HEADER, Assembler, TestSetAssembler
from reward_service.server.reader_process import DAMAGED, MESSAGE_BYTES, Damaged, Order, encode_bounds
from reward_service.server.refusals import Refusal
from reward_service.server.requests import GradeRequest, read_request

ATTEMPTS = 2  # a reader that dies while it reads is replaced once; then the body is refused for now
ANSWER_S = 120.0  # a body of 256 MiB takes about two seconds; a reader that does not answer is stuck
BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[3]); from reward_service.server import reader_process as r; r.main(*sys.argv[1:3])"
)


class Frames(Protocol):
    """What takes the frames that a process sends."""

    def add(self, kind: bytes, payload: bytes) -> None:
        """Take the next frame."""
        ...


A = TypeVar("A", bound=Frames)


class _ReaderLost(Exception):
    """The process ended without an answer."""


class _Reader:
    """One process and our end of its socket; reads one body at a time."""

    def __init__(self, bounds: Bounds) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        command = [sys.executable, "-I", "-c", BOOT, str(theirs.fileno()), encode_bounds(bounds), json.dumps(sys.path)]
        with theirs:
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    async def read(self, file: int, order: Order, assembler: Frames) -> None:
        """Let the process read `file`, and give what it found to the assembler.

        Raises:
            RequestError: the client's fault.
            _ReaderLost: ours.
        """
        message = json.dumps(asdict(order)).encode()
        try:
            socket.send_fds(self._socket, [message], [file])
        except OSError as error:
            raise _ReaderLost from error
        try:
            async with asyncio.timeout(ANSWER_S):
                await _readable(self._socket)
        except TimeoutError as error:
            raise _ReaderLost from error
        answer, files = _received(self._socket)
        try:
            if answer["status"] != 200:
                raise _refusal(answer)
            await _assemble(files[0], assembler)
        finally:
            await asyncio.to_thread(os.close, files[0])  # frees as much memory as the body has, which takes a while

    def close(self) -> None:
        """End the process: it holds nothing that would have to be kept."""
        self._socket.close()
        self._process.kill()
        self._process.wait()


class BodyReader:
    """Reads bodies; `count` big ones at the same time, the others wait."""

    def __init__(self, bounds: Bounds, count: int = 1) -> None:
        self.restarts = 0
        self._bounds = bounds
        self._count = count
        self._open = False
        self._readers: set[_Reader] = set()
        self._free: asyncio.Queue[_Reader] = asyncio.Queue()
        self._busy: set[asyncio.Task[Any]] = set()

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the readers."""
        return tuple(reader.pid for reader in self._readers)

    async def start(self) -> None:
        """Start the processes."""
        self._open = True
        for _ in range(self._count):
            self._free.put_nowait(self._another())

    async def read(self, body: Body) -> GradeRequest:
        """The request that a body states.

        Raises:
            RequestError: the client's fault: 400, 413 or 422.
            Overloaded: ours: the process that read it was lost, twice.
        """
        if body.file is None:
            with contextlib.suppress(TooLarge):  # small only while compressed
                plain = decompress(bytes(body.small), body.encoding, INLINE_BYTES)
                return read_request(plain, self._bounds)
        return (await self._read_shielded(body.spill(), Order("request", body.encoding), Assembler)).request()

    async def read_test_set(self, file: int, digest: str) -> tuple[CodeReference, int]:
        """The test set in the zstd file behind a descriptor, and about how many bytes of memory it takes.

        Raises:
            Damaged: nobody's fault: it is not the one of that digest.
            RequestError: the client's fault: what this server accepts no more.
            Overloaded: ours.
        """
        order = Order("test_set", Encoding.ZSTD, digest)
        assembler = await self._read_shielded(file, order, TestSetAssembler)
        return assembler.test_set(), assembler.size

    async def check_test_set(self, file: int, digest: str) -> None:
        """`read_test_set`, but for what it would give."""
        await self._read_shielded(file, Order("checked_test_set", Encoding.ZSTD, digest), TestSetAssembler)

    async def _read_shielded(self, file: int, order: Order, make: Callable[[], A]) -> A:
        """Shielded: whoever stops waiting leaves a process that still owes an answer, and must not be given another file before."""
        task = asyncio.ensure_future(self._read_elsewhere(os.dup(file), order, make))
        self._busy.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Stop the processes; bodies that are being read are given up."""
        self._open = False
        for task in list(self._busy):
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)
        for reader in self._readers:
            reader.close()
        self._readers.clear()

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._busy.discard(task)
        if not task.cancelled():
            task.exception()  # seen, also where nobody waits any more

    async def _read_elsewhere(self, file: int, order: Order, make: Callable[[], A]) -> A:
        try:
            for _ in range(ATTEMPTS):
                with contextlib.suppress(_ReaderLost):
                    assembler = make()
                    await self._read_once(file, order, assembler)
                    return assembler
        finally:
            os.close(file)
        raise Overloaded("the process that reads bodies was lost")

    async def _read_once(self, file: int, order: Order, assembler: Frames) -> None:
        reader = await self._free.get()
        sound = False
        try:
            await reader.read(file, order, assembler)
            sound = True
        except RequestError:
            sound = True
            raise
        except _ReaderLost:
            self.restarts += 1
            raise
        finally:
            if not sound:
                self._readers.discard(reader)
                reader.close()
            if self._open:
                self._free.put_nowait(reader if sound else self._another())

    def _another(self) -> _Reader:
        reader = _Reader(self._bounds)
        self._readers.add(reader)
        return reader


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(connection.fileno(), wake)
    try:
        await ready
    finally:
        loop.remove_reader(connection.fileno())


def _received(connection: socket.socket) -> tuple[Mapping[str, object], list[int]]:
    try:
        message, files, _, _ = socket.recv_fds(connection, MESSAGE_BYTES, 1)
    except OSError as error:
        raise _ReaderLost from error
    if not message or not files:
        raise _ReaderLost
    answer: Mapping[str, object] = json.loads(message)
    return answer, files


def _refusal(answer: Mapping[str, object]) -> RequestError:
    errors, status = answer["errors"], answer["status"]
    assert isinstance(errors, list)
    assert isinstance(status, int)
    if status == DAMAGED:
        return Damaged()
    return Refusal([(pointer, message) for pointer, message in errors], status)


async def _assemble(file: int, assembler: Frames) -> None:
    """Rebuild what was read frame by frame; other work gets its turn after each."""
    offset = 0
    while header := os.pread(file, HEADER.size, offset):
        kind, length = HEADER.unpack(header)
        assembler.add(kind, os.pread(file, length, offset + HEADER.size))
        offset += HEADER.size + length
        await asyncio.sleep(0)
