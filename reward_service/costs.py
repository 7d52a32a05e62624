"""What kinds of work cost here, learned from what they took: estimates for admission and for whose turn it is."""

from __future__ import annotations

from collections.abc import Mapping

WEIGHT_OF_NEWS = 0.05
UNKNOWN_S = 0.01
CHARACTERS = 4096  # of text: one more unit of a worker's item


class Costs:
    """Seconds of slot time per unit of each kind of work, as moving averages; `priors` are believed until something is known."""

    def __init__(self, priors: Mapping[str, float]) -> None:
        self._seconds = dict(priors)

    def estimate_s(self, kind: str, units: float = 1.0) -> float:
        """What `units` of a kind will take."""
        return self._seconds.get(kind, UNKNOWN_S) * units

    def learn(self, kind: str, units: float, seconds: float) -> None:
        """Take in what `units` of a kind took."""
        if units > 0:
            known = self._seconds.get(kind, UNKNOWN_S)
            self._seconds[kind] = known + WEIGHT_OF_NEWS * (seconds / units - known)


def units_of(args: tuple[object, ...]) -> float:
    """The units of a worker's item: one, and more for long texts."""
    return 1.0 + sum(len(argument) for argument in args if isinstance(argument, str)) / CHARACTERS
