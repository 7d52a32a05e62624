"""What has been found out already, so that nothing is run twice: a bounded memory of verdicts, and who is at work on what.

It forgets what was not asked for longest, and holds nothing that a grade depends on: a lost entry costs time only. Belongs to one event
loop.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

COUNTS = 65_536  # keys whose failures are counted
ENTRY_BYTES = 256  # that an entry costs beside its value


class VerdictMemory:
    """Values by digest, at most `limit_bytes` of them (0: none), failures by digest, and work under way by digest.

    `tool_chain` names what runs programs now: part of every digest, since runners elsewhere may be replaced while we serve.
    """

    def __init__(self, limit_bytes: int = 16_777_216) -> None:
        self.limit_bytes = limit_bytes
        self.tool_chain = ""
        self.size_bytes = 0
        self.hits = 0
        self.under_way: dict[bytes, asyncio.Future[object]] = {}
        self._values: OrderedDict[bytes, tuple[object, int]] = OrderedDict()
        self._failures: OrderedDict[bytes, int] = OrderedDict()

    def recall(self, key: bytes) -> object | None:
        """The value, or None."""
        found = self._values.get(key)
        if found is None:
            return None
        self.hits += 1
        self._values.move_to_end(key)
        return found[0]

    def keep(self, key: bytes, value: object, size_bytes: int) -> None:
        """Remember a value of about so many bytes."""
        previous = self._values.pop(key, None)
        if previous is not None:
            self.size_bytes -= previous[1]
        size = size_bytes + ENTRY_BYTES
        if size > self.limit_bytes:
            return
        self._values[key] = (value, size)
        self.size_bytes += size
        while self.size_bytes > self.limit_bytes:
            _, (_, gone) = self._values.popitem(last=False)
            self.size_bytes -= gone

    def count_failure(self, key: bytes) -> None:
        """Somebody failed there."""
        self._failures[key] = self._failures.get(key, 0) + 1
        self._failures.move_to_end(key)
        if len(self._failures) > COUNTS:
            self._failures.popitem(last=False)

    def failures(self, key: bytes) -> int:
        """How often that happened, as far as it is remembered."""
        return self._failures.get(key, 0)
