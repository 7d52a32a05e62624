"""A service without processes of its own: inline workers, a scripted sandbox, and an HTTP client in the same event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from reward_service.server.app import create_app
from reward_service.server.service import Service
from reward_service.settings import Settings
from reward_service.wiring import Machine
from sandbox.fake import FakeSandbox
from tests.server.doubles import InlinePool

Serving = Callable[..., contextlib.AbstractAsyncContextManager[tuple[httpx.AsyncClient, Service]]]


@pytest.fixture
def serving() -> Serving:
    """`async with serving(sandbox=..., **settings) as (client, service)`: a started service and a client of it."""

    @contextlib.asynccontextmanager
    async def start(sandbox: FakeSandbox | None = None, **settings: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Service]]:
        configured = Settings(workers=2, **settings)
        app = create_app(configured, Machine(configured, InlinePool(), sandbox or FakeSandbox()))
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                yield client, app.state.service
        assert not [task for task in asyncio.all_tasks() if "Run._grade" in repr(task)], "grading outlived its request"

    return start
