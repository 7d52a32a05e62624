"""Which bounds answers and texts ran into: who watches a model sees by these that it writes otherwise than before."""

from __future__ import annotations

from collections.abc import Iterator

from reward_service.errors import JobKilled
from reward_service.scoring.equivalence.choices import ChoiceFinding
from reward_service.scoring.equivalence.compare import Comparison

RULE = "limit:"  # begins the rule of a finding that a bound decided


def limits_hit(found: object) -> Iterator[str]:
    """The bounds named in what a worker found, or ended of: `cpu_limit`, `memory_limit`, ..., or one of `equivalence/limits.py`."""
    if isinstance(found, JobKilled):
        yield found.cause
    for finding in found if isinstance(found, list) else (found,):
        if isinstance(finding, Comparison | ChoiceFinding) and finding.rule.startswith(RULE):
            yield finding.rule.removeprefix(RULE)
