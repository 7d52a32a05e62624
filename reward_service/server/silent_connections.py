"""Connections that have said nothing yet: held in a fifth of the memory that HTTP takes, and closed if they go on saying nothing.

A trainer's pool, a load balancer's probes or an attacker may hold them by the ten thousand.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import uvicorn
from uvicorn.server import ServerState

from reward_service.server.http_protocol import BoundedHttp

SILENT_S = 75.0


class SilentConnection(asyncio.Protocol):
    """One connection until its first byte, which makes it `BoundedHttp`. Made by uvicorn, which asks it to close at a shutdown."""

    __slots__ = ("_alarm", "_app_state", "_config", "_loop", "_server_state", "_transport")

    def __init__(
        self, config: uvicorn.Config, server_state: ServerState, app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self._config, self._server_state, self._app_state = config, server_state, app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._alarm: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A peer has connected."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._server_state.connections.add(self)  # type: ignore[arg-type] # it asks for `shutdown` alone
        self._alarm = self._loop.call_later(SILENT_S, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._end()

    def data_received(self, data: bytes) -> None:
        """Give the connection, with its first bytes, to HTTP."""
        transport = self._transport
        assert transport is not None
        self._end()
        speaking = BoundedHttp(self._config, self._server_state, self._app_state, self._loop)
        transport.set_protocol(speaking)
        speaking.connection_made(transport)
        speaking.data_received(data)

    def shutdown(self) -> None:
        """Close the connection: the server stops."""
        if self._transport is not None:
            self._transport.close()

    def _end(self) -> None:
        self._server_state.connections.discard(self)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
