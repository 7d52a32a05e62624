"""Tests per second of the sandbox beside a bare subprocess per test and other sandboxes, interleaved in one run.

    python bench/sandbox.py [--rounds 5] [--tests 20] [--only namespaces,bare] [--json FILE]

Each row runs the same four programs on the same inputs with 1 and with 2 workers; a round runs every row once, and the table shows
medians relative to the bare, unsandboxed subprocess of the same round (= 1.00). Rows whose tool is missing say so. `remote` is the
same sandbox behind a Unix socket; `docker` and `docker, runsc` need a running engine and the image reward-sandbox (make images); `docker
exec`, `docker run` and `runsc exec` an image named by --image with python3 in it.
"""

from __future__ import annotations

import os
import sys

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # this folder would hide `sandbox` and `math`

import argparse  # noqa: E402
import asyncio  # noqa: E402
import contextlib  # noqa: E402
import json  # noqa: E402
import shutil  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Awaitable, Callable  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402

from sandbox.docker import DockerConfig, containers  # noqa: E402
from sandbox.interface import Job, Sandbox, SandboxUnavailable, Status, TestInput  # noqa: E402
from sandbox.namespaces.backend import NamespacesConfig, NamespacesSandbox  # noqa: E402
from sandbox.pool import Pool  # noqa: E402
from sandbox.remote import parse_address  # noqa: E402
from sandbox.remote import runners as listening  # noqa: E402

PACKAGES = Path(__file__).parents[1] / ".runtime" / "python"


@dataclass(frozen=True)
class Workload:
    name: str
    language: str
    source: str
    repeats: int = 1


WORKLOADS = (
    Workload("python", "python", "print(int(input()) * 2)\n", 3),
    Workload("50 ms", "python", "n = int(input())\nt = 0\nfor i in range(450_000): t += i & 3\nprint(n * 2)\n"),
    Workload("c++", "cpp", "#include <bits/stdc++.h>\nint main() { long n; std::cin >> n; std::cout << n * 2 << '\\n'; }\n", 3),
    Workload("numpy", "python", "import numpy\nprint(int(numpy.int64(input()) * 2))\n"),
)
Runner = Callable[[Workload, int], Awaitable[None]]  # runs all tests of one program, `count` of them


def inputs(count: int) -> list[bytes]:
    return [b"%d\n" % number for number in range(count)]


class Bare:
    """A subprocess per test, with a time limit and nothing else; `prefix` puts another sandbox's command before it."""

    def __init__(self, folder: str, prefix: Callable[[str], list[str]] = lambda folder: []) -> None:
        self._folder = folder
        self._prefix = prefix(folder)
        self._python = os.path.join(folder, "venv", "bin", "python")
        if not os.path.exists(self._python):  # an empty environment: what a machine's own site-packages do at each start is no peer
            subprocess.run([os.path.realpath(sys._base_executable), "-m", "venv", "--without-pip", f"{folder}/venv"], check=True)

    def command(self, work: Workload) -> list[str]:
        name = os.path.join(self._folder, f"program_{work.name[:2]}")
        if work.language == "cpp":
            if not os.path.exists(name):
                Path(name + ".cpp").write_text(work.source)
                subprocess.run(["g++", "-O2", "-std=gnu++20", name + ".cpp", "-o", name], check=True)
            return [name]
        Path(name + ".py").write_text(work.source)
        return [self._python, name + ".py"]

    async def run(self, work: Workload, count: int) -> None:
        command = [*self._prefix, *self.command(work)]
        environment = {**os.environ, "PYTHONPATH": str(PACKAGES)}
        for number, data in enumerate(inputs(count)):
            done = await asyncio.to_thread(subprocess.run, command, input=data, capture_output=True, env=environment, timeout=60)
            if done.stdout != b"%d\n" % (number * 2):
                raise RuntimeError(f"{command[0]}: {done.stderr[-300:]!r}")


class Ours:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def run(self, work: Workload, count: int) -> None:
        job = Job(work.language, work.source, tuple(TestInput(data) for data in inputs(count)))
        async with contextlib.aclosing(self._sandbox.run(job)) as results:
            async for result in results:
                if result.status is not Status.FINISHED or result.stdout != b"%d\n" % (
                    result.index * 2 if result.index is not None else -1
                ):
                    raise RuntimeError(f"{result.status} {result.stderr!r}")


