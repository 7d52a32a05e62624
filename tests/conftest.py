"""What all tests share: hypothesis profiles, and skips that say what is missing on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("default", deadline=None)  # two busy cores: wall clock per example says nothing
settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci" if os.environ.get("CI") else "default")


def user_namespaces() -> bool:
    """Whether this machine lets us make user namespaces."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--net", "--fork", "true"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = {}
    if shutil.which("g++") is None:
        missing["compiler"] = pytest.mark.skip(reason="needs g++ (Debian, Ubuntu: apt-get install g++)")
    if any(item.get_closest_marker("isolation") for item in items) and not user_namespaces():
        missing["isolation"] = pytest.mark.skip(reason="needs user namespaces, which this machine forbids")
    for item in items:
        for name, skip in missing.items():
            if item.get_closest_marker(name):
                item.add_marker(skip)
