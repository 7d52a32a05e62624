"""The service's end of one connection to a runner: hand over a job, read its results, talk with its programs, give it up.

Everything that a runner says is bounded and checked (`framing`): one that is broken or hostile costs its connection, and its jobs are
`RunnerLost`. It can delay a job up to a bound, and lie about what a program printed; it cannot make the service wait for ever, hold more
than the job's own output caps, or crash.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hmac
import secrets
from collections.abc import AsyncGenerator, Iterator

from sandbox import framing
from sandbox.framing import COUNT_BOUNDS, Ending, Kind, Message, Ready, Violation
from sandbox.interface import Job, RunnerLost, RunResult, SandboxUnavailable, Status
from sandbox.streams import Gone, Stream

SILENCE_S = 12.0
START_S = 60.0  # a runner may still be starting its first processes
_QUEUE_S = 3600.0  # a runner whose slots others use says nothing of our job until one is free
_IDLE_S, _LOOK_S = 60.0, 2.0  # ... and one that says it has free slots, and does not start it, is of no use
_PATIENCE_MOST_S = 3600.0  # whatever number of slots a runner claims
_CANCEL_S = 10.0
_SLACK_S = 120.0
_BATCH_BYTES = 67_108_864  # inputs beyond that cross in several jobs, so that no side holds them all

_QUIET = {Kind.PONG: COUNT_BOUNDS}
_WELCOMING = {Kind.WELCOME: (framing.HANDSHAKE_BYTES, 64), Kind.REFUSED: (framing.END_BYTES, 0)}
_INTRODUCING = {Kind.READY: (framing.READY_BYTES, 0), Kind.REFUSED: (framing.END_BYTES, 0)}
_ENDING = {Kind.STARTED: (0, 0), Kind.END: (framing.END_BYTES, 0)}


class Refused(Exception):
    """The runner will not serve us, or we do not trust it. The message says why."""


class RunnerGone(RunnerLost):
    """The runner itself is gone, or is not to be trusted: what it ran can be done elsewhere."""


def stream() -> Stream:
    """The stream that a link is made over, to be connected by the caller."""
    return Stream(_WELCOMING, START_S + SILENCE_S)


async def introduce(connected: Stream, token: str, wait_s: float) -> Ready:
    """Shake hands over a connected stream within so many seconds: both sides prove that they have the token.

    Raises:
        Refused: the operator's fault, mostly: another token, another version.
        Gone: the connection ended.
    """
    nonce = secrets.token_bytes(framing.NONCE_BYTES)
    try:
        async with asyncio.timeout(wait_s):
            connected.write(framing.hello(nonce))
            welcome = await _answer(connected)
            theirs, shown = welcome.body[: framing.NONCE_BYTES], welcome.body[framing.NONCE_BYTES :]
            if not hmac.compare_digest(shown, framing.proof(token, "runner", nonce, theirs)):
                raise Refused("the runner does not know our token (REWARD_RUNNER_TOKEN differs between service and runner)")
            connected.allow(_INTRODUCING)
            connected.write(Message(Kind.PROOF, b"", framing.proof(token, "service", nonce, theirs)))
            found = framing.read_ready(await _answer(connected))
    except TimeoutError:
        connected.fail("no handshake")
        raise Refused(f"the runner does not shake hands within {wait_s:g} s") from None
    except Violation as violation:
        connected.fail("no handshake")
        raise Refused(str(violation)) from violation
    connected.start_pings(SILENCE_S)
    connected.allow(_QUIET)
    return found


async def _answer(connected: Stream) -> Message:
    message = await connected.receive()
    if message.kind is Kind.REFUSED:
        raise Refused(framing.why_refused(message))
    return message


class Link:
    """One connection to a runner, past its handshake; one job at a time."""

    def __init__(self, connected: Stream, slots: int = 1) -> None:
        self._stream = connected
        self._slots = slots
        self._over = True  # no job of ours is under way at the runner

    @property
    def ended(self) -> asyncio.Future[str]:
        """Done, with the reason, once the connection has ended."""
        return self._stream.ended

    @property
    def peer_busy(self) -> int:
        """Slots that the runner had in use when it last said so."""
        return self._stream.peer_busy

    def close(self, why: str = "no longer needed") -> None:
        """End the connection; the runner kills what runs for it."""
        self._stream.fail(why)

    # ---- jobs --------------------------------------------------------------------------------------------------------

    async def run(self, job: Job) -> AsyncGenerator[RunResult, None]:
        """See `sandbox.interface.Sandbox.run`."""
        for first, part in batches(job):
            async with contextlib.aclosing(self._run(part)) as results:
                async for result in results:
                    yield result if not first or result.index is None else dataclasses.replace(result, index=first + result.index)
                    if result.index is None:
                        return

    async def _run(self, job: Job) -> AsyncGenerator[RunResult, None]:
        most = max((test.output_bytes for test in job.inputs), default=0)
        self._stream.allow({**_ENDING, Kind.RESULT: framing.result_bounds(most)})
        given = 0
        try:
            await self._begin(Kind.JOB, (job,))
            await self._started()
            while True:
                message = await self._next(_patience_s(job, self._slots))
                if message.kind is Kind.END:
                    _check_end(message, complete=given == len(job.inputs))
                    return
                result = framing.decode_result(message)
                _check_result(result, given, job)
                given = len(job.inputs) if result.index is None else given + 1
                yield result
        except Gone as gone:
            raise RunnerGone(f"the runner is gone: {gone}") from gone
        except Violation as violation:
            self._stream.fail(f"what it says breaks the protocol: {violation}")
            raise RunnerGone(f"the runner broke the protocol: {violation}") from violation
        finally:
            await self._give_up()

    async def _begin(self, kind: Kind, jobs: tuple[Job, ...]) -> None:
        self._over = False
        await self._stream.send(framing.encode_jobs(kind, jobs))

    async def _started(self) -> None:
        idle_s, waited_s = 0.0, 0.0
        while not self._stream.waiting:
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._stream.wait()
            except TimeoutError:
                waited_s += _LOOK_S
                idle_s = idle_s + _LOOK_S if self._stream.peer_busy < self._slots else 0.0
                if idle_s > _IDLE_S or waited_s > _QUEUE_S:
                    self._stream.fail("it does not start a job")
                    raise RunnerGone("the runner does not start a job") from None
        message = self._noted(await self._stream.receive())
        if message.kind is Kind.END:
            _check_end(message, complete=False)
        if message.kind is not Kind.STARTED:
            raise Violation("a result before the start")

    async def _next(self, seconds: float) -> Message:
        if self._stream.waiting:  # a clock for each result would cost as much as all the rest here
            return self._noted(await self._stream.receive())
        try:
            async with asyncio.timeout(seconds):
                return self._noted(await self._stream.receive())
        except TimeoutError:
            self._stream.fail(f"it gave no sign of the job for {seconds:g} s")
            raise RunnerGone("the runner does not come to an end") from None

    def _noted(self, message: Message) -> Message:
        if message.kind is Kind.END:
            self._over = True
            self._stream.allow(_QUIET)
        return message

    async def _give_up(self) -> None:
        """Have a job that is under way killed and wait until it is; a runner that does not do so loses the connection."""
        if self._over:
            return
        self._stream.write(Message(Kind.CANCEL))
        try:
            async with asyncio.timeout(_CANCEL_S):
                while not self._over:
                    self._noted(await self._stream.receive())
        except (Gone, TimeoutError):
            self._stream.fail("it does not give up a job")
        except asyncio.CancelledError:
            self._stream.fail("nobody waits for the job's end")
            raise

    # ---- sessions ----------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def talk(self, *jobs: Job) -> AsyncGenerator[tuple[LinkSession | RunResult, ...], None]:
        """See `sandbox.interface.Sandbox.talk`."""
        bounds = {Kind.RESULT: framing.result_bounds(0), Kind.OPENED: (0, 0), Kind.TAKEN: (0, 0), Kind.DATA: (0, framing.CHUNK_BYTES)}
        self._stream.allow({**_ENDING, **bounds})
        listener: asyncio.Task[None] | None = None
        try:
            await self._begin(Kind.TALK, jobs)
            await self._started()
            places = [await self._opened(job, place) for place, job in enumerate(jobs)]
            sessions = tuple(place for place in places if isinstance(place, LinkSession))
            listener = asyncio.create_task(self._listen(sessions))
            yield tuple(places)
        except Gone as gone:
            raise RunnerGone(f"the runner is gone: {gone}") from gone
        except Violation as violation:
            self._stream.fail(f"what it says breaks the protocol: {violation}")
            raise RunnerGone(f"the runner broke the protocol: {violation}") from violation
        finally:
            if listener is not None:
                listener.cancel()
                await asyncio.gather(listener, return_exceptions=True)
            await self._give_up()

    async def _opened(self, job: Job, place: int) -> LinkSession | RunResult:
        message = await self._next(_patience_s(job, self._slots))
        if message.kind is Kind.END:
            _check_end(message, complete=False)
        if message.place != place or message.kind not in (Kind.OPENED, Kind.RESULT):
            raise Violation("a session at another place")
        if message.kind is Kind.OPENED:
            return LinkSession(self._stream, place, job)
        result = framing.decode_result(message)
        if result.status is not Status.COMPILE_ERROR:
            raise Violation("a session that ended before it began")
        return result

    async def _listen(self, sessions: tuple[LinkSession, ...]) -> None:
        """Hand what comes to the sessions; whatever ends the talk ends them."""
        by_place = {session.place: session for session in sessions}
        why: Exception
        try:
            while True:
                message = self._noted(await self._stream.receive())
                if message.kind is Kind.END:
                    _check_end(message, complete=False)
                session = by_place.get(message.place)
                if session is None:
                    raise Violation("a word of a program that does not run")
                session.hear(message)
        except Gone as gone:
            why = RunnerGone(f"the runner is gone: {gone}")
        except Violation as violation:
            self._stream.fail(f"what it says breaks the protocol: {violation}")
            why = RunnerGone(f"the runner broke the protocol: {violation}")
        except (RunnerLost, SandboxUnavailable) as error:
            why = RunnerLost(str(error))
        for session in sessions:
            session.lose(why)


class LinkSession:
    """A program that runs at a runner; see `sandbox.interface.Session`. Bytes are asked for a piece at a time, as from a pipe."""

    def __init__(self, connected: Stream, place: int, job: Job) -> None:
        self.place = place
        self._stream = connected
        self._job = job
        self._most = job.inputs[0].output_bytes + framing.CHUNK_BYTES
        self._received = 0
        self._asked = self._sending = self._finishing = False
        self._piece: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._result: asyncio.Future[RunResult] = asyncio.get_running_loop().create_future()
        self._taken = asyncio.Event()
        self._taken.set()
        self._lost: Exception | None = None

    def hear(self, message: Message) -> None:
        """Take what the runner says of this program. Raises Violation."""
        if message.kind is Kind.TAKEN and self._sending:
            self._sending = False
            self._taken.set()
        elif message.kind is Kind.DATA and self._asked and not self._piece.done():
            self._received += len(message.body)
            if self._received > self._most:
                raise Violation("more bytes than the program may print")
            self._piece.set_result(message.body)
        elif message.kind is Kind.RESULT and self._finishing and not self._result.done():
            result = framing.decode_result(message)
            if result.index != 0:
                raise Violation("a result of another run")
            self._result.set_result(result)
        else:
            raise Violation(f"{message.kind.name} was not asked for")

    def lose(self, why: Exception) -> None:
        """The runner is gone; whoever waits learns it."""
        self._lost = why
        for future in (self._piece, self._result):
            if not future.done():
                future.set_exception(why)
                future.exception()  # nobody may be waiting
        self._taken.set()

    async def send(self, data: bytes) -> None:
        """See `sandbox.interface.Session.send`. One piece is under way at a time."""
        for start in range(0, len(data), framing.CHUNK_BYTES):
            await self._taken.wait()
            if self._lost is not None:
                return
            self._taken.clear()
            self._sending = True
            self._stream.write(Message(Kind.DATA, b"", data[start : start + framing.CHUNK_BYTES], self.place))

    async def receive(self) -> bytes:
        """See `sandbox.interface.Session.receive`. Raises RunnerLost."""
        if not self._asked:
            self._asked = True
            self._stream.write(Message(Kind.WANT, place=self.place))
        piece = await asyncio.shield(self._piece)
        if piece:  # the end stays the end
            self._asked = False
            self._piece = asyncio.get_running_loop().create_future()
            if self._lost is not None:
                self.lose(self._lost)
        return piece

    async def finish(self) -> RunResult:
        """See `sandbox.interface.Session.finish`. Raises RunnerLost."""
        if not self._finishing:
            self._finishing = True
            self._stream.write(Message(Kind.FINISH, place=self.place))
        try:
            async with asyncio.timeout(_patience_s(self._job, 1)):
                return await asyncio.shield(self._result)
        except TimeoutError:
            self._stream.fail("a program does not come to its end")
            raise RunnerGone("the runner does not come to an end") from None


def batches(job: Job) -> Iterator[tuple[int, Job]]:
    """The job, or jobs for its inputs in order where these are large together, each with the place of its first input."""
    if framing.job_bytes(job) <= _BATCH_BYTES:
        yield 0, job
        return
    first, held = 0, 0
    for place, test in enumerate(job.inputs):
        size = len(test.stdin) + sum(map(len, test.files.values()))
        if place > first and held + size > _BATCH_BYTES:
            yield first, dataclasses.replace(job, inputs=job.inputs[first:place])
            first, held = place, 0
        held += size
    yield first, dataclasses.replace(job, inputs=job.inputs[first:])


def _patience_s(job: Job, slots: int) -> float:
    """Longest time between two words about a job: compiling, a run, the same run once more, alone, after those of all other slots."""
    return min(2 * job.limits.compile_s + job.limits.net_s * (2 + slots) + _SLACK_S, _PATIENCE_MOST_S)


def _check_result(result: RunResult, given: int, job: Job) -> None:
    if result.index is None:
        if given:
            raise Violation("a compile error after results")
    elif result.index != given or given >= len(job.inputs):
        raise Violation("results out of order")
    elif len(result.stdout) > job.inputs[given].output_bytes:
        raise Violation("more output than the run may give")


def _check_end(message: Message, *, complete: bool) -> None:
    """Whether a job may end here. Raises RunnerLost, SandboxUnavailable, Violation."""
    ending, why = framing.decode_end(message)
    if ending is Ending.UNAVAILABLE:
        raise SandboxUnavailable(why)
    if ending is Ending.LOST:
        raise RunnerLost(why)
    if ending is not Ending.DONE or not complete:
        raise Violation("an end that nobody asked for")
