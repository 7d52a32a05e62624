"""The runner's end of connections: shake hands with a service, run what it asks for, kill what it gives up or can no longer hear of."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine

from sandbox import framing
from sandbox.framing import Ending, Kind, Message, Ready, Violation
from sandbox.interface import Job, RunnerLost, RunResult, Sandbox, SandboxUnavailable, Session
from sandbox.streams import Gone, Stream

_HANDSHAKE_S = 10.0
_STRANGERS = 64  # connections that have not shown the token yet
_CONNECTIONS = 4096
_LAST_BYTES_S = 0.05
_QUIET_S = 0.5

GREETING = {Kind.HELLO: (framing.HANDSHAKE_BYTES, framing.NONCE_BYTES)}
_PROVING = {Kind.PROOF: (0, 64), Kind.PING: (0, 0)}
_SERVING = {
    Kind.PING: (0, 0), Kind.CANCEL: (0, 0), Kind.WANT: (0, 0), Kind.FINISH: (0, 0), Kind.DATA: (0, framing.CHUNK_BYTES),
    Kind.JOB: (framing.JOB_HEAD_BYTES, framing.JOB_BODY_BYTES), Kind.TALK: (framing.JOB_HEAD_BYTES, framing.JOB_BODY_BYTES),
}  # fmt: skip


class Runner:
    """A started sandbox and its connections."""

    def __init__(self, sandbox: Sandbox, token: str, ready: Ready) -> None:
        self.sandbox = sandbox
        self.token = token
        self.ready = ready
        self.slots = asyncio.Semaphore(sandbox.slots)
        self.running = 0
        self.leaving = False  # then it still serves, and asks to be chosen last
        self.strangers = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def connection(self, silence_s: float) -> Stream:
        """A stream whose service is served once it is connected: what a server makes for each client."""
        stream = Stream(GREETING, silence_s, busy=lambda: self.sandbox.slots if self.leaving else self.running)
        task = asyncio.create_task(Connection(self, stream).serve())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return stream

    async def drain(self, most_s: float) -> None:
        """Serve until no program has run for a moment: a service that is stopped at the same time finishes what it has accepted."""
        self.leaving = True
        now = asyncio.get_running_loop().time
        end, quiet_from = now() + most_s, now()
        while now() < end and now() < quiet_from + _QUIET_S:
            await asyncio.sleep(_QUIET_S / 10)
            if self.running:
                quiet_from = now()

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._tasks)

    async def close(self) -> None:
        """End every connection, and what runs for it."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Connection:
    """One service's connection."""

    def __init__(self, runner: Runner, stream: Stream) -> None:
        self._runner = runner
        self._stream = stream
        self._seats: tuple[_Seat | None, ...] = ()

    async def serve(self) -> None:
        """Shake hands, then take jobs until the connection ends."""
        try:
            if self._runner.strangers >= _STRANGERS or self._runner.connections > _CONNECTIONS:
                await self._stream.finish(framing.refused("too many connections"))
                return
            if not await self._admitted():
                return
            while True:
                message = await self._stream.receive()
                if message.kind in (Kind.JOB, Kind.TALK):
                    await self._work(message)
        except Gone:
            pass
        except Violation as violation:
            self._stream.fail(str(violation))
        finally:
            self._stream.fail("the runner closes it")

    async def _admitted(self) -> bool:
        """Whether the other side has the token and speaks our language; told why if not."""
        runner, stream = self._runner, self._stream
        runner.strangers += 1
        try:
            async with asyncio.timeout(_HANDSHAKE_S):
                nonce, ours = framing.check_hello(await stream.receive()), secrets.token_bytes(framing.NONCE_BYTES)
                stream.allow(_PROVING)
                stream.write(Message(Kind.WELCOME, b"", ours + framing.proof(runner.token, "runner", nonce, ours)))
                shown = (await stream.receive()).body
        except Violation as violation:
            await stream.finish(framing.refused(str(violation)))
            return False
        except TimeoutError:
            return False
        finally:
            runner.strangers -= 1
        if not hmac.compare_digest(shown, framing.proof(runner.token, "service", nonce, ours)):
            await stream.finish(framing.refused("the token is not this runner's"))
            return False
        stream.allow(_SERVING)
        stream.write(framing.ready(runner.ready))
        return True

    # ---- work ----------------------------------------------------------------------------------------------------------

    async def _work(self, order: Message) -> None:
        jobs = framing.decode_jobs(order)
        try:
            await self._unless_cancelled(self._run(jobs[0]) if order.kind is Kind.JOB else self._talk(jobs))
            ending, why = Ending.DONE, ""
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise  # the runner itself closes
            ending, why = Ending.CANCELLED, ""
        except RunnerLost as error:
            ending, why = Ending.LOST, str(error)
        except SandboxUnavailable as error:
            ending, why = Ending.UNAVAILABLE, str(error)
        await self._stream.send(framing.encode_end(ending, why))

    async def _unless_cancelled(self, work: Coroutine[None, None, None]) -> None:
        """Do the work while the service's words are heard. Raises CancelledError, Gone and what the work raises."""
        task = asyncio.create_task(work)
        try:
            while not task.done():
                word = asyncio.ensure_future(self._stream.receive())
                try:
                    await asyncio.wait({task, word}, return_when=asyncio.FIRST_COMPLETED)
                    if word.done():
                        self._heed(word.result(), task)
                finally:
                    word.cancel()
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _heed(self, message: Message, task: asyncio.Task[None]) -> None:
        if message.kind is Kind.CANCEL:
            task.cancel()
        elif message.kind in (Kind.JOB, Kind.TALK):
            raise Violation("a second job on a connection")
        else:
            seat = self._seats[message.place] if message.place < len(self._seats) else None
            if seat is not None:
                seat.heed(message)

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncGenerator[None, None]:
        async with self._runner.slots:
            self._runner.running += 1
            try:
                self._stream.write(Message(Kind.STARTED))
                yield
            finally:
                self._runner.running -= 1

    async def _run(self, job: Job) -> None:
        async with self._slot(), contextlib.aclosing(self._runner.sandbox.run(job)) as results:
            async for result in results:
                await self._stream.send_soon(framing.encode_result(result))

    async def _talk(self, jobs: tuple[Job, ...]) -> None:
        async with self._slot(), self._runner.sandbox.talk(*jobs) as sessions:
            trouble: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._seats = tuple(
                None if isinstance(session, RunResult) else _Seat(self._stream, session, place, trouble)
                for place, session in enumerate(sessions)
            )
            try:
                for place, session in enumerate(sessions):
                    opened = framing.encode_result(session, place) if isinstance(session, RunResult) else Message(Kind.OPENED, place=place)
                    self._stream.write(opened)
                await trouble  # the talk ends when the service leaves it
            finally:
                seats, self._seats = self._seats, ()
                await asyncio.gather(*(seat.close() for seat in seats if seat is not None))


