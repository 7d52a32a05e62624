"""OpenTelemetry traces (the extra `otel`): one span per request and one for each part of its way, under the caller's `traceparent`.

Imported only where the setting `traces_endpoint` asks for traces. A span holds counts and times, no text of a request and no key.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import reward_service
from reward_service.server.logs import NOTES
from reward_service.server.routes import GRADE
from reward_service.traces import Attribute, recording

SERVICE = "reward-service"
EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
TRACED = "/v1/"  # what clients ask for, not the probes
CARRIED = ("traceparent", "tracestate")
NOTED = ("key", "groups", "rollouts", "request_id")  # of the request's log line
MAX_SPANS = 1000  # of one request: a batch of thousands shows where its time goes by the first of them
FLUSH_S = 2.0  # at the end, for a collector that does not answer


def otlp_exporter(endpoint: str) -> SpanExporter:
    """What sends spans to a collector, OTLP over HTTP. Raises ImportError: the operator's fault: the extra `otel` is not installed."""
    exporter: SpanExporter = importlib.import_module(EXPORTER).OTLPSpanExporter(endpoint=endpoint)
    return exporter


class Tracing:
    """Makes spans and hands them to `exporter` from a thread of its own. The SDK's environment names (`OTEL_..`) choose what is sampled."""

    def __init__(self, exporter: SpanExporter) -> None:
        resource = Resource.create({"service.name": SERVICE, "service.version": reward_service.__version__})
        self._exporter = exporter
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)  # `close` does that, while there is an event loop
        self._provider.add_span_processor(BatchSpanProcessor(exporter))

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application with a span around each of its requests."""
        return Traced(app, self._provider.get_tracer(SERVICE, reward_service.__version__))

    def close(self) -> None:
        """Send what is left, for FLUSH_S seconds at most: the SDK's own bound of a flush is none."""
        flush = threading.Thread(target=self._provider.force_flush, daemon=True)
        flush.start()
        flush.join(FLUSH_S)
        self._exporter.shutdown()  # ends what still tries to send
        self._provider.shutdown()


class Traced:
    """ASGI: a span around each request of the API."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app, self._tracer = app, tracer
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or not scope["path"].startswith(TRACED):
            await self._app(scope, receive, send)
            return
        method = str(scope["method"])
        span = self._tracer.start_span(method, self._propagator.extract(_carried(scope)), SpanKind.SERVER)
        if not span.is_recording():
            span.end()
            await self._app(scope, receive, send)
            return

        async def send_noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                _note_answer(span, message)
            await send(message)

        spans = _Spans(self._tracer, span)
        try:
            with recording(spans):
                await self._app(scope, receive, send_noting)
        finally:
            _note_request(span, method, scope)
            if spans.left_out:
                span.set_attribute("reward.spans_left_out", spans.left_out)
            span.end()


class _Spans:
    """A `traces.Recorder`: children of a request's span."""

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self.left_out = 0
        self._tracer = tracer
        self._parent: Context = set_span_in_context(span)
        self._made = 0
        self._offset_ns = time.time_ns() - time.perf_counter_ns()

    def record(self, name: str, begun_s: float, ended_s: float, attributes: Mapping[str, Attribute]) -> None:
        """See `traces.Recorder`."""
        if self._made == MAX_SPANS:
            self.left_out += 1
            return
        self._made += 1
        found = {f"reward.{key}": value for key, value in attributes.items()}
        span = self._tracer.start_span(name, self._parent, SpanKind.INTERNAL, found, start_time=self._ns(begun_s))
        span.end(self._ns(ended_s))

    def _ns(self, seconds: float) -> int:
        return self._offset_ns + int(seconds * 1e9)


def _carried(scope: Scope) -> dict[str, str]:
    headers = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    return {name: value for name, value in headers if name in CARRIED}


def _note_answer(span: Span, message: Message) -> None:
    status = int(message["status"])
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(Status(StatusCode.ERROR))
    for name, value in message.get("headers", ()):
        if name == b"x-request-id":
            span.set_attribute("reward.request", value.decode("latin-1"))


def _note_request(span: Span, method: str, scope: Scope) -> None:
    """Name the span by its route, never by its path, which may hold anything."""
    notes = scope.get(NOTES, {})
    route = scope["path"] if (method, scope["path"]) == ("POST", GRADE) else getattr(scope.get("route"), "path", None)
    span.set_attribute("http.request.method", method)
    if route is not None:
        span.update_name(f"{method} {route}")
        span.set_attribute("http.route", str(route))
    for name in NOTED:
        if name in notes:
            span.set_attribute(f"reward.{name}", notes[name])
