"""Reading requests: small bodies at once, big ones in processes of their own, while the event loop goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping

from reward_service.errors import Overloaded, RequestError
from reward_service.server.bodies import Body
from reward_service.server.bounds import INLINE_BYTES, Bounds
from reward_service.server.decompress import Encoding, TooLarge, decompress
from reward_service.server.frames import HEADER, Assembler
from reward_service.server.reader_process import MESSAGE_BYTES, encode_bounds
from reward_service.server.refusals import Refusal
from reward_service.server.requests import GradeRequest, read_request

ATTEMPTS = 2  # a reader that dies while it reads is replaced once; then the body is refused for now
ANSWER_S = 120.0  # a body of 256 MiB takes about two seconds; a reader that does not answer is stuck
BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[3]); from reward_service.server import reader_process as r; r.main(*sys.argv[1:3])"
)


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

    async def read(self, file: int, encoding: Encoding) -> GradeRequest:
        """What the body in `file` states.

        Raises:
            RequestError: the client's fault.
            _ReaderLost: ours.
        """
        message = json.dumps({"encoding": encoding.value}).encode()
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
            return await _assembled(files[0])
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
        self._busy: set[asyncio.Task[GradeRequest]] = set()

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
        # Shielded: whoever stops waiting leaves a process that still owes an answer, and must not be given another body before.
        task = asyncio.ensure_future(self._read_elsewhere(os.dup(body.spill()), body.encoding))
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

    def _finished(self, task: asyncio.Task[GradeRequest]) -> None:
        self._busy.discard(task)
        if not task.cancelled():
            task.exception()  # seen, also where nobody waits any more

    async def _read_elsewhere(self, file: int, encoding: Encoding) -> GradeRequest:
        try:
            for _ in range(ATTEMPTS):
                with contextlib.suppress(_ReaderLost):
                    return await self._read_once(file, encoding)
        finally:
            os.close(file)
        raise Overloaded("the process that reads bodies was lost")

    async def _read_once(self, file: int, encoding: Encoding) -> GradeRequest:
        reader = await self._free.get()
        sound = False
        try:
            request = await reader.read(file, encoding)
            sound = True
            return request
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


def _refusal(answer: Mapping[str, object]) -> Refusal:
    errors, status = answer["errors"], answer["status"]
    assert isinstance(errors, list)
    assert isinstance(status, int)
    return Refusal([(pointer, message) for pointer, message in errors], status)


async def _assembled(file: int) -> GradeRequest:
    """Rebuild the request frame by frame; other work gets its turn after each."""
    assembler = Assembler()
    offset = 0
    while header := os.pread(file, HEADER.size, offset):
        kind, length = HEADER.unpack(header)
        assembler.add(kind, os.pread(file, length, offset + HEADER.size))
        offset += HEADER.size + length
        await asyncio.sleep(0)
    return assembler.request()
