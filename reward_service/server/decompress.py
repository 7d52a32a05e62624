"""Bodies that came compressed: gzip and zstd, never more than asked for."""

from __future__ import annotations

import enum
import zlib
from collections.abc import Iterator

import zstandard

from reward_service.errors import RequestError

GZIP_WINDOW = 16 + zlib.MAX_WBITS  # zlib's way to ask for the gzip container
ZSTD_WINDOW_BYTES = 1 << 27  # the format's default maximum; a frame may ask for gigabytes
PIECE_BYTES = 1 << 16
MAX_MEMBERS = 10_000  # of a body; parallel compressors write a few per core, a hostile client millions of empty ones
ZSTD_PIECE_BYTES = 1 << 10  # four bytes of zstd may say 128 KiB, so that one piece adds at most 32 MiB


class Encoding(enum.StrEnum):
    """Values of `Content-Encoding` that are understood."""

    IDENTITY = "identity"
    GZIP = "gzip"
    ZSTD = "zstd"


class TooLarge(RequestError):
    """The client's fault (413): more bytes than the bound."""

    def __init__(self, bound: int) -> None:
        super().__init__("", f"the body is larger than {bound} bytes", status=413)


def decompress(data: bytes | memoryview, encoding: Encoding, bound: int) -> bytes | memoryview:
    """The plain body, at most `bound` bytes; memory stays within the bound and one piece.

    Raises:
        TooLarge: the client's fault (413): it would be larger.
        RequestError: the client's fault (400): damaged, incomplete, or followed by something else.
    """
    if encoding is Encoding.IDENTITY:
        if len(data) > bound:
            raise TooLarge(bound)
        return data
    pieces = _gunzip(data) if encoding is Encoding.GZIP else _unzstd(data)
    plain = bytearray()
    for piece in pieces:
        if len(plain) + len(piece) > bound:
            raise TooLarge(bound)
        plain += piece
    return memoryview(plain)


def _damaged(encoding: Encoding) -> RequestError:
    return RequestError("", f"the body is damaged or incomplete {encoding.value}", status=400)


def _gunzip(data: bytes | memoryview) -> Iterator[bytes]:
    """Pieces of all members, one after the other (RFC 1952, 2.2)."""
    rest = memoryview(data)
    for _ in range(MAX_MEMBERS):
        member = zlib.decompressobj(GZIP_WINDOW)
        used = 0
        while not member.eof:
            pending: bytes | memoryview = member.unconsumed_tail
            if not pending:
                pending = rest[used : used + PIECE_BYTES]
                used += len(pending)
            try:
                piece = member.decompress(pending, PIECE_BYTES)
            except zlib.error:
                raise _damaged(Encoding.GZIP) from None
            if not piece and not pending and not member.eof:
                raise _damaged(Encoding.GZIP)
            yield piece
        rest = rest[used - len(member.unused_data) :]
        if not rest:
            return
    raise _damaged(Encoding.GZIP)


def _unzstd(data: bytes | memoryview) -> Iterator[bytes]:
    """Pieces of all frames, one after the other (RFC 8878, 3.1)."""
    rest = memoryview(data)
    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
    for _ in range(MAX_MEMBERS):
        frame = decompressor.decompressobj()
        used = 0
        while not frame.eof:
            pending = rest[used : used + ZSTD_PIECE_BYTES]
            used += len(pending)
            if not pending:
                raise _damaged(Encoding.ZSTD)
            try:
                yield frame.decompress(pending)
            except zstandard.ZstdError:
                raise _damaged(Encoding.ZSTD) from None
        rest = rest[used - len(frame.unused_data) :]
        if not rest:
            return
    raise _damaged(Encoding.ZSTD)
