"""A service in a process of its own for fault tests: started, spoken to over raw connections, looked at from outside, ended."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from reward_service.settings import environment_name

SERVE = "from reward_service.server.app import serve; from reward_service.settings import Settings; serve(Settings())"
START_S = 60
ADD = "a, b = map(int, input().split())\nprint(a + b)"

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


@dataclass
class Server:
    """A running service."""

    process: subprocess.Popen[str]
    port: int

    @property
    def pid(self) -> int:
        return self.process.pid

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))

    def memory_bytes(self) -> int:
        """Of the service's own process."""
        with open(f"/proc/{self.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def stop(self, number: int = signal.SIGTERM, within_s: float = 30) -> int:
        self.process.send_signal(number)
        return self.process.wait(within_s)


@contextlib.contextmanager
def served(port: int = 0, **settings: object) -> Iterator[Server]:
    """Start a service; whatever is left of it at the end is killed."""
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("REWARD_")}
    environment |= {environment_name(name): str(value) for name, value in {"port": port, **settings}.items()}
    process = subprocess.Popen([sys.executable, "-c", SERVE], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        yield Server(process, _port(process))
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def _port(process: subprocess.Popen[str]) -> int:
    assert process.stderr is not None
    until = time.monotonic() + START_S
    for line in process.stderr:
        event = str(json.loads(line)["event"])
        if "Uvicorn running on" in event:
            _drain(process)
            return int(event.split(":")[2].split()[0])
        assert time.monotonic() < until
    raise AssertionError("did not start")


def _drain(process: subprocess.Popen[str]) -> None:
    """Keep the pipe of the log empty, or the service would stop at its next line."""
    stream = process.stderr
    assert stream is not None

    def read() -> None:
        with contextlib.suppress(ValueError, OSError):
            for line in stream:
                if '"level":"error"' in line:
                    sys.stdout.write(line)

    threading.Thread(target=read, daemon=True).start()


def descendants(pid: int) -> list[int]:
    """All processes that a process has started and not lost, also in namespaces of their own."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                for child in map(int, file.read().split()):
                    found += [child, *descendants(child)]
    return found


def cgroups_of(pids: list[int]) -> set[str]:
    """The folders of the cgroups that processes are in, without the one that this process is in itself."""
    found: set[str] = set()
    for pid in (*pids, "self"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cgroup") as file:
            here = {line.split(":", 2)[2].strip() for line in file}
            found = found - here if pid == "self" else found | here
    return {f"/sys/fs/cgroup{path}" for path in found if path != "/"}


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def math_group(group_id: str, count: int, answer: str) -> dict[str, Any]:
    """Rollouts of which every second one is right."""
    said = (f"{answer}+{k}" if k % 2 else f"\\frac{{{answer}0}}{{10}}" for k in range(count))
    rollouts = [{"rollout_id": str(k), "completion": f"I think so. \\boxed{{{text}}}"} for k, text in enumerate(said)]
    return {"group_id": group_id, "task": "math", "reference": {"answer": answer}, "rollouts": rollouts}


def code_group(group_id: str, count: int, source: str = ADD, cpu_s: float = 4) -> dict[str, Any]:
    """Rollouts of one program, each a little different, so that none is known from before."""
    tests = [{"stdin": "1 2\n", "stdout": "3\n"}, {"stdin": "5 5\n", "stdout": "10\n"}]
    rollouts = [{"rollout_id": str(k), "completion": f"```python\n# {group_id} {k}\n{source}\n```"} for k in range(count)]
    return {"group_id": group_id, "task": "code", "reference": {"tests": tests, "limits": {"cpu_s": cpu_s}}, "rollouts": rollouts}


def body(*groups: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"scheme": "correctness-only", "groups": groups, **fields}).encode()


def request(data: bytes, head: str = "") -> bytes:
    lines = f"POST /v1/grade HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n{head}\r\n"
    return lines.encode() + data


async def answer(reader: Reader) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the next answer."""
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    if "content-length" in headers:
        return int(status.split()[1]), headers, await reader.readexactly(int(headers["content-length"]))
    content = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        content += (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)
    return int(status.split()[1]), headers, content


class Connections:
    """Kept connections to a port; `post` takes a free one, or opens one."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._idle: list[tuple[Reader, Writer]] = []

    async def post(self, data: bytes, head: str = "") -> tuple[int, dict[str, str], bytes]:
        """One exchange. Raises OSError, asyncio.IncompleteReadError where the connection breaks."""
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request(data, head))
            found = await answer(reader)
        except BaseException:
            writer.close()
            raise
        self._idle.append((reader, writer))
        return found

    async def grades(self, data: bytes) -> list[tuple[str, float | None, str | None]]:
        """What became of each rollout, after as many attempts as it takes."""
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                status, _, content = await self.post(data)
                if status == 200:
                    return [(g["outcome"], g["reward"], g["detail"].get("reason")) for g in json.loads(content)["grades"]]
                assert status in (429, 503), content
            await asyncio.sleep(0.2)

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()


def percentile(values: list[float], share: float) -> float:
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]
