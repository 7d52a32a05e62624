"""A scripted service and a client of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reward_service import connections
from reward_service.client import RewardClient
from tests.scripted_service import Service, scripted_service


@pytest.fixture
def service() -> Iterator[Service]:
    with scripted_service() as service:
        yield service


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "FIRST_PAUSE_S", 0.01)


@pytest.fixture
def client(service: Service) -> Iterator[RewardClient]:
    with RewardClient(service.url, "s3cret", total_s=5) as client:
        yield client
