"""A request's body: received within bounds, small ones in memory, big ones in an anonymous file that another process can read."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from reward_service.errors import Cancelled, RequestError
from reward_service.server.bounds import INLINE_BYTES
from reward_service.server.decompress import Encoding, TooLarge

Receive = Callable[[], Awaitable[Any]]  # ASGI's: MutableMapping[str, Any]
SLOWEST_BYTES = 1024  # a second, of bodies that take longer than a pause may: else they would come one byte at a time for ever
ENCODINGS: Mapping[str, Encoding] = {
    "": Encoding.IDENTITY,
    "identity": Encoding.IDENTITY,
    "gzip": Encoding.GZIP,
    "x-gzip": Encoding.GZIP,
    "zstd": Encoding.ZSTD,
}


@dataclass(slots=True)
class Body:
    """The bytes as they came. `file` is the descriptor of an anonymous file where they are many, else they stand in `small`.

    Used as a context manager: the file is gone afterwards.
    """

    encoding: Encoding = Encoding.IDENTITY
    size: int = 0
    small: bytearray = field(default_factory=bytearray)
    file: int | None = None

    def add(self, piece: bytes) -> None:
        """Append what arrived."""
        self.size += len(piece)
        if self.file is None and self.size <= INLINE_BYTES:
            self.small += piece
            return
        _write_all(self.spill(), piece)

    def spill(self) -> int:
        """Move the bytes into a file, if they are not in one; its descriptor."""
        if self.file is None:
            self.file = os.memfd_create("body", os.MFD_CLOEXEC)
            _write_all(self.file, self.small)
            self.small.clear()
        return self.file

    def plain(self) -> bytes:
        """All bytes as they came, in memory."""
        return bytes(self.small) if self.file is None else os.pread(self.file, self.size, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the bytes up; takes about 10 ms for a file of 50 MB."""
        self.small.clear()
        if self.file is not None:
            os.close(self.file)
            self.file = None


def check_headers(headers: Mapping[str, str], bound: int) -> Encoding:
    """The encoding of a body that will be received.

    Raises:
        RequestError: the client's fault: 415 for another content type or encoding, 400 for a length that is no number.
        TooLarge: the client's fault (413): the length that it states is above the bound.
    """
    media, _, parameters = headers.get("content-type", "application/json").partition(";")
    if media.strip().lower() != "application/json":
        raise RequestError("", "the content type must be application/json", status=415)
    charset = parameters.lower().replace(" ", "").replace('"', "")
    if "charset=" in charset and charset not in ("charset=utf-8", "charset=utf8"):
        raise RequestError("", "the charset must be utf-8", status=415)
    encoding = ENCODINGS.get(headers.get("content-encoding", "").strip().lower())
    if encoding is None:
        raise RequestError("", "the content encoding must be gzip, zstd or identity", status=415)
    length = headers.get("content-length")
    if length is not None and not (length.isascii() and length.isdigit()):
        raise RequestError("", "the content length must be a number", status=400)
    if length is not None and int(length[:20]) > bound:
        raise TooLarge(bound)
    return encoding


async def receive_into(
    body: Body, receive: Receive, bound: int, wait_s: float, hold: Callable[[int], None], *, is_here: bool = False
) -> None:
    """Receive a whole body; `hold` is told of each piece's bytes before they are kept, and may refuse.

    `is_here`: the body has arrived with its head, as the small ones of most requests have; nothing has to be waited for.

    Raises:
        TooLarge, RequestError, Cancelled: as `pieces_of` says.
    """
    if is_here:
        piece, _ = _piece_in(await receive(), 0, bound)
        hold(len(piece))
        body.add(piece)
        return
    async for piece in pieces_of(receive, bound, wait_s):
        hold(len(piece))
        body.add(piece)


async def pieces_of(receive: Receive, bound: int, wait_s: float) -> AsyncIterator[bytes]:
    """The pieces of a body as they come.

    Raises:
        TooLarge: the client's fault (413): more bytes than `bound`.
        RequestError: the client's fault (408): nothing came for `wait_s` seconds, or after these fewer than SLOWEST_BYTES a second.
        Cancelled: the client went away.
    """
    loop = asyncio.get_running_loop()
    begun = loop.time()
    size = 0
    while True:
        late = min(loop.time() + wait_s, begun + wait_s + size / SLOWEST_BYTES)
        try:
            async with asyncio.timeout_at(late):
                message = await receive()
        except TimeoutError:
            raise RequestError("", f"no byte of the body for {wait_s:g} seconds, or too few of them", status=408) from None
        piece, more = _piece_in(message, size, bound)
        size += len(piece)
        yield piece
        if not more:
            return


def _piece_in(message: Mapping[str, Any], before: int, bound: int) -> tuple[bytes, bool]:
    """The piece that a message brings, and whether there are more. Raises TooLarge, Cancelled."""
    if message["type"] == "http.disconnect":
        raise Cancelled("the client went away")
    piece: bytes = message.get("body", b"")
    if before + len(piece) > bound:
        raise TooLarge(bound)
    return piece, message.get("more_body", False)


def _write_all(file: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
