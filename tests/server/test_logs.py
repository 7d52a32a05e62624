"""Log lines: together where they can wait, at once where not, and never in the way of what they tell of."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys

from reward_service.server.logs import Lines


class Counting(io.BytesIO):
    """Counts writes."""

    writes = 0

    def write(self, data: object) -> int:
        self.writes += 1
        return super().write(data)  # type: ignore[arg-type]


async def test_lines_that_can_wait_are_written_together() -> None:
    file = Counting()
    lines = Lines(file)
    for number in range(100):
        lines.info(b"%d" % number)
    assert file.writes == 0
    while not file.writes:
        await asyncio.sleep(0.01)
    assert (file.writes, file.getvalue().split()) == (1, [b"%d" % number for number in range(100)])
    lines.info(b"later")
    while file.writes < 2:
        await asyncio.sleep(0.01)
    assert file.getvalue().endswith(b"\nlater\n")


async def test_a_warning_is_written_at_once_and_in_its_place() -> None:
    file = Counting()
    lines = Lines(file)
    lines.info(b"before")
    lines.warning(b"warning")
    assert file.getvalue() == b"before\nwarning\n"
    await asyncio.to_thread(lines.info, b"of a thread")
    assert file.getvalue().endswith(b"\nof a thread\n")


def test_without_an_event_loop_lines_are_written_at_once() -> None:
    file = Counting()
    Lines(file).info(b"line")
    assert file.getvalue() == b"line\n"


def test_a_log_that_nobody_reads_stops_nothing() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "wb", buffering=0) as file:
        Lines(file).error(b"line")


def test_lines_that_wait_are_written_at_the_end() -> None:
    code = (
        "import asyncio, structlog; from reward_service.server.logs import configure_logs; configure_logs('info')\n"
        "async def main(): structlog.get_logger().info('last words')\n"
        "asyncio.run(main())"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert b'"event":"last words"' in ended.stderr
