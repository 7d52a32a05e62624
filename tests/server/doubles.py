"""Stand-ins for what a service stands on, and requests for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx

from reward_service.effects import Task
from reward_service.records import Grade, Group, Outcome, Terms
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


async def graded(client: httpx.AsyncClient, body: Any, **options: Any) -> Any:
    response = await client.post("/v1/grade", json=body, **options)
    assert response.status_code == 200, response.text
    return response.json()


def slow_pipeline(pause_s: float, started: list[str] | None = None, ended: list[str] | None = None) -> Any:
    """A pipeline that takes its time before each grade."""

    async def grade_groups(groups: Sequence[Group], *rest: object) -> AsyncIterator[Grade]:
        try:
            for group in groups:
                for rollout in group.rollouts:
                    if started is not None:
                        started.append(rollout.rollout_id)
                    await asyncio.sleep(pause_s)
                    yield Grade(group.group_id, rollout.rollout_id, Outcome.CORRECT, 1.0, 1.0, Terms(0.0, 1.0, 0.0, 0.0), {})
        finally:
            if ended is not None:
                ended.append("ended")

    return grade_groups


async def settle(condition: Any) -> None:
    for _ in range(200):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("did not come about")


async def raw_request(client: httpx.AsyncClient, body: Any, accept: str = "", leave_after: int | None = None) -> tuple[list[Any], bool]:
    """What the application sends; with `leave_after` the client goes away after so many messages. Says whether it did."""
    app = client._transport.app  # type: ignore[attr-defined]
    sent: list[Any] = []
    gone = asyncio.Event()
    if leave_after == 0:
        asyncio.get_running_loop().call_later(0.05, gone.set)
    messages = iter([{"type": "http.request", "body": json.dumps(body).encode()}])

    async def receive() -> Any:
        message = next(messages, None)
        if message is None:
            await gone.wait()
            return {"type": "http.disconnect"}
        return message

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) == leave_after:
            gone.set()

    headers = [(b"accept", accept.encode())]
    scope = {
        "type": "http", "method": "POST", "path": "/v1/grade", "raw_path": b"/v1/grade", "query_string": b"token=t0ken", "root_path": "",
        "headers": headers, "http_version": "1.1", "scheme": "http", "server": ("x", 1), "client": ("y", 2), "asgi": {"version": "3.0"},
    }  # fmt: skip
    await asyncio.wait_for(app(scope, receive, send), 10)
    return sent, gone.is_set()
