"""What a slow machine does to a CPU limit."""

from __future__ import annotations

import pytest

from sandbox.namespaces import accounting


@pytest.mark.parametrize(
    ("best_s", "spins_s", "slowdown"),
    [
        (1e-3, [], 1.0),
        (1e-3, [1e-3], 1.0),
        (1e-3, [1.05e-3], 1.0),  # within the noise
        (1e-3, [1.5e-3], 1.5),
        (1e-3, [1.5e-3, 1e-3, 2e-3], 1.5),
        (1e-3, [5e-3], 2.0),  # no more than twice
        (1e-3, [0.5e-3], 1.0),  # never stricter than the limit says
    ],
)
def test_slowdown(monkeypatch: pytest.MonkeyPatch, best_s: float, spins_s: list[float], slowdown: float) -> None:
    rest = iter(spins_s)
    monkeypatch.setattr(accounting, "_spin_s", lambda: next(rest))
    speed = accounting.Speed(best_s).begin()
    for _ in spins_s:
        speed.look()
    assert speed.slowdown == pytest.approx(slowdown)
