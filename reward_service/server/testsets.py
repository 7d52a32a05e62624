"""Uploaded test sets: taken in a stream, found by digest, parsed once and kept in bounded memory while they are used."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ParamSpec, Protocol, TypeVar

from reward_service.errors import RequestError
from reward_service.records import CodeReference, Group
from reward_service.server.admission import RETRY_FULL_S, NoRoom
from reward_service.server.decompress import Decoder, Encoding, TooLarge
from reward_service.server.reader_process import Damaged
from reward_service.server.refusals import UnknownTestSets
from reward_service.server.testset_files import NoSpace, Part, TestSetFiles

PREFIX = "sha256:"
UPLOADS = 8  # at the same time; the others wait, unread
THREAD_BYTES = 1 << 18  # of a body are decompressed, digested and written in one visit to a thread

P = ParamSpec("P")
R = TypeVar("R")


class TestSetReader(Protocol):
    """What reads test sets away from the event loop (`reader.BodyReader`)."""

    async def read_test_set(self, file: int, digest: str) -> tuple[CodeReference, int]:
        """The test set, and about how many bytes of memory it takes."""
        ...

    async def check_test_set(self, file: int, digest: str) -> None:
        """Raise what is wrong with it."""
        ...


@dataclass(slots=True)
class _Held:
    """A parsed test set; evicted from memory only while nobody uses it."""

    reference: CodeReference
    size: int
    users: int = 0


class TestSets:
    """All test sets of a service. `max_memory_bytes` bounds what is parsed, `max_set_bytes` one set, plain. Belongs to one event loop."""

    __test__ = False

    def __init__(self, files: TestSetFiles, reader: TestSetReader, max_memory_bytes: int, max_set_bytes: int) -> None:
        self.files = files
        self.memory_bytes = 0
        self._reader = reader
        self._max_memory_bytes = max_memory_bytes
        self._max_set_bytes = max_set_bytes
        self._held: OrderedDict[str, _Held] = OrderedDict()  # the least recently used first
        self._loading: dict[str, asyncio.Task[_Held | None]] = {}
        self._uploads = asyncio.Semaphore(UPLOADS)

    # ---- upload ------------------------------------------------------------------------------------------------------

    async def put(self, digest: str, pieces: AsyncIterator[bytes], encoding: Encoding) -> bool:
        """Take a test set in; whether it is new here. One that is here already is read and checked all the same, but not written.

        Raises:
            RequestError: the client's fault: 400 damaged, 413 too large, 422 another digest, or no test set.
            NoSpace: the server's state (507).
        """
        async with self._uploads:
            if await asyncio.to_thread(self.files.has, digest):
                await self._receive(_Upload(None, encoding, self._max_set_bytes), pieces, digest)
                return False
            part = self.files.part()
            upload = _Upload(await _in_thread(part.__enter__), encoding, self._max_set_bytes)
            try:
                await self._receive(upload, pieces, digest)
                await self._store(upload, digest)
            finally:
                await _in_thread(part.__exit__, None, None, None)
            return True

    async def _receive(self, upload: _Upload, pieces: AsyncIterator[bytes], digest: str) -> None:
        waiting: list[bytes] = []
        async for piece in pieces:
            waiting.append(piece)
            if sum(map(len, waiting)) >= THREAD_BYTES:
                await _in_thread(upload.feed, waiting)
                waiting = []
        await _in_thread(upload.finish, waiting)
        if upload.digest != digest:
            raise RequestError("", f"the body's digest is {PREFIX}{upload.digest}", status=422)

    async def _store(self, upload: _Upload, digest: str) -> None:
        assert upload.part is not None
        try:
            await self._reader.check_test_set(upload.part.file, digest)
        except Damaged:
            raise NoSpace("this server cannot store test sets: what was written is not what can be read") from None
        await _in_thread(upload.part.commit, digest)

    # ---- use ---------------------------------------------------------------------------------------------------------

    async def missing(self, digests: Iterable[str]) -> list[str]:
        """Those that are not here; the others count as used now."""
        return await asyncio.to_thread(self.files.missing, digests)

    @contextlib.asynccontextmanager
    async def lease(self, groups: Sequence[Group]) -> AsyncIterator[Sequence[Group]]:
        """The groups with the test sets that they name in place; these stay in memory meanwhile.

        Raises:
            UnknownTestSets: the client has to upload some (424).
            NoRoom: 429: the test sets in use would be too much.
            RequestError: 413: more test sets than this server can ever hold for one request; 422: one that it accepts no more.
            Overloaded: ours.
        """
        places = _places(groups)
        if not places:
            yield groups
            return
        leased: dict[str, _Held] = {}
        try:
            await self._refuse_unknown(places)
            for digest, pointers in places.items():
                leased[digest] = await self._use(digest, pointers)
                self._shrink(sum(held.size for held in leased.values()))
            yield [_with_tests(group, leased) for group in groups]
        finally:
            for held in leased.values():
                held.users -= 1
            self._evict()

    async def _refuse_unknown(self, places: Mapping[str, Sequence[str]]) -> None:
        missing = [digest for digest in await self.missing(places) if digest not in self._held]
        if missing:
            raise _unknown(missing, places)

    async def _use(self, digest: str, pointers: Sequence[str]) -> _Held:
        held = self._held.get(digest)
        if held is None:
            task = self._loading.get(digest)
            if task is None:
                task = self._loading[digest] = asyncio.create_task(self._load(digest))
                task.add_done_callback(lambda task: self._loaded(digest, task))
            try:
                held = await asyncio.shield(task)
            except RequestError as error:
                raise RequestError(pointers[0], error.message, error.status) from error
        if held is None:
            raise _unknown([digest], {digest: pointers})
        self._keep(digest, held)
        held.users += 1
        return held

    async def _load(self, digest: str) -> _Held | None:
        """The parsed test set, None where it is not here or was damaged. Raises RequestError, Overloaded."""
        file = await asyncio.to_thread(self.files.open, digest)
        if file is None:
            return None
        with open(file, "rb", closefd=True):
            try:
                reference, size = await self._reader.read_test_set(file, digest)
            except Damaged:
                await asyncio.to_thread(self.files.remove, digest)
                return None
        return _Held(reference, size)

    def _loaded(self, digest: str, task: asyncio.Task[_Held | None]) -> None:
        del self._loading[digest]
        if task.cancelled() or task.exception() is not None:
            return
        held = task.result()
        if held is not None:
            self._keep(digest, held)

    def _keep(self, digest: str, held: _Held) -> None:
        if digest not in self._held:
            self.memory_bytes += held.size
        self._held[digest] = held
        self._held.move_to_end(digest)

    def _shrink(self, mine: int) -> None:
        """Evict what nobody uses until the rest fits, or refuse the request whose own test sets take `mine` bytes."""
        self._evict()
        if mine > self._max_memory_bytes:
            raise RequestError("", f"the test sets of one request take more than the {self._max_memory_bytes} bytes there are", status=413)
        if self.memory_bytes > self._max_memory_bytes:
            raise NoRoom("testsets", "the test sets in use hold all the memory there is for them", 429, RETRY_FULL_S)

    def _evict(self) -> None:
        for digest, held in list(self._held.items()):
            if self.memory_bytes <= self._max_memory_bytes:
                return
            if not held.users:
                del self._held[digest]
                self.memory_bytes -= held.size


class _Upload:
    """One body on its way to the disk, or only looked at where `part` is None. Its methods block."""

    def __init__(self, part: Part | None, encoding: Encoding, max_bytes: int) -> None:
        self.part = part
        self.digest = ""
        self._decoder = Decoder(encoding)
        self._hash = hashlib.sha256()
        self._left = self._max_bytes = max_bytes

    def feed(self, pieces: Iterable[bytes]) -> None:
        """Take the next pieces. Raises RequestError, NoSpace."""
        for piece in pieces:
            for plain in self._decoder.feed(piece):
                self._left -= len(plain)
                if self._left < 0:
                    raise TooLarge(self._max_bytes)
                self._hash.update(plain)
                if self.part is not None:
                    self.part.write(plain)

    def finish(self, pieces: Iterable[bytes]) -> None:
        """Take the last pieces and find the digest. Raises RequestError, NoSpace."""
        self.feed(pieces)
        self._decoder.finish()
        self.digest = self._hash.hexdigest()
        if self.part is not None:
            self.part.finish()


def _places(groups: Sequence[Group]) -> dict[str, list[str]]:
    """Digests that references name, with the JSON pointers to where."""
    found: dict[str, list[str]] = {}
    for index, group in enumerate(groups):
        if isinstance(group.reference, CodeReference) and group.reference.testset is not None:
            digest = group.reference.testset.removeprefix(PREFIX)
            found.setdefault(digest, []).append(f"/groups/{index}/reference/testset")
    return found


def names_test_sets(groups: Iterable[Group]) -> bool:
    """Whether any of the groups names a test set."""
    return any([isinstance(group.reference, CodeReference) and group.reference.testset is not None for group in groups])


def _with_tests(group: Group, leased: Mapping[str, _Held]) -> Group:
    stated = group.reference
    if not isinstance(stated, CodeReference) or stated.testset is None:
        return group
    found = leased[stated.testset.removeprefix(PREFIX)].reference
    return replace(group, reference=replace(found, limits=stated.limits, languages=stated.languages, draw=stated.draw))


def _unknown(digests: Sequence[str], places: Mapping[str, Sequence[str]]) -> UnknownTestSets:
    pointers = [pointer for digest in digests for pointer in places[digest]]
    return UnknownTestSets(pointers, [PREFIX + digest for digest in digests])


async def _in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """`asyncio.to_thread`, which a cancellation does not leave before the function has ended: its descriptors are closed afterwards."""
    task = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