class _Seat:
    """One session of a talk: does what the service asks of it, an act of each kind at a time."""

    def __init__(self, stream: Stream, session: Session, place: int, trouble: asyncio.Future[None]) -> None:
        self._stream, self._session, self._place, self._trouble = stream, session, place, trouble
        self._acts: dict[Kind, asyncio.Task[None]] = {}

    def heed(self, message: Message) -> None:
        """Start what the service asks for. Raises Violation."""
        running = self._acts.get(message.kind)
        if running is not None and not running.done():
            raise Violation(f"a second {message.kind.name} before the first is done")
        acts: dict[Kind, Callable[[], Coroutine[None, None, Message]]] = {
            Kind.DATA: lambda: self._give(message.body),
            Kind.WANT: self._take,
            Kind.FINISH: self._finish,
        }
        self._acts[message.kind] = asyncio.create_task(self._answer(acts[message.kind]()))

    async def _answer(self, act: Awaitable[Message]) -> None:
        try:
            self._stream.write(await act)
        except (RunnerLost, SandboxUnavailable) as error:
            if not self._trouble.done():
                self._trouble.set_exception(error)

    async def _give(self, data: bytes) -> Message:
        await self._session.send(data)
        return Message(Kind.TAKEN, place=self._place)

    async def _take(self) -> Message:
        return Message(Kind.DATA, b"", await self._session.receive(), self._place)

    async def _finish(self) -> Message:
        giving = self._acts.get(Kind.DATA)
        if giving is not None:  # what was sent before goes first, unless the program does not read it
            await asyncio.wait({giving}, timeout=_LAST_BYTES_S)
        return framing.encode_result(await self._session.finish(), self._place)

    async def close(self) -> None:
        """Stop what is under way."""
        for act in self._acts.values():
            act.cancel()
        await asyncio.gather(*self._acts.values(), return_exceptions=True)
