"""One started sandbox for all tests here: starting it takes most of a second."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from sandbox.namespaces.backend import NamespacesConfig, NamespacesSandbox

PACKAGES = Path(__file__).parents[2] / ".runtime" / "python"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sandbox() -> AsyncIterator[NamespacesSandbox]:
    backend = NamespacesSandbox(NamespacesConfig(slots=2, python=sys.executable, packages=str(PACKAGES)))
    await backend.start()
    yield backend
    await backend.close()
