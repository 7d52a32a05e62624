"""What is left when clients leave and when the service is stopped or killed: nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time

import pytest

from tests.faults.served import Connections, Server, alive, answer, body, cgroups_of, code_group, descendants, math_group, request, served

pytestmark = pytest.mark.isolation
ENDLESS = (
    "import os\nfor _ in range(4):\n    if not os.fork():\n        os.setsid()\nwhile True: pass"  # and children that leave its session
)


async def until(condition: object, within_s: float) -> bool:
    end_s = time.monotonic() + within_s
    while not condition():  # type: ignore[operator]
        if time.monotonic() > end_s:
            return False
        await asyncio.sleep(0.02)
    return True


async def busy(server: Server) -> asyncio.StreamWriter:
    """A client whose program runs and whose others wait."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request(body(code_group("hog", 6, ENDLESS, cpu_s=60), math_group("m", 50, "7"))))
    assert await until(lambda: server.metric("reward_sandbox_busy") >= 1 and server.metric("reward_sandbox_waiting") >= 1, 20)
    return writer


async def test_a_client_that_leaves_takes_its_programs_and_its_queue_with_it() -> None:
    with served(workers=1, sandbox_slots=1) as server:
        for leave in ("abort", "half"):
            writer = await busy(server)
            if leave == "abort":
                writer.transport.abort()
            else:
                writer.write_eof()  # a closed sending side counts as going away: the two cannot be told apart
            gone = await until(lambda: server.metric("reward_sandbox_busy") + server.metric("reward_sandbox_waiting") == 0, 5)
            assert gone
            assert await until(lambda: server.metric("reward_in_flight_requests") == 0, 5)
            writer.close()


async def test_after_kill_nine_nothing_survives_five_seconds() -> None:
    with served(workers=1, sandbox_slots=1) as server:
        writer = await busy(server)
        started = descendants(server.pid)
        groups = cgroups_of(started)
        assert len(started) > 5
        server.stop(signal.SIGKILL)
        assert await until(lambda: not any(map(alive, started)), 5)
        writer.close()
    with served(workers=1, sandbox_slots=1) as server:  # what the kernel has left, the next start removes
        assert not [group for group in groups if os.path.exists(group)]
        server.stop()


async def test_a_second_signal_ends_a_drain_and_tells_what_is_known() -> None:
    with served(workers=1, sandbox_slots=1, drain_s=600) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request(body(code_group("hog", 2, ENDLESS, cpu_s=60), math_group("m", 2, "7"))))
        assert await until(lambda: server.metric("reward_sandbox_busy") >= 1, 20)
        assert await until(lambda: server.metric("reward_rollouts_total") == 2, 20)  # those of math
        started = descendants(server.pid)
        groups = cgroups_of(started)
        server.process.send_signal(signal.SIGTERM)
        assert await until(lambda: server.metric("reward_ready") == 0, 5)
        server.process.send_signal(signal.SIGTERM)
        status, _, content = await answer(reader)
        found = [(grade["outcome"], grade["reward"], grade["detail"].get("reason")) for grade in json.loads(content)["grades"]]
        assert (status, found[:2]) == (200, [("unscored", None, "cancelled")] * 2)
        assert [outcome for outcome, _, _ in found[2:]] == ["correct", "incorrect"]
        assert await asyncio.to_thread(server.process.wait, 20) == 0
        assert not [pid for pid in started if alive(pid)]
        assert not [group for group in groups if os.path.exists(group)]
        writer.close()


async def test_a_stop_finishes_what_was_accepted_and_leaves_nothing() -> None:
    with served(workers=1, sandbox_slots=1, drain_s=30) as server:
        connections = Connections(server.port)
        sleep = "import time\ntime.sleep(1)\n"
        running = asyncio.create_task(connections.post(body(code_group("g", 2, sleep + "a, b = map(int, input().split())\nprint(a + b)"))))
        assert await until(lambda: server.metric("reward_sandbox_busy") >= 1, 20)
        started = descendants(server.pid)
        server.process.send_signal(signal.SIGTERM)
        assert await until(lambda: server.metric("reward_ready") == 0, 5)
        status, headers, _ = await Connections(server.port).post(body())
        assert (status, int(headers["retry-after"]) >= 1) == (503, True)
        status, _, content = await running
        assert [grade["outcome"] for grade in json.loads(content)["grades"]] == ["correct", "correct"]
        connections.close()
        assert await asyncio.to_thread(server.process.wait, 20) == 0
        assert not [pid for pid in started if alive(pid)]
