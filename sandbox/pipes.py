"""This process's standard input and output as one connection."""

from __future__ import annotations

import asyncio
import os

from sandbox.streams import Stream


class _Pipes(asyncio.Transport):
    """Two pipes as one transport."""

    def __init__(self, reading: asyncio.ReadTransport, writing: asyncio.WriteTransport) -> None:
        super().__init__()
        self._reading, self._writing = reading, writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._writing.write(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._writing.set_write_buffer_limits(high, low)

    def pause_reading(self) -> None:
        self._reading.pause_reading()

    def resume_reading(self) -> None:
        self._reading.resume_reading()

    def close(self) -> None:
        self._writing.close()
        self._reading.close()

    def abort(self) -> None:
        self._writing.abort()
        self._reading.close()


class _Writing(asyncio.Protocol):
    """What a pipe that is written tells its owner."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def pause_writing(self) -> None:
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        self._stream.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._stream.connection_lost(error)


class _Reading(asyncio.Protocol):
    """What a pipe that is read tells its owner."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def data_received(self, data: bytes) -> None:
        self._stream.data_received(data)

    def eof_received(self) -> bool:
        return self._stream.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self._stream.connection_lost(error)


async def connect_pipes(stream: Stream) -> None:
    """Connect a stream to this process's standard input and output, and keep both from everybody else."""
    loop = asyncio.get_running_loop()
    reading, writing = os.fdopen(os.dup(0), "rb", 0), os.fdopen(os.dup(1), "wb", 0)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    for file in (reading, writing):
        os.set_blocking(file.fileno(), False)
    writes, _ = await loop.connect_write_pipe(lambda: _Writing(stream), writing)
    reads, _ = await loop.connect_read_pipe(lambda: _Reading(stream), reading)
    reads.pause_reading()
    stream.connection_made(_Pipes(reads, writes))
    reads.resume_reading()
