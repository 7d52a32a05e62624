"""Reading requests and test sets: small bodies at once, the others in processes of their own, while the event loop goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
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
from reward_service.server.reader_process import DAMAGED, MESSAGE_BYTES, SPENT, TOO_MUCH_MEMORY, Damaged, Order, encode_bounds
from reward_service.server.refusals import Refusal
from reward_service.server.requests import GradeRequest, read_request

ATTEMPTS = 2  # a reader that is killed while it reads is replaced once; then the body is refused for now
BASE_S = 10.0  # for any body, on a busy machine
BYTES_PER_S = 5_000_000  # a tenth of what is read where the machine is not busy
UNPACKED = 16  # how much a compressed body is taken to grow at most, for the time that it may take
LEFT_S = 1.0  # for a reader whose client has left: the usual body is read by then, which costs less than a new process
DYING_S = 5.0  # from the socket's end to the process's, while the system frees its memory
OWN_DEATHS = (SPENT, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGSEGV)  # the body's doing; a SIGKILL may be anybody's
BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[4]); from reward_service.server import reader_process as r; r.main(*sys.argv[1:4])"
)


class Frames(Protocol):
    """What takes the frames that a process sends."""

    def add(self, kind: bytes, payload: bytes) -> None:
        """Take the next frame."""
        ...


A = TypeVar("A", bound=Frames)


class _ReaderLost(Exception):
    """The process ended without an answer, and not by the body's doing."""


class _TooSlow(Exception):
    """The process did not answer in time. The same body would take as long again."""


class _Reader:
    """One process and our end of its socket; reads one body at a time."""

    def __init__(self, bounds: Bounds) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self._max_body_bytes = bounds.max_body_bytes
        command = [sys.executable, "-I", "-c", BOOT, str(theirs.fileno()), encode_bounds(bounds), str(os.getpid()), json.dumps(sys.path)]
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
            _ReaderLost, _TooSlow: ours.
        """
        message = json.dumps(asdict(order)).encode()
        try:
            socket.send_fds(self._socket, [message], [file])
        except OSError as error:
            raise _ReaderLost from error
        try:
            async with asyncio.timeout(self._allowed_s(file, order)):
                await _readable(self._socket)
        except TimeoutError as error:
            raise _TooSlow from error
        try:
            answer, files = _received(self._socket)
        except _ReaderLost:
            if await asyncio.to_thread(self._exit_code) in OWN_DEATHS:
                raise RequestError("", TOO_MUCH_MEMORY, status=413) from None
            raise
        try:
            if answer["status"] != 200:
                raise _refusal(answer)
            await _assemble(files[0], assembler)
        finally:
            await asyncio.to_thread(os.close, files[0])  # frees as much memory as the body has, which takes a while

    @property
    def ended(self) -> bool:
        """Whether the process is there no more."""
        return self._process.returncode is not None

    def kill(self) -> None:
        """End the process: it holds nothing that would have to be kept."""
        self._socket.close()
        self._process.kill()

    def reap(self) -> None:
        """Return once it has ended; blocks while the system frees its memory, a second for gigabytes."""
        self._process.wait()

    def _exit_code(self) -> int | None:
        """How it ended; None where it did not, though its socket is closed."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(DYING_S)
        return None

    def _allowed_s(self, file: int, order: Order) -> float:
        """The time for a body; of a compressed one only the bound of its size is known."""
        size = os.fstat(file).st_size
        plain = size if order.encoding is Encoding.IDENTITY else min(size * UNPACKED, self._max_body_bytes)
        return BASE_S + plain / BYTES_PER_S


class BodyReader:
    """Reads bodies; `count` big ones at the same time, the others wait."""

    def __init__(self, bounds: Bounds, count: int = 1) -> None:
        self.restarts = 0
        self._bounds = bounds
        self._count = count
        self._open = False
        self._readers: set[_Reader] = set()
        self._free: asyncio.Queue[_Reader | None] = asyncio.Queue()
        self._busy: set[asyncio.Task[Any]] = set()
        self._leaving: set[asyncio.Task[None]] = set()

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
            Overloaded: ours: the process that read it was lost, twice, or took too long.
        """
        if body.file is None:
            with contextlib.suppress(TooLarge):  # small only while compressed
                plain = decompress(bytes(body.small), body.encoding, INLINE_BYTES)
                return read_request(plain, self._bounds)
        return (await self._read_elsewhere(body.spill(), Order("request", body.encoding), Assembler)).request()

    async def read_test_set(self, file: int, digest: str) -> tuple[CodeReference, int]:
        """The test set in the zstd file behind a descriptor, and about how many bytes of memory it takes.

        Raises:
            Damaged: nobody's fault: it is not the one of that digest.
            RequestError: the client's fault: what this server accepts no more.
            Overloaded: ours.
        """
        order = Order("test_set", Encoding.ZSTD, digest)
        assembler = await self._read_elsewhere(file, order, TestSetAssembler)
        return assembler.test_set(), assembler.size

    async def check_test_set(self, file: int, digest: str) -> None:
        """`read_test_set`, but for what it would give."""
        await self._read_elsewhere(file, Order("checked_test_set", Encoding.ZSTD, digest), TestSetAssembler)

    async def close(self) -> None:
        """Stop the processes; bodies that are being read are given up."""
        self._open = False
        while not self._free.empty():
            self._free.get_nowait()
        self._free.put_nowait(None)  # for whoever waits
        for task in list(self._busy):
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)
        for reader in list(self._readers):
            self._discard(reader)
        await asyncio.gather(*self._leaving)

    async def _read_elsewhere(self, file: int, order: Order, make: Callable[[], A]) -> A:
        """What a process found in `file`.

        Raises:
            RequestError: the client's fault.
            Overloaded: ours.
        """
        for _ in range(ATTEMPTS):
            with contextlib.suppress(_ReaderLost):
                assembler = make()
                await self._read_once(file, order, assembler)
                return assembler
        raise Overloaded("the process that reads bodies was lost")

    async def _read_once(self, file: int, order: Order, assembler: Frames) -> None:
        """A reader that still owes an answer must not be given another file: whoever leaves it has LEFT_S, and then it is replaced."""
        reader = await self._free.get()
        if reader is None:
            self._free.put_nowait(None)
            raise Overloaded("the service is stopping")
        task = asyncio.ensure_future(self._read_with(reader, os.dup(file), order, assembler))
        self._busy.add(task)
        task.add_done_callback(self._finished)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            asyncio.get_running_loop().call_later(LEFT_S, task.cancel)
            raise

    async def _read_with(self, reader: _Reader, file: int, order: Order, assembler: Frames) -> None:
        sound = False
        try:
            await reader.read(file, order, assembler)
            sound = True
        except RequestError:
            sound = not reader.ended
            raise
        except _TooSlow:
            raise Overloaded("the body took too long to read") from None
        finally:
            os.close(file)
            if not sound:
                self.restarts += 1
                self._discard(reader)
            if self._open:
                self._free.put_nowait(reader if sound else self._another())

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._busy.discard(task)
        if not task.cancelled():
            task.exception()  # seen, also where nobody waits any more

    def _another(self) -> _Reader:
        reader = _Reader(self._bounds)
        self._readers.add(reader)
        return reader

    def _discard(self, reader: _Reader) -> None:
        """Kill it; that it ends is waited for elsewhere."""
        self._readers.discard(reader)
        reader.kill()
        task = asyncio.ensure_future(asyncio.to_thread(reader.reap))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)


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
