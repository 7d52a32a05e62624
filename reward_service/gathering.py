"""Small work of many requests, handed to a worker together.

A thousand connections with one rollout each need a thousand small items: one at a time, a worker would stand still after each until
the event loop comes round to it. What has come meanwhile goes as one item of the pool, in one turn of its flow. Whatever ends that item
says nothing of those in it: each is done again alone.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from reward_service.costs import Costs
from reward_service.effects import Task, Workers
from reward_service.errors import DeadlineExceeded, JobKilled, NotScored
from reward_service.turns import Share, Turns
from reward_service.worker_batches import run_many
from reward_service.worker_main import decoder, encode, name_of

ALONE: Final = object()  # instead of a result: the item is to be done alone
SMALL_UNITS = 1.25  # of `costs.units_of`: one answer, and a quarter of 4,096 characters in all
BATCH_ITEMS = 32  # some milliseconds of the commonest answers


@dataclass(slots=True, eq=False)
class _Item:
    share: Share
    task: Task[Any]
    args: tuple[object, ...]
    kind: str
    units: float
    asked_s: float
    future: asyncio.Future[object]
    alarm: asyncio.TimerHandle | None = None


class _Flow:
    """What waits of one flow."""

    def __init__(self, share: Share) -> None:
        self.name, self.weight = share.flow, share.weight
        self.waiting: deque[_Item] = deque()
        self.senders: set[asyncio.Task[None]] = set()


class Gatherer:
    """Runs small items of single rollouts in company. Belongs to one event loop."""

    def __init__(self, workers: Workers, count: int, turns: Turns, costs: Costs) -> None:
        self._workers, self._count, self._turns, self._costs = workers, count, turns, costs
        self._flows: dict[str, _Flow] = {}

    async def run(self, share: Share, start_by: float | None, task: Task[Any], kind: str, units: float, args: tuple[object, ...]) -> object:
        """The result, or ALONE.

        Raises:
            DeadlineExceeded: nobody's fault: it had not started by `start_by`.
        """
        if task.heavy or units > SMALL_UNITS:
            return ALONE
        loop = asyncio.get_running_loop()
        if start_by is not None and loop.time() >= start_by:
            raise DeadlineExceeded("not started before the deadline")
        item = _Item(share, task, args, kind, units, time.monotonic(), loop.create_future())
        if start_by is not None:
            item.alarm = loop.call_at(start_by, _expire, item.future)
        flow = self._flows.get(share.flow)
        if flow is None:
            flow = self._flows[share.flow] = _Flow(share)
        flow.waiting.append(item)
        if len(flow.senders) < self._count:
            self._start(flow)
        try:
            return await item.future
        finally:
            if item.alarm is not None:
                item.alarm.cancel()

    def _start(self, flow: _Flow) -> None:
        """Send what waits, together with what else comes in this turn of the event loop."""
        sender = asyncio.get_running_loop().create_task(self._send(flow))
        flow.senders.add(sender)
        sender.add_done_callback(lambda done: self._sent(flow, done))

    async def _send(self, flow: _Flow) -> None:
        """Take turns until nothing waits."""
        while flow.waiting:
            first = flow.waiting[0]
            cost_s = self._costs.estimate_s(first.kind, first.units) * min(len(flow.waiting), BATCH_ITEMS)
            async with self._turns.take(Share(flow.name, flow.weight), None, cost_s):
                batch = _next_batch(flow.waiting)
                if batch:
                    await self._run(batch)

    def _sent(self, flow: _Flow, sender: asyncio.Task[None]) -> None:
        flow.senders.discard(sender)
        if flow.senders:
            return
        if not flow.waiting:
            self._flows.pop(flow.name, None)
        elif not sender.cancelled():  # it ended by what nobody foresaw; the others still wait
            self._start(flow)

    async def _run(self, batch: list[_Item]) -> None:
        """Let a worker do them all; none is left without an answer."""
        begun_s = time.monotonic()
        for item in batch:
            item.share.waiting_s += begun_s - item.asked_s
        try:
            await (self._run_one(batch[0]) if len(batch) == 1 else self._run_many(batch))
        finally:
            for item in batch:
                _settle(item, ALONE)
        took_s = (time.monotonic() - begun_s) / len(batch)
        for item in batch:
            self._costs.learn(item.kind, item.units, took_s)

    async def _run_one(self, item: _Item) -> None:
        try:
            _settle(item, await self._workers.run(item.task, *item.args))
        except JobKilled as killed:
            _settle(item, ALONE if killed.cause == "exception" else killed)
        except NotScored:
            _settle(item, ALONE)

    async def _run_many(self, batch: list[_Item]) -> None:
        calls = [(name_of(item.task.function), [encode(argument) for argument in item.args]) for item in batch]
        task = Task(run_many, list[msgspec.Raw], max(item.task.cpu_s for item in batch))
        try:
            found = await self._workers.run(task, calls)
        except (JobKilled, NotScored):
            return
        for item, result in zip(batch, found, strict=True):
            kind: Any = item.task.result
            _settle(item, decoder(kind)(result))


def _next_batch(waiting: deque[_Item]) -> list[_Item]:
    """Take what is still wanted, in the order of its coming."""
    batch: list[_Item] = []
    while waiting and len(batch) < BATCH_ITEMS:
        item = waiting.popleft()
        if not item.future.done():
            if item.alarm is not None:
                item.alarm.cancel()  # it starts now
            batch.append(item)
    return batch


def _settle(item: _Item, result: object) -> None:
    if not item.future.done():
        item.future.set_result(result)


def _expire(future: asyncio.Future[object]) -> None:
    if not future.done():
        future.set_exception(DeadlineExceeded("not started before the deadline"))
