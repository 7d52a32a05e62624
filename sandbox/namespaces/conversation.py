"""A program whose standard input and output are one stream to the service, for as long as it lives."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

from sandbox.interface import Job, RunResult, Status
from sandbox.namespaces.run import CellRun, Output, run_result
from sandbox.namespaces.wire import STDERR_BYTES

_CHUNK_BYTES = 65536


class Conversation:
    """The first input of a job, run as a session; see `sandbox.interface.Session`."""

    def __init__(self, run: CellRun, job: Job) -> None:
        self._run = run
        self._job = job
        self._received = 0
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        self._errors = os.memfd_create("stderr", os.MFD_CLOEXEC)
        with theirs:
            run.hand_over(job, 0, (theirs.fileno(), theirs.fileno(), self._errors))

    async def send(self, data: bytes) -> None:
        """Write to its standard input; nothing happens once it has ended."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def receive(self) -> bytes:
        """The next bytes of its standard output, b"" once it has ended, has closed it or has sent more than it may."""
        if self._received > self._job.inputs[0].output_bytes:
            return b""
        try:
            data = await asyncio.get_running_loop().sock_recv(self._socket, _CHUNK_BYTES)
        except ConnectionResetError:
            return b""
        self._received += len(data)
        if self._received > self._job.inputs[0].output_bytes:
            self._socket.shutdown(socket.SHUT_RDWR)
            return b""
        return data

    async def finish(self) -> RunResult:
        """How it ended, once it has; its input is closed first. Raises RunnerLost."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        reply = await self._run.reply(self._job, 0)
        errors = os.pread(self._errors, STDERR_BYTES, 0)
        result = run_result(self._job.limits, self._job.inputs[0], reply, Output(b"", 0, errors, os.fstat(self._errors).st_blocks * 512))
        if self._received > self._job.inputs[0].output_bytes:
            return RunResult(0, Status.OUTPUT_LIMIT_EXCEEDED, b"", result.stderr, cpu_s=result.cpu_s, wall_s=result.wall_s)
        return result

    def close(self) -> None:
        """Let go of the stream."""
        self._socket.close()
        os.close(self._errors)
