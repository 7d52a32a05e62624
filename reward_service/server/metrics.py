"""What the service counts, for Prometheus. A registry of its own, so that two services in one process do not mix."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from reward_service.records import Grade, GroupSummary, Outcome, TestStatus
from reward_service.server.tallies import Counter, Histogram
from reward_service.traces import note

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
REWARDS = (-0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1)
RATIOS = (1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
SHARES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
TERMS = ("format", "correctness", "length", "language")
BATCH = 20  # rollouts, from which on a request's tail says anything

Values = Mapping[str, float]


class Metrics:
    """Counters and histograms of one service."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter("reward_requests", "Requests answered, by route and status.", ["route", "status"], registry=registry)
        self.request_seconds = self._seconds("reward_request_seconds", "Time from a request's first byte to its answer's last.", "route")
        self.stage_seconds = self._seconds(
            "reward_stage_seconds", "Time of a grading request's stages: receive, read, grade, answer.", "stage"
        )
        self.wait_seconds = self._seconds("reward_queue_wait_seconds", "How long an item waited for a slot of workers or sandbox.", "queue")
        self.shed = Counter("reward_shed", "Requests turned away before any work, by cause and key.", ["cause", "key"], registry=registry)
        self.disconnects = Counter("reward_disconnects", "Clients that went away before their answer.", registry=registry)
        self._add_grades(registry)
        self._add_batches(registry)

    def _add_grades(self, registry: CollectorRegistry) -> None:
        """What completions turned out to be: these say when the model changes."""
        self._rollouts = Counter(
            "reward_rollouts", "Rollouts graded, by task, outcome and key.", ["task", "outcome", "key"], registry=registry
        )
        self._unscored = Counter("reward_unscored", "Rollouts without a reward, by reason.", ["reason"], registry=registry)
        self._violations = Counter(
            "reward_format_violations", "Rollouts that failed the gate, by violation.", ["violation"], registry=registry
        )
        self._failures = Counter(
            "reward_program_failures",
            "Programs that failed, by the first failing test's status.",
            ["status", "language"],
            registry=registry,
        )
        self._reward = Histogram("reward_value", "Rewards, by task.", ["task"], buckets=REWARDS, registry=registry)
        self._terms = Histogram("reward_term_value", "Weighted terms of the reward.", ["term"], buckets=REWARDS, registry=registry)
        self._groups = Counter("reward_groups", "Groups, by whether their rewards tell rollouts apart.", ["advantage"], registry=registry)

    def _add_batches(self, registry: CollectorRegistry) -> None:
        """Whether the grader is what the trainer waits for."""
        self._tail = Histogram(
            "reward_batch_tail_ratio", "p99 / p50 of the times after which a batch's grades were known.", buckets=RATIOS, registry=registry
        )
        self._waiting = Histogram(
            "reward_batch_waiting_share",
            "Share of a request's time in which a part of it waited for a slot.",
            buckets=SHARES,
            registry=registry,
        )

    def _seconds(self, name: str, help_text: str, label: str) -> Histogram:
        return Histogram(name, help_text, [label], buckets=SECONDS, registry=self.registry)

    def count_answer(self, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered, in whatever way."""
        self.requests.labels(route, str(status)).inc()
        self.request_seconds.labels(route).observe(seconds)

    def stage(self, stage: str, since_s: float) -> float:
        """Count a stage that began at a time of `time.perf_counter`; the time now, when the next one may begin."""
        now_s = time.perf_counter()
        self.stage_seconds.labels(stage).observe(now_s - since_s)
        note(stage, since_s)
        return now_s

    def watch(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """A gauge whose value is asked for when it is read."""
        Gauge(name, help_text, registry=self.registry).set_function(value)

    def watch_by(self, name: str, help_text: str, label: str, values: Callable[[], Values]) -> None:
        """A gauge with one label, whose values are asked for when it is read."""
        self.registry.register(_ByLabel(name, help_text, label, values))

    def watch_total(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """A counter that is kept elsewhere and asked for when it is read; `name` is without `_total`."""
        self.registry.register(_Total(name, help_text, value))

    def watch_totals(self, name: str, help_text: str, label: str, values: Callable[[], Values]) -> None:
        """The same with one label."""
        self.registry.register(_ByLabel(name, help_text, label, values, CounterMetricFamily))

    def count_grade(self, key: str, task: str, grade: Grade) -> None:
        """Count one grade."""
        self._rollouts.labels(task, grade.outcome.value, key).inc()
        if grade.outcome is Outcome.UNSCORED:
            self._unscored.labels(str(grade.detail.get("reason"))).inc()
            return
        if grade.reward is not None:
            self._reward.labels(task).observe(grade.reward)
        for term in TERMS if grade.terms is not None else ():
            self._terms.labels(term).observe(getattr(grade.terms, term))
        if grade.outcome is Outcome.FORMAT_VIOLATION:
            self._violations.labels(str(grade.detail.get("violation"))).inc()
        elif grade.outcome is Outcome.INCORRECT:
            self._count_failure(grade)

    def _count_failure(self, grade: Grade) -> None:
        failure = grade.detail.get("first_failure")
        if isinstance(failure, Mapping):
            known = failure.get("status") != TestStatus.LANGUAGE_NOT_ALLOWED.value  # else whatever stands at the fence
            self._failures.labels(str(failure.get("status")), str(grade.detail.get("language")) if known else "other").inc()

    def count_request(self, summaries: Sequence[GroupSummary], latencies_s: Sequence[float], waiting_s: float, took_s: float) -> None:
        """Count a request that is graded whole: its groups, its tail, and how long a part of it waited for a slot."""
        for summary in summaries:
            self._groups.labels({None: "undefined", True: "zero", False: "some"}[summary.zero_advantage]).inc()
        if took_s > 0:
            self._waiting.observe(min(1.0, waiting_s / took_s))
        if len(latencies_s) >= BATCH:
            ranked = sorted(latencies_s)
            self._tail.observe(ranked[math.ceil(0.99 * len(ranked)) - 1] / max(1e-6, ranked[math.ceil(0.5 * len(ranked)) - 1]))


class _Total(Collector):
    def __init__(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        self._name, self._help, self._value = name, help_text, value

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(self._name, self._help, value=self._value())


class _ByLabel(Collector):
    def __init__(
        self,
        name: str,
        help_text: str,
        label: str,
        values: Callable[[], Values],
        family: type[GaugeMetricFamily] | type[CounterMetricFamily] = GaugeMetricFamily,
    ) -> None:
        self._name, self._help, self._label, self._values, self._family = name, help_text, label, values, family

    def collect(self) -> Iterator[Metric]:
        found = self._family(self._name, self._help, labels=[self._label])
        for label, value in self._values().items():
            found.add_metric([label], value)
        yield found
