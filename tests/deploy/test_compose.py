"""`docker compose up` as an operator runs it: what is given to whom, what it grades, what it survives, what is left when it goes."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import importlib.util
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from reward_service.client import RewardClient
from tests.sandbox.runners import delegated_cgroup
from tests.test_docs import comparable, example

pytestmark = pytest.mark.containers
ROOT = Path(__file__).parents[2]


class Composed:
    """The composed service under a name and a port of its own."""

    def __init__(self, *more: str, **environment: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.project = f"reward-test-{os.getpid()}-{self.port}"
        self.files = [word for name in ("compose.yaml", *more) for word in ("--file", str(ROOT / "deploy" / name))]
        self.environment = environment
        self.url = f"http://127.0.0.1:{self.port}"

    def compose(self, *arguments: str) -> str:
        command = ["docker", "compose", "--project-name", self.project, *self.files, *arguments]
        needed = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PUBLISH_PORT": str(self.port)}
        environment = {**needed, **self.environment}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "--quiet", service).split()

    def everything(self) -> list[str]:
        """Containers, volumes and networks of this project."""
        label = f"label=com.docker.compose.project={self.project}"
        kinds = (["ps", "--all"], ["volume", "ls"], ["network", "ls"])
        return [name for kind in kinds for name in docker(*kind, "--quiet", "--filter", label).split()]


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout


def inspect(container: str) -> Any:
    return json.loads(docker("inspect", container))[0]


def crash(container: str) -> None:
    """Kill what runs in a container as a fault would, so that the engine starts it again."""
    os.kill(inspect(container)["State"]["Pid"], signal.SIGKILL)


def until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if condition():
                return True
        time.sleep(0.1)
    return False


def ready(composed: Composed) -> Any:
    with urllib.request.urlopen(f"{composed.url}/readyz", timeout=10) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def composed() -> Iterator[Composed]:
    found = Composed()
    try:
        found.compose("up", "--detach", "--wait", "--no-build", "--scale", "sandbox=2")
        yield found
    finally:
        found.compose("down", "--volumes", "--timeout", "5")
    assert found.everything() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a cgroup away")
def test_with_a_delegated_cgroup_the_kernel_bounds_each_programs_memory() -> None:
    version = 1 if Path("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists() else 2
    with delegated_cgroup("-composed") as name:
        found = Composed(f"compose.cgroup-v{version}.yaml", SANDBOX_CGROUP=name[1:], SANDBOX_CGROUP_PARENT=name, REWARD_STRICT="true")
        try:
            found.compose("up", "--detach", "--wait", "--no-build")
            report = ready(found)
            assert report["ready"], report
            assert report["sandbox"]["notes"]["memory accounting"] == f"cgroup v{version}"
        finally:
            found.compose("down", "--volumes", "--timeout", "5")


def test_strict_reaches_the_service_and_is_heeded() -> None:
    found = Composed(REWARD_STRICT="true")
    try:
        found.compose("up", "--detach", "--wait", "--no-build")
        with urllib.request.urlopen(f"{found.url}/readyz", timeout=10) as answer:
            report = json.load(answer)
    except urllib.error.HTTPError as refused:
        report = json.load(refused)
    finally:
        found.compose("down", "--volumes", "--timeout", "5")
    assert not report["tasks"]["code"]
    assert "strict" in report["reasons"][0]
    assert "docs/deploy.md" in report["reasons"][0]


def demo() -> Any:
    """`examples/demo.py` as a module."""
    spec = importlib.util.spec_from_file_location("demo", ROOT / "examples/demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readmes_call_gives_the_readmes_answer(composed: Composed) -> None:
    call, shown = example()
    url = call["url"].replace("http://127.0.0.1:8000", composed.url)
    name, _, value = call["header"].partition(": ")
    request = urllib.request.Request(url, call["body"].encode(), {name: value})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert comparable(json.load(answer)) == comparable(shown)


def test_everything_works_there(composed: Composed) -> None:
    report = ready(composed)
    assert report["ready"], report
    assert report["languages"] == ["cpp", "python"]
    assert report["sandbox"]["notes"]["runners"].startswith("all 2 run")
    assert report["sandbox"]["notes"]["precompiled header"] == "in use"


def test_the_examples_get_the_grades_that_were_worked_out_by_hand(composed: Composed) -> None:
    module = demo()
    rows = [json.loads(line) for task in ("math", "choice", "code") for line in (ROOT / f"examples/{task}.jsonl").read_text().splitlines()]
    with RewardClient(composed.url) as client:
        response = client.grade(module.groups_of(rows), module.SCHEME, on_unscored="return")
    assert module.compare(rows, response, Console()) == 0


def test_each_has_the_least(composed: Composed) -> None:
    for service in ("api", "sandbox"):
        for container in composed.containers(service):
            seen = inspect(container)
            host = seen["HostConfig"]
            assert host["Privileged"] is False
            assert host["ReadonlyRootfs"] is True
            assert host["CapDrop"] == ["ALL"]
            assert not host["CapAdd"]
            assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"])
            assert seen["Config"]["User"] in ("10001:10000", "10002:10000")
            assert [mount["Type"] for mount in seen["Mounts"]] == ["volume"] * len(seen["Mounts"]), (
                "no folder of the host, no engine's socket"
            )
            shared = {mount["Destination"] for mount in seen["Mounts"]}
            assert shared == ({"/run/sandbox"} if service == "sandbox" else {"/run/sandbox", "/var/lib/reward/testsets"})
            if service == "sandbox":
                assert host["NetworkMode"] == "none"
                assert host["Memory"] == host["MemorySwap"] > 0
                assert host["PidsLimit"] > 0
            else:
                assert list(host["PortBindings"].values()) == [[{"HostIp": "127.0.0.1", "HostPort": str(composed.port)}]]


def test_the_service_image_has_no_compiler_and_no_installer(composed: Composed) -> None:
    (api,) = composed.containers("api")
    for tool in ("gcc", "g++", "cc", "ld", "pip", "pip3", "curl", "wget"):
        assert subprocess.run(["docker", "exec", api, "sh", "-c", f"command -v {tool}"], capture_output=True).returncode != 0, tool
    assert subprocess.run(["docker", "exec", api, "python", "-c", "import pip"], capture_output=True).returncode != 0


SLOW = "```python\nimport time\nn = int(input())\ntime.sleep(0.3)\nprint(n * {factor})\n```"


def grades_under_load(composed: Composed, disturb: Callable[[int], None]) -> None:
    """Grade programs of which each second one is right, while something is killed every second."""
    tests = [{"stdin": f"{n}\n", "stdout": f"{2 * n}\n"} for n in range(1, 4)]
    rollouts = [{"rollout_id": str(n), "completion": SLOW.format(factor=2 + n % 2) + f"\n{n}"} for n in range(24)]
    rollouts = [{**rollout, "completion": rollout["completion"].replace("import time", f"import time  # {rollout['rollout_id']}")}
                for rollout in rollouts]  # fmt: skip
    group = {"group_id": "g", "task": "code", "reference": {"tests": tests, "languages": ["python"]}, "rollouts": rollouts}
    with RewardClient(composed.url) as client, concurrent.futures.ThreadPoolExecutor() as pool:
        grading = pool.submit(client.grade, [group], "correctness-only", on_unscored="return")
        for number in range(4):
            time.sleep(0.8)
            if not grading.done():
                disturb(number)
        response = grading.result(timeout=180)
    found = [(grade.rollout_id, grade.outcome) for grade in response.grades]
    assert found == [(str(n), "incorrect" if n % 2 else "correct") for n in range(24)]


def test_killed_sandboxes_cost_no_grade_and_change_none(composed: Composed) -> None:
    def disturb(number: int) -> None:
        running = [name for name in composed.containers("sandbox") if inspect(name)["State"]["Running"]]
        if running:
            crash(running[number % len(running)])

    grades_under_load(composed, disturb)
    assert until(lambda: str(ready(composed)["sandbox"]["notes"]["runners"]).startswith("all 2 run"), 60), ready(composed)


def test_a_sandbox_more_is_found_and_one_less_is_let_go(composed: Composed) -> None:
    composed.compose("up", "--detach", "--wait", "--no-build", "--no-recreate", "--scale", "sandbox=3")
    assert until(lambda: str(ready(composed)["sandbox"]["notes"]["runners"]).startswith("all 3 run"), 20)
    composed.compose("up", "--detach", "--wait", "--no-build", "--no-recreate", "--scale", "sandbox=2")
    assert until(lambda: str(ready(composed)["sandbox"]["notes"]["runners"]).startswith("all 2 run"), 20)


def test_a_killed_service_leaves_no_program_and_comes_back(composed: Composed) -> None:
    sleeper = "```python\nimport time\ntime.sleep(90)\n```"
    reference = {"tests": [{"stdin": "", "stdout": "x"}], "languages": ["python"], "limits": {"cpu_s": 50}}
    group = {"group_id": "g", "task": "code", "reference": reference, "rollouts": [{"rollout_id": "0", "completion": sleeper}]}
    body = json.dumps({"scheme": "correctness-only", "groups": [group]}).encode()

    def grade() -> None:
        request = urllib.request.Request(f"{composed.url}/v1/grade", body, {"Content-Type": "application/json"})
        with contextlib.suppress(OSError, http.client.HTTPException):
            urllib.request.urlopen(request, timeout=60).close()

    def programs() -> int:
        seen = [docker("top", name, "-eo", "pid,args").count("zygote.py") for name in composed.containers("sandbox")]
        return sum(seen)

    idle = programs()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        pool.submit(grade)
        assert until(lambda: programs() > idle, 20)
        (api,) = composed.containers("api")
        crash(api)
        assert until(lambda: programs() <= idle, 10), "its programs are killed with it"
        assert until(lambda: bool(ready(composed)["ready"]), 60)


def test_without_a_key_the_port_is_published_on_loopback_or_not_at_all(composed: Composed) -> None:
    command = ["docker", "run", "--rm", "--env", "REWARD_HOST=0.0.0.0", "--env", "REWARD_PUBLISHED_HOST=0.0.0.0", "reward-service"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "without a key" in done.stdout + done.stderr
