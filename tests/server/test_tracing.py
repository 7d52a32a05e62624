"""Traces: one span a request, under the caller's, and one for each part of its way; nothing of what it says."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from reward_service.server import tracing
from reward_service.server.app import TracesUnusable, create_app
from reward_service.settings import Settings
from tests.server.conftest import Serving
from tests.server.doubles import graded, program_body, program_group

TRACE, PARENT = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331
SAMPLED, UNSAMPLED = ({"traceparent": f"00-{TRACE:032x}-{PARENT:016x}-{flag}"} for flag in ("01", "00"))
MATH = {"group_id": "m", "task": "math", "reference": {"answer": "7"}, "rollouts": [{"rollout_id": "0", "completion": "\\boxed{s3cret}"}]}


class Traces:
    """A collector in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.exporter = InMemorySpanExporter()
        monkeypatch.setattr(tracing, "otlp_exporter", lambda endpoint: self.exporter)

    @property
    def requests(self) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.kind is SpanKind.SERVER]

    def below(self, parent: ReadableSpan) -> list[ReadableSpan]:
        spans = self.exporter.get_finished_spans()
        return [span for span in spans if span.parent is not None and span.parent.span_id == parent.context.span_id]


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> Traces:
    return Traces(monkeypatch)


async def test_a_request_is_a_span_of_its_callers_trace(serving: Serving, traces: Traces) -> None:
    async with serving(traces_endpoint="http://collector:4318/v1/traces") as (client, _):
        body = program_body(program_group(count=3), MATH, request_id="step1")
        answer = await client.post("/v1/grade", json=body, headers={**SAMPLED, "x-request-id": "call-7"})
        assert answer.status_code == 200
    (request,) = traces.requests
    assert (request.name, request.context.trace_id, request.parent and request.parent.span_id) == ("POST /v1/grade", TRACE, PARENT)
    found = dict(request.attributes or {})
    assert (found["http.response.status_code"], found["http.route"], found["reward.request"]) == (200, "/v1/grade", "call-7")
    assert (found["reward.key"], found["reward.groups"], found["reward.rollouts"]) == ("anyone", 2, 4)
    parts: dict[str, list[ReadableSpan]] = {}
    for span in traces.below(request):
        parts.setdefault(span.name, []).append(span)
    assert set(parts) == {"receive", "read", "grade", "answer", "queue", "worker", "sandbox"}
    assert [len(parts[name]) for name in ("receive", "read", "grade", "answer", "sandbox")] == [1, 1, 1, 1, 3]
    assert {dict(span.attributes or {})["reward.queue"] for span in parts["queue"]} == {"workers", "sandbox"}
    assert {dict(span.attributes or {})["reward.work"] for span in parts["worker"]} >= {"compare_lightly"}
    grade = parts["grade"][0]
    for span in (span for spans in parts.values() for span in spans):
        assert request.start_time <= span.start_time <= span.end_time <= request.end_time
    for span in (*parts["queue"], *parts["worker"], *parts["sandbox"]):
        assert grade.start_time <= span.start_time <= span.end_time <= grade.end_time
    assert "s3cret" not in repr([span.to_json() for span in traces.exporter.get_finished_spans()])


async def test_two_requests_at_a_time_keep_apart(serving: Serving, traces: Traces) -> None:
    async with serving(traces_endpoint="http://collector") as (client, _):
        for count in (1, 2):
            await graded(
                client, program_body(program_group(reference={"tests": [{"stdin": f"{count}", "stdout": f"{count}"}]}, count=count))
            )
    one, other = sorted(traces.requests, key=lambda span: dict(span.attributes or {})["reward.rollouts"])
    assert one.context.trace_id != other.context.trace_id
    assert [sum(span.name == "sandbox" for span in traces.below(request)) for request in (one, other)] == [1, 2]


async def test_what_is_no_route_and_what_is_refused(serving: Serving, traces: Traces) -> None:
    async with serving(traces_endpoint="http://collector", max_requests=1) as (client, service):
        await client.get("/v1/s3cret?token=s3cret")
        await client.get("/healthz")
        service.admission.drain()
        await client.post("/v1/grade", json={})
    lost, refused = traces.requests
    assert (lost.name, dict(lost.attributes or {})["http.response.status_code"]) == ("GET", 404)
    assert (refused.name, refused.status.status_code) == ("POST /v1/grade", StatusCode.ERROR)
    assert "s3cret" not in lost.to_json()


async def test_what_the_caller_does_not_sample_is_not_traced(serving: Serving, traces: Traces) -> None:
    async with serving(traces_endpoint="http://collector") as (client, _):
        await graded(client, program_body(program_group()), headers=UNSAMPLED)
        await graded(client, program_body(program_group()), headers={"traceparent": "00-damaged"})
    (request,) = traces.requests
    assert (request.parent, request.context.trace_id == TRACE) == (None, False)


async def test_a_batch_of_thousands_has_a_bounded_number_of_spans(
    serving: Serving, traces: Traces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "MAX_SPANS", 10)
    async with serving(traces_endpoint="http://collector") as (client, _):
        await graded(client, program_body(program_group(count=20)))
    (request,) = traces.requests
    left_out = dict(request.attributes or {})["reward.spans_left_out"]
    assert (len(traces.below(request)), left_out) == (10, 2 * 20 + 4 - 10)


async def test_a_collector_that_does_not_answer_holds_no_stop(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dead(InMemorySpanExporter):
        told_to_stop = threading.Event()

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            self.told_to_stop.wait(60)
            return SpanExportResult.FAILURE

        def shutdown(self) -> None:
            self.told_to_stop.set()

    monkeypatch.setattr(tracing, "otlp_exporter", lambda endpoint: Dead())
    monkeypatch.setattr(tracing, "FLUSH_S", 0.1)
    async with asyncio.timeout(30):
        async with serving(traces_endpoint="http://collector") as (client, _):
            await graded(client, program_body(program_group()))


def test_traces_that_cannot_be_sent_are_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "EXPORTER", "no_such_package.exporter")
    with pytest.raises(TracesUnusable, match=r"no_such_package.*reward-service\[otel\]"):
        create_app(Settings(traces_endpoint="http://collector"))


def _loaded(code: str) -> Any:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_without_the_setting_nothing_of_it_is_loaded() -> None:
    code = "import sys, reward_service.server.app; print(sorted(name for name in sys.modules if name.startswith('opentelemetry.sdk')))"
    assert _loaded(code) == "[]"


@pytest.mark.parametrize(("name", "value"), [("KEYS_FILE", "/no/such/file"), ("KEYS_FILE", __file__)])
def test_a_service_that_cannot_start_says_so_in_one_line(name: str, value: str) -> None:
    code = "from reward_service.server.app import serve; from reward_service.settings import Settings; serve(Settings(port=0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={f"REWARD_{name}": value, "PATH": ""})
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)
    assert done.stderr.startswith(f"cannot start: {Path(value)}")
