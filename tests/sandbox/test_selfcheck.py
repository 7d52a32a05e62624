"""The embedded backend passes the list that every backend passes, and the list can fail."""

from __future__ import annotations

import pytest

from sandbox.fake import FakeSandbox
from sandbox.interface import RunnerLost, RunResult, Sandbox, Status
from sandbox.selfcheck import CANARIES, CONFORMANCE, Check, run_checks

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.isolation
@pytest.mark.compiler
@pytest.mark.parametrize("check", [*CONFORMANCE, *CANARIES], ids=lambda check: check.name)
async def test_the_embedded_backend_keeps_the_contract(sandbox: Sandbox, check: Check) -> None:
    (finding,) = await run_checks(sandbox, [check])
    assert finding.ok, finding.detail


@pytest.mark.isolation
@pytest.mark.compiler
@pytest.mark.parametrize("check", [*CONFORMANCE, *CANARIES], ids=lambda check: check.name)
async def test_supervisors_without_their_compiled_loop_keep_it_too(interpreted: Sandbox, check: Check) -> None:
    (finding,) = await run_checks(interpreted, [check])
    assert finding.ok, finding.detail


@pytest.mark.parametrize("check", [*CONFORMANCE, *CANARIES], ids=lambda check: check.name)
async def test_no_check_passes_a_sandbox_that_lets_everything_out(check: Check) -> None:
    lying = FakeSandbox(lambda job, index: RunResult(index, Status.FINISHED, stdout=b"escaped: everywhere\n", exit_code=0))
    (finding,) = await run_checks(lying, [check])
    if check.name == "memory below the limit passes":  # only the status counts there
        return
    assert not finding.ok
    assert finding.advice


async def test_a_lost_runner_is_a_finding_and_no_exception() -> None:
    def lose(job: object, index: int) -> RunResult:
        raise RunnerLost("gone")

    (finding,) = await run_checks(FakeSandbox(lose), CONFORMANCE[:1])
    assert not finding.ok
    assert "gone" in finding.detail
