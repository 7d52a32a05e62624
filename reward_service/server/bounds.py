"""The server's maxima for one request: plain numbers, so that the process that reads big bodies can be told them."""

from __future__ import annotations

from dataclasses import dataclass

INLINE_BYTES = 65_536  # bodies up to this size are read by the event loop itself (under 2 ms); bigger ones by another process


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one request may ask for; above these it is refused (`settings.Settings` says more of each)."""

    max_body_bytes: int
    max_values: int
    max_rollouts: int
    max_tests: int
    max_completion_characters: int
    max_cpu_s: float
    max_memory_bytes: int
    max_compile_s: float
    max_deadline_s: float
    default_deadline_s: float
