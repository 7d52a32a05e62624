"""Bodies that came compressed: gzip and zstd, never more than asked for."""

from __future__ import annotations

import enum
import zlib
from collections.abc import Generator, Iterator

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


class Decoder:
    """Decompresses a body that comes in pieces; each `feed` gives its plain bytes in pieces of bounded size."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._members = 0
        self._gzip: zlib._Decompress | None = None
        self._zstd: zstandard.ZstdDecompressionObj | None = None

    def feed(self, data: bytes | memoryview) -> Iterator[bytes | memoryview]:
        """The plain bytes of the next piece; the iterator must be run to its end.

        Raises:
            RequestError: the client's fault (400): damaged, or followed by something else.
        """
        if self._encoding is Encoding.IDENTITY:
            yield data
            return
        rest = memoryview(data)
        while rest:
            if self._gzip is None and self._zstd is None:
                self._begin()
            unused = yield from self._gunzip(rest) if self._encoding is Encoding.GZIP else self._unzstd(rest)
            rest = rest[len(rest) - unused :]

    def finish(self) -> None:
        """Say that nothing more comes.

        Raises:
            RequestError: the client's fault (400): incomplete, or nothing came at all.
        """
        if self._encoding is not Encoding.IDENTITY and (self._gzip or self._zstd or not self._members):
            raise self._damaged()

    def _begin(self) -> None:
        """Start on the next member (RFC 1952, 2.2) or frame (RFC 8878, 3.1)."""
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise self._damaged()
        if self._encoding is Encoding.GZIP:
            self._gzip = zlib.decompressobj(GZIP_WINDOW)
        else:
            self._zstd = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES).decompressobj()

    def _gunzip(self, data: memoryview) -> Generator[bytes, None, int]:
        """Decompress up to the member's end; how many bytes come after it."""
        member = self._gzip
        assert member is not None
        at, pending, full = 0, b"", False
        while not member.eof and (at < len(data) or pending or full):
            if not pending and not full:
                pending = bytes(data[at : at + PIECE_BYTES])
                at += len(pending)
            try:
                piece = member.decompress(pending, PIECE_BYTES)
            except zlib.error:
                raise self._damaged() from None
            pending = member.unconsumed_tail
            full = len(piece) == PIECE_BYTES  # more may wait inside without any input left
            if piece:
                yield piece
        if not member.eof:
            return 0
        self._gzip = None
        return len(data) - at + len(member.unused_data)

    def _unzstd(self, data: memoryview) -> Generator[bytes, None, int]:
        frame = self._zstd
        assert frame is not None
        for at in range(0, len(data), ZSTD_PIECE_BYTES):
            try:
                piece = frame.decompress(data[at : at + ZSTD_PIECE_BYTES])
            except zstandard.ZstdError:
                raise self._damaged() from None
            if piece:
                yield piece
            if frame.eof:
                self._zstd = None
                return max(0, len(data) - at - ZSTD_PIECE_BYTES) + len(frame.unused_data)
        return 0

    def _damaged(self) -> RequestError:
        return RequestError("", f"the body is damaged or incomplete {self._encoding.value}", status=400)


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
    decoder = Decoder(encoding)
    plain = bytearray()
    for piece in decoder.feed(data):
        if len(plain) + len(piece) > bound:
            raise TooLarge(bound)
        plain += piece
    decoder.finish()
    return memoryview(plain)
