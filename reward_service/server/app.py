"""`create_app`: lifespan, routes, error handlers; no logic. `serve`: the process around it, and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import sys
from collections.abc import AsyncIterator
from types import FrameType
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

import reward_service
from reward_service.errors import RewardServiceError
from reward_service.server.garbage import collect_when_quiet, settle
from reward_service.server.logs import configure_logs
from reward_service.server.middleware import Front, add_error_handlers
from reward_service.server.openapi import describe
from reward_service.server.routes import GRADE, grading_endpoint, router
from reward_service.server.service import Service
from reward_service.server.silent_connections import SilentConnection
from reward_service.server.uploads import router as uploads
from reward_service.settings import Settings
from reward_service.wiring import Machine, build_machine

if TYPE_CHECKING:
    from reward_service.server.tracing import Tracing

KEEP_ALIVE_S = 75  # trainers pause between steps; a new connection for each would cost them more than it costs us to wait
BACKLOG = 4096  # a step's thousands of connections arrive at once
CANNOT_START = 3  # exit code, as that of uvicorn where the application does not start
POLL_S = 0.05
GRACE_S = 5  # after the drain, for the last bytes of answers


def create_app(settings: Settings, machine: Machine | None = None) -> FastAPI:
    """The application. `machine` is given by tests; its life is the application's."""
    service = Service(settings, machine or build_machine(settings))
    tracing = None if settings.traces_endpoint is None else _tracing(settings.traces_endpoint)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            await service.start()
            _report(service)
            yield
        except RewardServiceError as error:
            structlog.get_logger().error("cannot start", reason=str(error))
            raise
        finally:
            await service.close()
            if tracing is not None:
                await asyncio.to_thread(tracing.close)

    app = _Application(
        service,
        title="reward-service",
        version=reward_service.__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    app.include_router(router)
    app.include_router(uploads)
    add_error_handlers(app, service.metrics)
    app.openapi = describe(app)  # type: ignore[method-assign]
    if tracing is not None:
        app.front = tracing.around(app.front)
    return app


def _tracing(endpoint: str) -> Tracing:
    """What sends traces there.

    Raises:
        TracesUnusable: the operator's fault.
    """
    try:
        from reward_service.server.tracing import Tracing, otlp_exporter

        return Tracing(otlp_exporter(endpoint))
    except ImportError as error:
        raise TracesUnusable(f"the setting `traces_endpoint` needs {error.name}: pip install 'reward-service[otel]'") from None


class TracesUnusable(RewardServiceError):
    """The operator's fault: traces are asked for and what makes them is not installed."""


class _Application(FastAPI):
    """The framework's application behind what sees every request first: of single rollouts, the framework would take half the time."""

    def __init__(self, service: Service, **options: Any) -> None:
        super().__init__(**options)
        self.front: ASGIApp = Front(super().__call__, GRADE, grading_endpoint(service), service.metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        await self.front(scope, receive, send)


def serve(settings: Settings) -> None:
    """Run the service until a signal stops it: SIGTERM or SIGINT drains it, a second one ends it at once.

    Raises:
        SystemExit: the machine's or the operator's fault: it could not start (status 3), as standard error says.
    """
    configure_logs(settings.log_level)
    listening = _bound(settings.host, settings.port)  # first: workers and sandbox take seconds to start
    try:
        app = create_app(settings)
    except RewardServiceError as error:
        sys.stderr.write(f"cannot start: {error}\n")
        raise SystemExit(CANNOT_START) from None
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=SilentConnection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    with listening:
        _DrainingServer(config, app.state.service).run([listening])


def _bound(host: str, port: int) -> socket.socket:
    """A socket of that address; nobody can connect until the server listens, which is when it is ready.

    Raises:
        SystemExit: the operator's or the machine's fault (status 3); standard error says in one line what to do.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        advice = "stop what listens there, or take another port: --port 8001 (0 takes a free one), or REWARD_PORT"
        if error.errno != errno.EADDRINUSE:
            advice = "set host and port to an address of this machine that this user may listen on (--host, --port)"
        sys.stderr.write(f"cannot listen on {host} port {port}: {error.strerror}; {advice}\n")
        raise SystemExit(CANNOT_START) from None
    listening.set_inheritable(False)
    return listening


class _DrainingServer(uvicorn.Server):
    """Answers 503 to what is new and finishes what was accepted before it stops."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._signals = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Count the signal: the first one drains, the second cuts off, the third leaves everything."""
        self._signals += 1
        self.force_exit = self._signals > 2

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say where: uvicorn does not where it is given a socket."""
        await super().startup(sockets)
        host, port = sockets[0].getsockname()[:2] if sockets else (self.config.host, self.config.port)
        structlog.get_logger().info(f"Uvicorn running on http://{f'[{host}]' if ':' in host else host}:{port} (Press CTRL+C to quit)")

    async def main_loop(self) -> None:
        """Serve until told to stop."""
        settle()
        tasks = [asyncio.create_task(self._stop_when_told()), asyncio.create_task(self._collect_garbage())]
        try:
            await super().main_loop()
        finally:
            for task in tasks:
                task.cancel()

    async def _collect_garbage(self) -> None:
        admission = self._service.admission
        await collect_when_quiet(lambda: max(admission.requests, admission.rollouts))

    async def _stop_when_told(self) -> None:
        while not self._signals:
            await asyncio.sleep(POLL_S)
        structlog.get_logger().info("draining", in_flight=self._service.admission.requests, seconds=self._service.settings.drain_s)
        drain = asyncio.create_task(self._service.drain())
        while self._signals == 1 and not drain.done():
            await asyncio.sleep(POLL_S)
        if not drain.done():
            drain.cancel()
            self._service.cut_off()
        self.should_exit = True


def _report(service: Service) -> None:
    """Say at start-up what an operator must know."""
    log = structlog.get_logger()
    if service.keys.open:
        log.warning("no key is set: the service answers on loopback only, and everybody on this machine", host=service.settings.host)
    readiness = service.readiness()
    if readiness["ready"]:
        log.info("ready", tasks=readiness["tasks"], languages=readiness["languages"])
    else:
        log.error("not everything works here", reasons=readiness["reasons"], tasks=readiness["tasks"])
