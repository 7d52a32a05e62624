"""A started sandbox, and what is planted on this machine for the attacks to find."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from sandbox.interface import Job, TestInput
from sandbox.namespaces.backend import NamespacesSandbox
from sandbox.pool import Pool
from tests.attacks.attack import SECRET
from tests.sandbox.runners import backend_named


@pytest.fixture(scope="session")
def planted() -> Iterator[dict[str, str]]:
    """Names of a file, a socket file, an abstract socket and a port of this machine; all of them give the secret away."""
    folder = tempfile.mkdtemp(dir="/var/tmp")  # not below /tmp, which the controls cover
    os.chmod(folder, 0o755)
    secret = Path(folder, "secret.h")
    secret.write_bytes(SECRET + b"\n")
    os.environ["SERVICE_SECRET"] = SECRET.decode()
    os.mkdir(f"{folder}/shared", 0o755)
    abstract, path = f"planted-{os.getpid()}", f"{folder}/shared/socket"
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        stack.callback(os.environ.pop, "SERVICE_SECRET")
        listeners = [socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX), socket.socket(socket.AF_INET)]
        for listener, address in zip(listeners, (f"\0{abstract}", path, ("127.0.0.1", 0)), strict=True):
            stack.enter_context(listener)
            listener.bind(address)
            listener.listen()
            threading.Thread(target=_give_away, args=(listener,), daemon=True).start()
        yield {
            "secret": str(secret),
            "socket": path,
            "shared": f"{folder}/shared",
            "abstract": abstract,
            "port": str(listeners[2].getsockname()[1]),
        }


def _give_away(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(SECRET)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sandbox(planted: dict[str, str], request: pytest.FixtureRequest) -> AsyncIterator[NamespacesSandbox | Pool]:
    with backend_named(request.config.getoption("--backend")) as backend:
        async for started in _started(backend):
            yield started


async def _started(backend: NamespacesSandbox | Pool) -> AsyncIterator[NamespacesSandbox | Pool]:
    await backend.start()
    async with contextlib.aclosing(backend.run(Job("python", "import numpy", (TestInput(b""),)))) as results:
        assert [result.index async for result in results] == [0]  # what numpy needs starts when it is first asked for: have it now
    yield backend
    await backend.close()