def bubblewrap(folder: str) -> list[str]:
    return ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev",
            "--ro-bind", folder, folder, "--cap-drop", "ALL", "--new-session"]  # fmt: skip


_HARDENED = ["--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", "65534",
             "--pids-limit", "64", "--memory", "300m", "--log-driver", "none"]  # fmt: skip


class Docker:
    """`docker exec` into one kept container, or `docker run` per test."""

    def __init__(self, image: str, folder: str, *, keep: bool, runtime: str = "runc") -> None:
        self._mounts = ["-v", f"{folder}:{folder}:ro", "-v", f"{PACKAGES}:/packages:ro", "-e", "PYTHONPATH=/packages"]
        self._options = ["--runtime", runtime, *_HARDENED, *self._mounts]
        self._image = image
        self._name = ""
        self._bare = Bare(folder)
        if keep:
            out = subprocess.run(
                ["docker", "run", "-d", *self._options, image, "sleep", "100000"], capture_output=True, text=True, check=True
            )
            self._name = out.stdout.strip()

    def close(self) -> None:
        if self._name:
            subprocess.run(["docker", "rm", "-f", self._name], capture_output=True)

    async def run(self, work: Workload, count: int) -> None:
        program = self._bare.command(work)
        program[0] = program[0] if work.language == "cpp" else "python3"
        prefix = ["docker", "exec", "-i", self._name] if self._name else ["docker", "run", "--rm", "-i", *self._options, self._image]
        for number, data in enumerate(inputs(count)):
            done = await asyncio.to_thread(subprocess.run, [*prefix, *program], input=data, capture_output=True, timeout=120)
            if done.stdout != b"%d\n" % (number * 2):
                raise RuntimeError(f"docker: {done.stderr[-300:]!r}")


async def rate(runner: Runner, work: Workload, count: int, workers: int) -> float:
    """Tests per second with so many programs at a time."""
    started = time.perf_counter()
    await asyncio.gather(*(runner(work, count) for _ in range(workers)))
    return workers * count / (time.perf_counter() - started)


def rows(args: argparse.Namespace, folder: str, ours: NamespacesSandbox) -> tuple[dict[str, Runner], dict[str, str], list[Docker]]:
    found: dict[str, Runner] = {"bare": Bare(folder).run, "namespaces": Ours(ours).run}
    missing: dict[str, str] = {}
    kept: list[Docker] = []
    if shutil.which("bwrap"):
        found["bubblewrap"] = Bare(folder, bubblewrap).run
    else:
        missing["bubblewrap"] = "bwrap is not installed"
    engine = (
        subprocess.run(["docker", "info", "-f", "{{json .Runtimes}}"], capture_output=True, text=True) if shutil.which("docker") else None
    )
    image = (
        engine is not None
        and engine.returncode == 0
        and subprocess.run(["docker", "image", "inspect", args.image], capture_output=True).returncode == 0
    )
    if not image:
        return found, {**missing, "docker": f"no engine, or no image {args.image}"}, kept
    assert engine is not None
    for name, runtime in (("docker exec", "runc"), ("runsc exec", "runsc")):
        if f'"{runtime}"' in engine.stdout:
            kept.append(Docker(args.image, folder, keep=True, runtime=runtime))
            found[name] = kept[-1].run
        else:
            missing[name] = f"the engine has no runtime {runtime}"
    found["docker run"] = Docker(args.image, folder, keep=False).run
    return found, missing, kept


SLOTS = 2
BACKENDS = ("remote", "docker", "docker, runsc")


async def backends(folder: str, undo: contextlib.AsyncExitStack) -> tuple[dict[str, Runner], dict[str, str]]:
    """The same sandbox behind a socket, in containers, and in gVisor's; why there is none, where so."""
    command = [sys.executable, "-m", "sandbox.runner", "--listen", f"unix:{folder}/runner.sock", "--slots", str(SLOTS)]
    process = subprocess.Popen(
        [*command, "--python", sys.executable, "--packages", str(PACKAGES)], cwd=sys.path[0], stderr=subprocess.DEVNULL
    )
    undo.callback(process.wait)
    undo.callback(process.terminate)
    pools = {
        "remote": Pool(listening((parse_address(f"unix:{folder}/*.sock"),), "")),
        "docker": Pool(containers(DockerConfig(slots=SLOTS))),
        "docker, runsc": Pool(containers(DockerConfig(slots=SLOTS, runtime="runsc"))),
    }
    found: dict[str, Runner] = {}
    missing: dict[str, str] = {}
    for name, pool in pools.items():
        try:
            await pool.start()
        except SandboxUnavailable as error:
            missing[name] = str(error)[:300]
            continue
        undo.push_async_callback(pool.close)
        found[name] = Ours(pool).run
    return found, missing


