"""The state of a running service: its machine, its room, its readers, its counters, and how it stops."""

from __future__ import annotations

import asyncio

from reward_service.records import JsonObject
from reward_service.server.admission import BYTES, REQUESTS, ROLLOUTS, SANDBOX, WORKERS, Admission
from reward_service.server.bodies import Body
from reward_service.server.bounds import Bounds
from reward_service.server.decompress import Encoding
from reward_service.server.keys import Account, Keys
from reward_service.server.metrics import Metrics
from reward_service.server.reader import BodyReader
from reward_service.server.repeats import Repeats
from reward_service.server.requests import GradeRequest
from reward_service.server.testset_files import TestSetFiles
from reward_service.server.testsets import TestSets
from reward_service.settings import Settings
from reward_service.turns import Share
from reward_service.wiring import Machine

DEFAULT_CPU_S, DEFAULT_COMPILE_S, DEFAULT_DRAW = 4.0, 10.0, 20  # of `capacity`'s example: what a reference gets that states nothing
READERS_PER_CORES = 8  # one process that reads big bodies keeps about that many grading cores busy
QUICK_BYTES = 1 << 20  # bodies up to this size have a reader of their own: a single completion never waits behind a whole step
PRIORITY_WEIGHTS = {"train": 32.0, "eval": 8.0, "offline": 1.0}  # GPUs wait for the first, people for the second, nobody for the last
PACKED = 8  # how much a compressed body is taken to grow


