"""Requests under a `request_id`: a repetition joins the work, goes on where it was dropped, or gets the stored answer for ten minutes."""

from __future__ import annotations

import asyncio
import functools
from collections import OrderedDict
from collections.abc import Callable, Sequence

from reward_service.errors import RequestError
from reward_service.records import Grade
from reward_service.server.runs import Run

KEPT_S = 600.0
GRADE_BYTES = 1_500  # of a grade in memory beside its encoded form
ENTRY_BYTES = 4_000

Start = Callable[[Sequence[Grade]], Run]


class _Entry:
    """What is known under one id: a run that goes on or is done, else the grades of one that was dropped."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.run: Run | None = None
        self.grades: Sequence[Grade] = ()
        self.size_bytes = 0
        self.until_s = 0.0


class Repeats:
    """Entries by key and `request_id`; of those that ended at most `limit_bytes`. Of one event loop."""

    def __init__(self, limit_bytes: int) -> None:
        self.joined = 0
        self.replayed = 0
        self.size_bytes = 0
        self._limit_bytes = limit_bytes
        self._going_on: dict[tuple[str, str], _Entry] = {}
        self._ended: OrderedDict[tuple[str, str], _Entry] = OrderedDict()  # the oldest first

    def run(self, account: str, request_id: str, digest: str, start: Start) -> Run:
        """The run of that id; started if there is none.

        Raises:
            RequestError: the client's fault: 409 where the id belongs to another body. What `start` raises.
        """
        self._forget()
        key = (account, request_id)
        entry = self._going_on.get(key) or self._ended.get(key)
        if entry is not None and entry.digest != digest:
            raise RequestError("/request_id", "belongs to another body, which came within the last ten minutes", status=409)
        if entry is not None and entry.run is not None:
            self.replayed += entry.run.done
            self.joined += not entry.run.done
            return entry.run
        run = start(() if entry is None else entry.grades)
        if entry is None:
            entry = _Entry(digest)
        self._drop(key)
        self._going_on[key] = entry
        entry.run = run
        run.on_end = functools.partial(self._end, key, entry)
        return run

    def _end(self, key: tuple[str, str], entry: _Entry, run: Run) -> None:
        """Keep what a repetition would not change: the whole answer, or the grades that are final."""
        del self._going_on[key]
        final = run.final_grades()
        whole = len(final) == run.rollouts
        if not final and not whole:
            return
        entry.run, entry.grades = (run, ()) if whole else (None, final)
        entry.until_s = asyncio.get_running_loop().time() + KEPT_S
        entry.size_bytes = ENTRY_BYTES + run.size_bytes + GRADE_BYTES * len(final)
        self.size_bytes += entry.size_bytes
        self._ended[key] = entry
        self._forget()

    def _forget(self) -> None:
        """Drop what is too old or too much, the oldest first."""
        now = asyncio.get_running_loop().time()
        while self._ended:
            key, oldest = next(iter(self._ended.items()))
            if oldest.until_s > now and self.size_bytes <= self._limit_bytes:
                return
            self._drop(key)

    def _drop(self, key: tuple[str, str]) -> None:
        entry = self._ended.pop(key, None)
        if entry is not None:
            self.size_bytes -= entry.size_bytes
