"""From a dump through the pipeline into a ledger: bounded memory, bounded work in flight, every row exactly once."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field

from reward_service.effects import Effects
from reward_service.errors import RewardServiceError
from reward_service.offline.dumps import Batch, Dump, DumpError, ReadGroup, Rename, Row, batches
from reward_service.offline.ledger import Entry, Ledger
from reward_service.pipeline import grade_groups
from reward_service.records import Grade, Group, Outcome
from reward_service.scoring.scheme import Scheme

BATCHES_IN_FLIGHT = 32  # of at most 64 rollouts and 4 MiB each: enough to keep hundreds of cores busy, 128 MiB of rows
BAD_ROW = "bad row"  # counted as an outcome of its own in a tally

GradeGroups = Callable[[Sequence[Group], Scheme, Effects], AsyncGenerator[Grade, None]]


@dataclass(slots=True)
class Tally:
    """What a ledger holds, counted as it grows: rows by task and outcome, rewards by task, reasons of what is unscored.

    `kept` rows stood in the ledger before this run. `position` is how many bytes of the dump have been read.
    """

    rows: int = 0
    kept: int = 0
    position: int = 0
    outcomes: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    rewards: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, entry: Entry) -> None:
        """Count one line of the ledger."""
        task = entry.task or "?"
        self.rows += 1
        self.outcomes[task][BAD_ROW if entry.outcome is None else entry.outcome.value] += 1
        self.rewards[task] += entry.reward or 0.0
        if entry.outcome is Outcome.UNSCORED:
            self.reasons[entry.reason or "?"] += 1

    def count(self, outcome: str) -> int:
        """How many rows of all tasks have this outcome."""
        return sum(counts[outcome] for counts in self.outcomes.values())

    def reward_mean(self, task: str) -> float | None:
        """Mean reward of the task's scored rows."""
        counts = self.outcomes[task]
        scored = counts.total() - counts[BAD_ROW] - counts[Outcome.UNSCORED.value]
        return self.rewards[task] / scored if scored else None

    @property
    def all_scored(self) -> bool:
        """Whether every row has a reward."""
        return self.count(BAD_ROW) == 0 and self.count(Outcome.UNSCORED.value) == 0


@dataclass(frozen=True, slots=True)
class Grading:
    """How rows are graded: the scheme, how a row's JSON becomes a group, and what each batch may use."""

    scheme: Scheme
    read_group: ReadGroup
    effects: Callable[[], Effects]
    grade_groups: GradeGroups = grade_groups


async def score_dump(
    dump: Dump,
    ledger: Ledger,
    grading: Grading,
    *,
    renames: Sequence[Rename] = (),
    on_progress: Callable[[Tally], None] = lambda tally: None,
    in_flight: int = BATCHES_IN_FLIGHT,
) -> Tally:
    """Grade every row of the dump that is not in the ledger yet; returns what the ledger then holds.

    `on_progress` gets the same tally again and again as it grows. Stopping it, by cancellation or by any signal, loses nothing that is
    in the ledger; calling it again continues.

    Raises:
        DumpError: the user's fault: the dump is damaged. What stands before the damage is graded.
        LedgerError: the user's or the machine's fault.
    """
    tally = Tally()
    for entry in ledger.resume():
        tally.add(entry)
    tally.kept = tally.rows
    on_progress(tally)
    room = asyncio.Semaphore(in_flight)

    async def grade(batch: Batch) -> None:
        try:
            async for entry in _graded(batch, ledger, grading):
                tally.add(entry)
                on_progress(tally)
        finally:
            room.release()

    damage: DumpError | None = None
    waiting = batches(_rows_to_grade(dump, ledger, renames, tally), grading.read_group)
    try:
        async with asyncio.TaskGroup() as tasks:
            try:
                while batch := await asyncio.to_thread(next, waiting, None):  # in a thread, so that parsing holds up no grading
                    await room.acquire()
                    tasks.create_task(grade(batch))
                    on_progress(tally)
            except DumpError as error:  # kept until what was read before it is graded
                damage = error
    except ExceptionGroup as failed:
        ours = failed.subgroup(RewardServiceError)
        raise (ours or failed).exceptions[0] from None
    if damage is not None:
        raise damage
    on_progress(tally)
    return tally


def _rows_to_grade(dump: Dump, ledger: Ledger, renames: Sequence[Rename], tally: Tally) -> Iterator[Row]:
    for row in dump.rows(renames):
        tally.position = row.position
        if not ledger.has(row):
            yield row


async def _graded(batch: Batch, ledger: Ledger, grading: Grading) -> AsyncIterator[Entry]:
    """Each row of the batch as it comes to stand in the ledger."""
    if batch.group is None:
        for row in batch.rows:
            yield ledger.append(row, None, row.problem)
        return
    grades = grading.grade_groups([batch.group], grading.scheme, grading.effects())
    async with contextlib.aclosing(grades):
        async for grade in grades:
            yield ledger.append(batch.rows[int(grade.rollout_id)], grade)