class Service:
    """Everything that requests share. Made before the event loop runs, used within one."""

    def __init__(self, settings: Settings, machine: Machine) -> None:
        self.settings = settings
        self.machine = machine
        self.bounds = bounds_of(settings)
        self.metrics = Metrics()
        self.keys = Keys(None if settings.key is None else settings.key.get_secret_value(), settings.keys_file)
        self.admission = Admission(limits_of(settings), lambda: len(self.keys.accounts), machine.costs.estimate_s)
        self.repeats = Repeats(settings.answer_memory_bytes)
        self._quick_reader = BodyReader(self.bounds)
        self._big_reader = BodyReader(self.bounds, 1 + settings.workers // READERS_PER_CORES)
        files = TestSetFiles(settings.testset_folder, settings.testset_disk_bytes)
        self.test_sets = TestSets(files, self._big_reader, settings.testset_memory_bytes, settings.max_body_bytes)
        self._running: set[asyncio.Task[None]] = set()
        self.cut = False
        self._watch()
        self._watch_grading()

    async def start(self) -> None:
        """Start the machine and the readers."""
        await self.machine.start()
        await asyncio.to_thread(self.test_sets.files.sweep)
        await self._quick_reader.start()
        await self._big_reader.start()

    async def close(self) -> None:
        """Stop everything that was started."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        try:
            await asyncio.gather(self._quick_reader.close(), self._big_reader.close())
        finally:
            await self.machine.close()

    async def drain(self) -> None:
        """Let nobody in, wait for what is in flight, and after `drain_s` cut it off: what is not graded then is `cancelled`."""
        self.admission.drain()
        try:
            async with asyncio.timeout(self.settings.drain_s):
                await self.admission.idle()
        except TimeoutError:
            self.cut_off()

    def cut_off(self) -> None:
        """End all grading now; its requests are answered with what is known."""
        self.admission.drain()
        self.cut = True
        for task in self._running:
            task.cancel()

    async def read(self, body: Body) -> GradeRequest:
        """The request that a body states.

        Raises:
            RequestError: the client's fault.
            Overloaded: ours: its reader was lost, twice.
        """
        expected = body.size if body.encoding is Encoding.IDENTITY else body.size * PACKED
        return await (self._quick_reader if expected <= QUICK_BYTES else self._big_reader).read(body)

    def share(self, account: Account, priority: str, *, single: bool = False) -> Share:
        """A share of the machine for one more request of a key: keys share by weight, and so do the classes of priority."""
        return Share(f"{account.name}/{priority}", account.weight * PRIORITY_WEIGHTS[priority], single=single)

    def running(self, task: asyncio.Task[None]) -> None:
        """Remember a task that grades, so that the service's stop can cancel it."""
        self._running.add(task)

    def ended(self, task: asyncio.Task[None]) -> None:
        """Forget it: it grades no more."""
        self._running.discard(task)

    def readiness(self) -> JsonObject:
        """The machine's readiness; a draining service is not ready."""
        found = dict(self.machine.readiness())
        if self.admission.draining:
            reasons = found.get("reasons")
            found |= {"ready": False, "reasons": [*(reasons if isinstance(reasons, list) else []), "the server is stopping"]}
        return found

    def capacity(self) -> JsonObject:
        """Free room, and the worst time that one rollout of each task may take here once it has started, in seconds."""
        settings, admission = self.settings, self.admission
        workers, sandbox = self.machine.worker_turns, self.machine.sandbox_turns
        return {
            "requests": {"in_flight": admission.requests, "max": settings.max_requests},
            "rollouts": {"in_flight": admission.rollouts, "max": settings.max_rollouts},
            "workers": {"slots": settings.workers, "free": max(0, settings.workers - workers.busy), "waiting": workers.waiting},
            "sandbox": {"slots": sandbox.slots, "free": sandbox.slots - sandbox.busy, "waiting": sandbox.waiting},
            "worst_s": {
                "math": _net_s(settings.math_cpu_s),
                "choice": _net_s(settings.math_cpu_s),
                "code": _net_s(DEFAULT_COMPILE_S) + DEFAULT_DRAW * _net_s(DEFAULT_CPU_S),
                "code_at_maxima_per_test": _net_s(settings.max_cpu_s),
                "code_at_maxima_compile": _net_s(settings.max_compile_s),
            },
            "max_deadline_s": settings.max_deadline_s,
        }

    def _watch(self) -> None:
        """Let metrics show what comes in."""
        admission, metrics, keys = self.admission, self.metrics, self.keys
        metrics.watch("reward_in_flight_requests", "Requests in flight.", lambda: admission.requests)
        metrics.watch("reward_in_flight_rollouts", "Rollouts in flight.", lambda: admission.rollouts)
        metrics.watch("reward_held_bytes", "Bytes of the bodies in flight.", lambda: admission.held_bytes)
        metrics.watch("reward_ready", "1 where everything works here, else 0.", lambda: float(self.readiness()["ready"] is True))
        metrics.watch("reward_testset_disk_bytes", "Test sets on disk.", lambda: self.test_sets.files.used_bytes)
        metrics.watch("reward_testset_memory_bytes", "Parsed test sets in memory.", lambda: self.test_sets.memory_bytes)
        metrics.watch_by("reward_held", "Room in use, by resource.", "resource", lambda: admission.held)
        metrics.watch_by("reward_room", "Room there is, by resource.", "resource", lambda: admission.limits)
        metrics.watch_by(
            "reward_key_rollouts",
            "Rollouts in flight, by key.",
            "key",
            lambda: {account.name: account.held.get(ROLLOUTS, 0.0) for account in keys.accounts},
        )
        metrics.watch("reward_keys_file_bad", "1 where the file of keys cannot be used as it is now.", lambda: float(keys.bad))
        metrics.watch_total("reward_requests_joined", "Repetitions that joined running work.", lambda: self.repeats.joined)
        metrics.watch_total("reward_requests_replayed", "Repetitions that got a stored answer.", lambda: self.repeats.replayed)
        metrics.watch("reward_answer_memory_bytes", "Stored answers.", lambda: self.repeats.size_bytes)
        metrics.watch_total(
            "reward_reader_restarts",
            "Processes that read bodies replaced.",
            lambda: self._quick_reader.restarts + self._big_reader.restarts,
        )

    def _watch_grading(self) -> None:
        """Let metrics show workers and sandbox."""
        machine, metrics = self.machine, self.metrics
        machine.worker_turns.on_wait = metrics.wait_seconds.labels("workers").observe
        machine.sandbox_turns.on_wait = metrics.wait_seconds.labels("sandbox").observe
        metrics.watch("reward_workers_busy", "Worker processes at work.", lambda: machine.workers.stats.busy)
        metrics.watch("reward_workers_waiting", "Items that wait for a worker.", lambda: machine.worker_turns.waiting)
        metrics.watch("reward_sandbox_busy", "Programs that run.", lambda: machine.sandbox_turns.busy)
        metrics.watch("reward_sandbox_waiting", "Programs that wait for a slot.", lambda: machine.sandbox_turns.waiting)
        metrics.watch_total("reward_worker_restarts", "Worker processes replaced.", lambda: machine.workers.stats.restarts)
        metrics.watch_total("reward_worker_kills", "Items stopped at a limit of their own.", lambda: machine.workers.stats.killed)
        metrics.watch_total("reward_sandbox_losses", "Jobs whose runner was lost and that were run again.", lambda: machine.runner_losses)
        metrics.watch_total("reward_sandbox_runners_replaced", "Runners and containers that ended.", lambda: machine.runners_replaced)
        metrics.watch("reward_sandbox_slots", "Programs that may run at the same time.", lambda: machine.sandbox_turns.slots)
        metrics.watch_totals(
            "reward_math_limits", "Math answers and texts that hit a bound of their own, by bound.", "bound", lambda: machine.limit_hits
        )
        metrics.watch_totals(
            "reward_verdicts_known",
            "Verdicts of programs that were known and not run again.",
            "how",
            lambda: {"memory": machine.memory.hits},
        )
        results = machine.results
        metrics.watch_totals(
            "reward_results",
            "Items of workers: computed, known from before, shared with one that was just being computed.",
            "how",
            lambda: {"computed": results.misses, "known": results.hits, "shared": results.joined},
        )


def limits_of(settings: Settings) -> dict[str, float]:
    """The room of the service by resource."""
    return {
        REQUESTS: settings.max_requests,
        ROLLOUTS: settings.max_rollouts,
        BYTES: settings.max_held_bytes,
        WORKERS: settings.max_queue_s,
        SANDBOX: settings.max_queue_s,
    }


def bounds_of(settings: Settings) -> Bounds:
    """The bounds of one request."""
    return Bounds(
        max_body_bytes=settings.max_body_bytes,
        max_values=settings.max_values,
        max_rollouts=settings.max_rollouts,
        max_tests=settings.max_tests,
        max_completion_characters=settings.max_completion_characters,
        max_cpu_s=settings.max_cpu_s,
        max_memory_bytes=settings.max_memory_bytes,
        max_compile_s=settings.max_compile_s,
        max_deadline_s=settings.max_deadline_s,
        default_deadline_s=settings.default_deadline_s,
    )


def _net_s(cpu_s: float) -> float:
    """The wall-clock net over a CPU limit, once, and once more where it is run again alone."""
    return 2 * (2 * cpu_s + 2)
