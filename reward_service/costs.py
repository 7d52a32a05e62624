"""What kinds of work cost here, learned from what they took: estimates for admission and for whose turn it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

WEIGHT_OF_NEWS = 0.05
UNKNOWN_S = 0.01
PRIOR_UNITS = 4.0  # as much as so many units that were done: little, since a prior may be wrong by a factor of a hundred
CHARACTERS = 4096  # of text: one more unit of a worker's item
ANSWER = "answer"  # the kind of all work on math and choice together, in answers that are judged
# Each answer is judged lightly first; what else is done, a reference read or SymPy asked, is charged to those that were.
PARTS_OF_ANSWER: Mapping[str, bool] = {
    "compare_lightly": True,
    "judge_choice_lightly": True,
    "prepare_lightly": False,
    "prepare_gold": False,
    "compare_answers": False,
    "prepare_choice_lightly": False,
    "prepare_choice": False,
    "judge_choice": False,
}


class _Known:
    """Of one kind: the seconds and units of what was done, the latest counting most, and what runs now."""

    __slots__ = ("running", "running_since_s", "running_units", "seconds", "units")

    def __init__(self, prior_s: float) -> None:
        self.seconds, self.units = prior_s * PRIOR_UNITS, PRIOR_UNITS
        self.running, self.running_since_s, self.running_units = 0, 0.0, 0.0  # the sum of their starts tells the sum of their ages


class Costs:
    """Seconds of slot time per unit of each kind of work, as moving averages; `priors` are believed until something is known.

    What runs says something before it is done: that it takes at least as long as it has taken. Without that a queue for work a hundred
    times as dear as believed would be filled before the first of it ends.
    """

    def __init__(self, priors: Mapping[str, float], clock: Callable[[], float] = time.perf_counter) -> None:
        self._kinds = {kind: _Known(seconds) for kind, seconds in priors.items()}
        self._clock = clock

    def estimate_s(self, kind: str, units: float = 1.0) -> float:
        """What `units` of a kind will take."""
        known = self._kinds.get(kind)
        if known is None:
            return UNKNOWN_S * units
        done_s = known.seconds / known.units
        if not known.running:
            return done_s * units
        ages_s = known.running * self._clock() - known.running_since_s
        return max(done_s, (known.seconds + ages_s) / (known.units + known.running_units)) * units

    def begin(self, kind: str, units: float) -> float:
        """Note that `units` of a kind have got their slot; when, for `end`."""
        now_s = self._clock()
        for known, counted in self._parts(kind, units):
            known.running += 1
            known.running_units += counted
            known.running_since_s += now_s
        return now_s

    def end(self, kind: str, units: float, begun_s: float, least_s: float = 0.0) -> None:
        """Note their end, and learn what they took if that is more than `least_s`."""
        took_s = self._clock() - begun_s
        for known, counted in self._parts(kind, units):
            known.running -= 1
            known.running_units -= counted
            known.running_since_s -= begun_s
            if not known.running:
                known.running_units = known.running_since_s = 0.0  # no rounding errors are left
        if took_s >= least_s:
            self.learn(kind, units, took_s)

    def learn(self, kind: str, units: float, seconds: float) -> None:
        """Take in what `units` of a kind took."""
        for known, counted in self._parts(kind, units):
            if counted > 0:
                known.seconds -= WEIGHT_OF_NEWS * known.seconds
                known.units += counted - WEIGHT_OF_NEWS * known.units
            known.seconds += seconds

    def _parts(self, kind: str, units: float) -> tuple[tuple[_Known, float], ...]:
        """Where work of a kind counts, and as how many units."""
        own = self._known(kind), units
        judged = PARTS_OF_ANSWER.get(kind)
        return (own,) if judged is None else (own, (self._known(ANSWER), units if judged else 0.0))

    def _known(self, kind: str) -> _Known:
        known = self._kinds.get(kind)
        if known is None:
            known = self._kinds[kind] = _Known(UNKNOWN_S)
        return known


def units_of(args: tuple[object, ...]) -> float:
    """The units of a worker's item: one for each text of its longest list, and more for long texts."""
    count, characters = 1, 0
    for argument in args:
        if isinstance(argument, str):
            characters += len(argument)
        elif isinstance(argument, list):
            count = max(count, len(argument))
            characters += sum(len(text) for text in argument if isinstance(text, str))
    return count + characters / CHARACTERS
