"""What importing costs and does: the client alone and light, nothing decided at import, dependencies pinned without addresses."""

from __future__ import annotations

import ast
import importlib.metadata
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import reward_service
import sandbox

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-dev.lock", "sandbox/requirements-runtime.lock")
CLIENT = ("client", "client_answers", "client_bodies", "connections")


def run_alone(code: str, *options: str) -> str:
    """Run code in a fresh interpreter that finds this repository."""
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"
    done = subprocess.run([sys.executable, *options, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_client_needs_the_standard_library_alone() -> None:
    code = "import reward_service.client; print(*sorted(name for name in sys.modules if name.startswith(('reward_service', 'sandbox'))))"
    assert run_alone(code, "-I", "-S").split() == ["reward_service", *(f"reward_service.{name}" for name in CLIENT)]


@pytest.mark.parametrize("name", ["__init__", *CLIENT])
def test_trainers_with_python_3_9_can_parse_the_client(name: str) -> None:
    ast.parse((ROOT / "reward_service" / f"{name}.py").read_text(encoding="utf-8"), feature_version=(3, 9))


def test_importing_everything_starts_and_reads_nothing() -> None:
    names = sorted(
        module.name for package in (reward_service, sandbox) for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    )
    assert {"reward_service.pipeline", "reward_service.server.app", "sandbox.interface"} <= set(names)
    code = f"""
import importlib, os, sys, threading
opened = []
def audit(event, arguments):
    if event == "open" and str(arguments[0]).endswith((".ftz", ".env", ".toml")) or event in ("subprocess.Popen", "socket.bind", "os.fork"):
        opened.append((event, arguments))
importlib.import_module("fastapi"), importlib.import_module("typer"), importlib.import_module("sympy")
sys.addaudithook(audit)
for name in {names!r}:
    importlib.import_module(name)
assert not opened, opened
assert threading.active_count() == 1, threading.enumerate()
"""
    run_alone(code)


def test_the_version_is_the_one_installed() -> None:
    assert importlib.metadata.version("reward-service") == reward_service.__version__


@pytest.mark.parametrize("name", ["latex2sympy2", "fasttext", "fasttext-wheel"])
def test_what_breaks_the_environment_is_not_installed(name: str) -> None:
    with pytest.raises(importlib.metadata.PackageNotFoundError):  # docs/decisions/0001
        importlib.metadata.distribution(name)


@pytest.mark.parametrize("name", LOCKS)
def test_locks_have_hashes_and_no_addresses(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"https?://|--index-url|--extra-index-url|--find-links|--trusted-host|file://|@ ", text)
    entries = [entry for entry in re.split(r"\n(?=[A-Za-z0-9])", text) if not entry.startswith("#")]
    assert entries
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[^ ]+ ", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_locks_agree_with_one_another() -> None:
    run, dev = ({line.split(" ")[0] for line in (ROOT / name).read_text().splitlines() if "==" in line} for name in LOCKS[:2])
    assert run <= dev
