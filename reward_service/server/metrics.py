"""What the service counts, for Prometheus. A registry of its own, so that two services in one process do not mix."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from reward_service.records import Grade, Outcome

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """Counters and histograms of one service."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("reward_requests", "Requests answered, by route and status.", ["route", "status"], registry=registry)
        self.request_seconds = Histogram(
            "reward_request_seconds",
            "Time from a request's first byte to its answer's last.",
            ["route"],
            registry=registry,
            buckets=SECONDS,
        )
        self.rollouts = Counter("reward_rollouts", "Rollouts graded, by task and outcome.", ["task", "outcome"], registry=registry)
        self.unscored = Counter("reward_unscored", "Rollouts without a reward, by reason.", ["reason"], registry=registry)
        self.violations = Counter(
            "reward_format_violations", "Rollouts that failed the gate, by violation.", ["violation"], registry=registry
        )
        self.stage_seconds = Histogram(
            "reward_stage_seconds",
            "Time of a grading request's stages: receive, read, grade, answer.",
            ["stage"],
            registry=registry,
            buckets=SECONDS,
        )
        self.shed = Counter("reward_shed", "Requests turned away before any work, by cause.", ["cause"], registry=registry)
        self.disconnects = Counter("reward_disconnects", "Clients that went away before their answer.", registry=registry)

    def watch(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """A gauge whose value is asked for when it is read."""
        Gauge(name, help_text, registry=self.registry).set_function(value)

    def watch_total(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """A counter that is kept elsewhere and asked for when it is read; `name` is without `_total`."""
        self.registry.register(_Total(name, help_text, value))

    def count_grade(self, task: str, grade: Grade) -> None:
        """Count one grade."""
        self.rollouts.labels(task, grade.outcome.value).inc()
        if grade.outcome is Outcome.UNSCORED:
            self.unscored.labels(str(grade.detail.get("reason"))).inc()
        elif grade.outcome is Outcome.FORMAT_VIOLATION:
            self.violations.labels(str(grade.detail.get("violation"))).inc()


class _Total(Collector):
    def __init__(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        self._name, self._help, self._value = name, help_text, value

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(self._name, self._help, value=self._value())
