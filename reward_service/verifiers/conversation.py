"""A candidate's box and the box of the asserts, talking through us: frames are counted, bounded and passed on unopened.

The asserts' box speaks first, then both in turn. Who is to speak is the only one that is listened to, so that nothing floods anybody.
Only a verdict of the asserts' box, with this run's nonce, ends in a pass, and only where the candidate's box then ends as it should.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TypeVar

from reward_service.errors import WorkerLost
from reward_service.records import TestStatus
from sandbox.interface import RunnerLost, RunResult, Session, Status

FRAME_BYTES = (9 << 20) + 4_096
TURNS = 250_000  # questions and answers of one conversation
MESSAGE_CHARACTERS = 600
LEAVE_S = 1.0  # for a program that has failed already to end by itself

T = TypeVar("T")

_VERDICTS = {b"W": TestStatus.WRONG_ANSWER, b"R": TestStatus.RUNTIME_ERROR}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a conversation ended. `status` None: the candidate's run result says it. `late`: a wall clock of ours stopped it."""

    passed: bool = False
    status: TestStatus | None = None
    message: str = ""
    late: bool = False
    result: RunResult = field(default_factory=lambda: RunResult(0, Status.RUNTIME_ERROR))


class _Late(Exception):
    """A box had its turn for too long."""


class _Speaker:
    """One box: its frames, and how much time its turns may take together."""

    def __init__(self, session: Session, net_s: float) -> None:
        self.session = session
        self._left_s = net_s
        self._buffer = bytearray()

    async def say(self, frame: bytes) -> None:
        await self._timed(self.session.send(struct.pack(">I", len(frame)) + frame))

    async def hear(self) -> bytes | None:
        """The next frame; None where it has ended, or what it sends is none."""
        while True:
            if len(self._buffer) >= 4:
                size = int.from_bytes(self._buffer[:4], "big")
                if size > FRAME_BYTES:
                    return None
                if len(self._buffer) >= 4 + size:
                    frame = bytes(self._buffer[4 : 4 + size])
                    del self._buffer[: 4 + size]
                    return frame
            data = await self._timed(self.session.receive())
            if not data:
                return None
            self._buffer += data

    async def end(self) -> RunResult:
        """How it ended, once it has. Raises RunnerLost."""
        return await self._timed(self.session.finish())

    async def _timed(self, act: Awaitable[T]) -> T:
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout(self._left_s):
                return await act
        except TimeoutError:
            raise _Late from None
        finally:
            self._left_s = max(0.0, self._left_s - (loop.time() - started))


async def converse(
    candidate: Session | RunResult, asserts: Session | RunResult, nonce: str, candidate_s: float, asserts_s: float
) -> Ending:
    """Let the asserts ask the candidate until they give their verdict. Seconds bound the turns of each together.

    Raises:
        RunnerLost, WorkerLost: ours.
    """
    if isinstance(candidate, RunResult):
        return Ending(status=TestStatus.COMPILE_ERROR, message=candidate.stderr.decode("utf-8", "replace"), result=candidate)
    if isinstance(asserts, RunResult):
        raise WorkerLost("the box of the asserts does not load what it has loaded before")
    program, judge = _Speaker(candidate, candidate_s), _Speaker(asserts, asserts_s)
    try:
        loaded = await program.hear()
        if loaded is None:
            return Ending(result=await program.end())
        if loaded[:1] != b"L":
            return Ending(status=TestStatus.COMPILE_ERROR, message=loaded[1:].decode("utf-8", "replace")[:MESSAGE_CHARACTERS])
        return await _relay(program, judge, nonce)
    except _Late:
        return Ending(status=TestStatus.TIME_LIMIT_EXCEEDED, message="the wall clock stopped it", late=True)


async def _relay(program: _Speaker, judge: _Speaker, nonce: str) -> Ending:
    for _ in range(TURNS):
        asked = await judge.hear()
        if asked is None:
            return await _asserts_ended(judge)
        if asked[:1] == b"V":
            return await _verdict(asked, program, nonce)
        await program.say(asked)
        answered = await program.hear()
        if answered is None:
            return Ending(message="the program ended, or sent no frame", result=await program.end())
        if answered[:1] != b"M":
            return Ending(status=TestStatus.WRONG_ANSWER, message="the program sent no message")
        await judge.say(answered)
    return Ending(status=TestStatus.TIME_LIMIT_EXCEEDED, message=f"more than {TURNS:,} calls")


async def _verdict(frame: bytes, program: _Speaker, nonce: str) -> Ending:
    head = b"V" + nonce.encode()
    status, why = frame[len(head) : len(head) + 1], frame[len(head) + 1 :].decode("utf-8", "replace")[:MESSAGE_CHARACTERS]
    if frame[: len(head)] != head or status not in (b"P", *_VERDICTS):
        return Ending(status=TestStatus.WRONG_ANSWER, message="no verdict")
    if status != b"P":
        return Ending(status=_VERDICTS[status], message=why, result=await _used(program))
    result = await program.end()
    if result.status is Status.FINISHED:
        return Ending(passed=True, result=result)
    return Ending(message="the program did not end when it was over", result=result)


async def _used(program: _Speaker) -> RunResult:
    """What a program that has failed has used, where it ends at once."""
    with contextlib.suppress(TimeoutError, RunnerLost):
        async with asyncio.timeout(LEAVE_S):
            return await program.session.finish()
    return RunResult(0, Status.RUNTIME_ERROR)


async def _asserts_ended(judge: _Speaker) -> Ending:
    """The asserts' box was stopped while it looked at what the program answered: that is the program's doing."""
    result = await judge.end()
    stopped = {
        Status.TIME_LIMIT_EXCEEDED: TestStatus.TIME_LIMIT_EXCEEDED,
        Status.MEMORY_LIMIT_EXCEEDED: TestStatus.MEMORY_LIMIT_EXCEEDED,
        Status.OUTPUT_LIMIT_EXCEEDED: TestStatus.OUTPUT_LIMIT_EXCEEDED,
    }
    return Ending(status=stopped.get(result.status, TestStatus.RUNTIME_ERROR), message="the asserts ended without a verdict")
