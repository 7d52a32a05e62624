"""Our counters beside those of prometheus_client: the same text for the same values."""

from __future__ import annotations

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service.server.tallies import Counter, Histogram

VALUES = st.lists(st.tuples(st.sampled_from("ab"), st.floats(allow_nan=False) | st.sampled_from((-0.1, 0.0, 0.5, 1.0))))
AMOUNTS = st.lists(st.tuples(st.sampled_from('a"\n'), st.floats(0, 1e9)))


def exposed(registry: prometheus_client.CollectorRegistry) -> list[str]:
    """Without when something was created, which we do not say."""
    lines = prometheus_client.generate_latest(registry).decode().splitlines()
    return [line for line in lines if "_created" not in line]


@pytest.mark.parametrize("bounds", [(0.0, 0.5, 1.0), (-0.1, 0.0, 0.5)])
@given(values=VALUES)
def test_histograms(bounds: tuple[float, ...], values: list[tuple[str, float]]) -> None:
    ours, theirs = prometheus_client.CollectorRegistry(), prometheus_client.CollectorRegistry()
    one, alone = Histogram("x", "h", ["l"], buckets=bounds, registry=ours), Histogram("y", "h", buckets=bounds, registry=ours)
    other = prometheus_client.Histogram("x", "h", ["l"], buckets=bounds, registry=theirs)
    other_alone = prometheus_client.Histogram("y", "h", buckets=bounds, registry=theirs)
    for label, value in values:
        one.labels(label).observe(value)
        alone.observe(value)
        other.labels(label).observe(value)
        other_alone.observe(value)
    assert exposed(ours) == exposed(theirs)


@given(amounts=AMOUNTS)
def test_counters(amounts: list[tuple[str, float]]) -> None:
    ours, theirs = prometheus_client.CollectorRegistry(), prometheus_client.CollectorRegistry()
    one, alone = Counter("x", "h", ["l"], registry=ours), Counter("y", "h", registry=ours)
    other = prometheus_client.Counter("x", "h", ["l"], registry=theirs)
    other_alone = prometheus_client.Counter("y", "h", registry=theirs)
    for label, amount in amounts:
        one.labels(label).inc(amount)
        alone.inc(amount)
        other.labels(label).inc(amount)
        other_alone.inc(amount)
    assert exposed(ours) == exposed(theirs)


def test_labels_of_another_number_are_refused() -> None:
    registry = prometheus_client.CollectorRegistry()
    with pytest.raises(ValueError, match="1 labels have 2 values"):
        Counter("x", "h", ["l"], registry=registry).labels("a", "b")
    with pytest.raises(ValueError, match="2 labels have 1 values"):
        Histogram("y", "h", ["l", "m"], buckets=(1.0,), registry=registry).labels("a")