def resident_kib(ours: NamespacesSandbox) -> dict[str, int]:
    """Proportional set size of each zygote."""
    sizes = {}
    for name, pid in ours.zygote_pids().items():
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                sizes[name] = int(line.split()[1])
    return sizes


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tests", type=int, default=20)
    parser.add_argument("--image", default="base:bookworm")
    parser.add_argument("--only", default="")
    parser.add_argument("--json")
    args = parser.parse_args()
    ours = NamespacesSandbox(NamespacesConfig(slots=2, python=sys.executable, packages=str(PACKAGES)))
    await ours.start()
    seen: dict[tuple[str, str, int], list[float]] = {}
    async with contextlib.AsyncExitStack() as undo:
        folder = undo.enter_context(tempfile.TemporaryDirectory())
        os.chmod(folder, 0o755)
        runners, missing, kept = rows(args, folder, ours)
        contained, absent = await backends(folder, undo)
        runners, missing = {**runners, **contained}, {**missing, **absent}
        if args.only:
            runners = {name: runner for name, runner in runners.items() if name in args.only.split(",")}
        slow = {"docker run": 4, "docker exec": 5, "runsc exec": 5}
        for runner in runners.values():
            for work in WORKLOADS:
                await runner(work, 1)  # caches warm: compiled binaries, pages of the interpreter
        for number in range(args.rounds):
            for work in WORKLOADS:
                for workers in (1, 2):
                    for name, runner in list(runners.items()):
                        count = slow.get(name, args.tests)
                        repeats = work.repeats if name in ("namespaces", *BACKENDS) else 1
                        try:
                            speeds = [await rate(runner, work, count, workers) for _ in range(repeats)]
                        except (RuntimeError, subprocess.TimeoutExpired) as error:
                            missing[name] = f"failed at {work.name} x{workers}: {str(error)[:120]}"
                            del runners[name]
                            continue
                        seen.setdefault((name, work.name, workers), []).append(statistics.median(speeds))
            print(f"round {number + 1} of {args.rounds} done", file=sys.stderr)
        for container in kept:
            container.close()
    print_table(seen, list(runners), missing)
    print("proportional set size of idle zygotes, KiB:", resident_kib(ours))
    if args.json:
        Path(args.json).write_text(json.dumps([[*key, values] for key, values in seen.items()]))
    await ours.close()


def ratio(seen: dict[tuple[str, str, int], list[float]], name: str, peer: str, work: str, workers: int) -> float:
    """How much faster than a peer, the median over the rounds."""
    return statistics.median(mine / its for mine, its in zip(seen[name, work, workers], seen[peer, work, workers], strict=True))


def print_table(seen: dict[tuple[str, str, int], list[float]], names: list[str], missing: dict[str, str]) -> None:
    print(
        f"{'tests per second, relative to bare':36s}" + "".join(f"{work.name + ' x' + str(n):>12s}" for work in WORKLOADS for n in (1, 2))
    )
    for name in names:
        cells = []
        for work in WORKLOADS:
            for workers in (1, 2):
                pairs = zip(seen[name, work.name, workers], seen["bare", work.name, workers], strict=True) if "bare" in names else []
                ratios = [mine / bare for mine, bare in pairs]
                cells.append(f"{statistics.median(ratios):12.2f}" if ratios else f"{'-':>12s}")
        print(f"{name:36s}" + "".join(cells))
    for name, peer in [*((name, "namespaces") for name in BACKENDS), *((name, "docker exec") for name in BACKENDS)]:
        if name in names and peer in names:
            cells = [f"{ratio(seen, name, peer, work.name, n):12.2f}" for work in WORKLOADS for n in (1, 2)]
            print(f"{f'{name} over {peer}':36s}" + "".join(cells))
    for name in names[:2]:
        cells = [f"{statistics.median(seen[name, work.name, n]):12.1f}" for work in WORKLOADS for n in (1, 2)]
        print(f"{name + ', tests per second':36s}" + "".join(cells))
    for name, why in missing.items():
        print(f"{name:36s}{why}")


if __name__ == "__main__":
    asyncio.run(main())
