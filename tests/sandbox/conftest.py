"""Started sandboxes for all tests here: starting one takes most of a second."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from sandbox.namespaces.backend import NamespacesConfig, NamespacesSandbox

PACKAGES = Path(__file__).parents[2] / ".runtime" / "python"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sandbox() -> AsyncIterator[NamespacesSandbox]:
    async for backend in _started(NamespacesConfig(slots=2, python=sys.executable, packages=str(PACKAGES))):
        yield backend


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def interpreted() -> AsyncIterator[NamespacesSandbox]:
    """What a machine without a compiler has: supervisors without their compiled loop."""
    async for backend in _started(NamespacesConfig(slots=1, python=sys.executable, packages=str(PACKAGES), compiled_loop=False)):
        yield backend


async def _started(config: NamespacesConfig) -> AsyncIterator[NamespacesSandbox]:
    backend = NamespacesSandbox(config)
    await backend.start()
    yield backend
    await backend.close()
