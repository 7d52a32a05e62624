"""Whatever the published description allows, and much that it does not: no answer is a fault of the service's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from tests.faults.served import Server, served

OPERATIONS = ("POST /v1/grade", "PUT /v1/testsets/{digest}", "HEAD /v1/testsets/{digest}", "GET /v1/testsets/{digest}",
              "POST /v1/testsets:missing", "GET /v1/capacity", "GET /healthz", "GET /metrics")  # fmt: skip
NO_FAULT = (503,)  # /readyz, where something does not work here


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(workers=1, sandbox_slots=1, max_cpu_s=0.5, testset_folder=tmp_path_factory.mktemp("testsets")) as server:
        yield server


@pytest.mark.isolation
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_request_is_answered_with_a_fault_of_ours(server: Server, mode: GenerationMode) -> None:
    api = schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")
    seen = set()
    for result in api.get_all_operations():
        operation = result.ok()
        seen.add(operation.label)

        @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: schemathesis.Case) -> None:
            status = case.call(timeout=60).status_code
            assert status < 500 or (case.path == "/readyz" and status in NO_FAULT)

        with contextlib.suppress(Unsatisfiable) if mode is GenerationMode.NEGATIVE else contextlib.nullcontext():
            check()  # an operation without parameters cannot be called wrongly
    assert seen >= set(OPERATIONS)
    assert server.process.poll() is None
