"""Stand-ins for what a service stands on, and requests for them."""

from __future__ import annotations

from typing import Any

from reward_service.effects import Task
from reward_service.workers import WorkerStats
from sandbox.fake import FakeSandbox
from sandbox.interface import SandboxUnavailable


class InlinePool:
    """Workers that run in the test's own process."""

    count = 2
    stats = WorkerStats(workers=2, busy=0, waiting=0, items=0, killed=0, restarts=0)

    async def start(self) -> None:
        """Nothing to start."""

    async def close(self) -> None:
        """Nothing to stop."""

    async def run(self, task: Task[Any], *args: object) -> Any:
        """The function's result."""
        return task.function(*args)


class BrokenSandbox(FakeSandbox):
    """A sandbox on a machine that allows none."""

    async def start(self) -> None:
        """Refuse."""
        raise SandboxUnavailable("user namespaces are off: set kernel.unprivileged_userns_clone=1")


def program_group(group_id: str = "g", count: int = 1, **fields: Any) -> dict[str, Any]:
    """A group of the code task: under FakeSandbox, which echoes its input, even rollouts are right (their test expects the echo)."""
    return {
        "group_id": group_id,
        "task": "code",
        "reference": {"tests": [{"stdin": "5\n", "stdout": "5\n"}]},
        "rollouts": [{"rollout_id": str(index), "completion": f"```python\nprint(input())  # {index}\n```"} for index in range(count)],
        **fields,
    }


def program_body(*groups: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A request of such groups under a scheme that needs neither prompt nor token counts."""
    return {"scheme": "correctness-only", "groups": list(groups), **fields}
