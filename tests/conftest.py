"""What all tests share: hypothesis profiles, and skips that say what is missing on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[1]

settings.register_profile("default", deadline=None)  # two busy cores: wall clock per example says nothing
settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        default="namespaces",
        help="sandbox that attacks are run against: namespaces, docker, docker-cgroup, remote, composed, or unix:/path",
    )


def user_namespaces() -> bool:
    """Whether this machine lets us make user namespaces."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--net", "--fork", "true"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


def containers_missing() -> str | None:
    """Why nothing that needs containers can run here, or None: no engine, no image, or one that was built from other code."""
    if shutil.which("docker") is None or subprocess.run(["docker", "version"], capture_output=True).returncode != 0:
        return "needs a running container engine"
    listing = "find sandbox -name '*.py' -o -name '*.c' | LC_ALL=C sort | xargs sha256sum"
    inside = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "sh", "reward-sandbox", "-c", listing]
    theirs, ours = (subprocess.run(command, capture_output=True, cwd=ROOT).stdout for command in (inside, ["sh", "-c", listing]))
    return None if theirs == ours else "needs the image reward-sandbox, built from this code (make images)"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--backend") != "namespaces":  # what does not depend on it has been tried with the embedded one
        kept = [item for item in items if "sandbox" in getattr(item, "fixturenames", ()) and not item.get_closest_marker("embedded")]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
    missing = {}
    if shutil.which("g++") is None:
        missing["compiler"] = pytest.mark.skip(reason="needs g++ (Debian, Ubuntu: apt-get install g++)")
    if any(item.get_closest_marker("isolation") for item in items) and not user_namespaces():
        missing["isolation"] = pytest.mark.skip(reason="needs user namespaces, which this machine forbids")
    if any(item.get_closest_marker("containers") for item in items) and (why := containers_missing()) is not None:
        missing["containers"] = pytest.mark.skip(reason=why)
    for item in items:
        for name, skip in missing.items():
            if item.get_closest_marker(name):
                item.add_marker(skip)
