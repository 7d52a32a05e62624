"""Requests leave nothing that only a search for cycles would find, and the search waits for quiet moments."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Iterator
from typing import Any

import pytest

from reward_service.server import garbage
from tests.server.doubles import program_body, program_group
from tests.server.test_http_protocol import listening


@pytest.fixture
def looks() -> Iterator[list[int]]:
    """The generations that were looked through."""
    found: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "stop":
            found.append(info["generation"])

    gc.disable()
    gc.callbacks.append(note)
    yield found
    gc.callbacks.remove(note)
    gc.enable()


async def test_a_request_leaves_no_cycle(looks: list[int]) -> None:
    math = {"group_id": "m", "task": "math", "reference": {"answer": "7"}, "rollouts": [{"rollout_id": "0", "completion": "\\boxed{7}"}]}
    async with listening() as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def send(group: dict[str, Any]) -> bytes:
            body = json.dumps(program_body(group)).encode()
            writer.write(b"POST /v1/grade HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
            return head.split()[1]

        unknown = program_group(reference={"testset": "sha256:" + "0" * 64})
        assert [await send(math), await send(program_group()), await send(unknown)] == [b"200", b"200", b"424"]
        gc.collect()
        for _ in range(50):
            await send(math)
            await send(unknown)
        assert gc.collect() < 50
        writer.close()


async def test_the_search_waits_for_quiet(looks: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "LOOK_S", 0.01)
    in_flight = garbage.QUIET + 1
    searching = asyncio.create_task(garbage.collect_when_quiet(lambda: in_flight))
    await asyncio.sleep(0.1)
    assert not looks
    in_flight = garbage.QUIET
    while not looks:
        await asyncio.sleep(0.01)
    assert set(looks) == {garbage.YOUNG}
    searching.cancel()


async def test_the_search_does_not_wait_for_ever(looks: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "LOOK_S", 0.01)
    monkeypatch.setattr(garbage, "LATEST_S", 0.05)
    searching = asyncio.create_task(garbage.collect_when_quiet(lambda: garbage.QUIET + 1))
    while not looks:
        await asyncio.sleep(0.01)
    searching.cancel()
