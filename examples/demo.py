"""Start the service on a free port, grade the examples through the client, show every grade, compare it with what was worked out by hand.

The exit code is 0 when all grades are as expected. What this machine cannot run (no g++, no user namespaces) is said and left out.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from reward_service.client import Grade, GradeResponse, Readiness, RewardClient, ServiceUnavailable

HERE = Path(__file__).parent
# The paper's scheme with its length term switched on: soft limit 400 tokens, hard limit 600, so that short examples can be too long.
SCHEME = {"base": "magistral", "l_max": 600, "l_cache": 200}
TERMS = ("format", "correctness", "length", "language")
STYLES = {"correct": "green", "incorrect": "yellow", "format_violation": "red", "unscored": "magenta"}
MIN_COLUMNS = 110
START_S = 60.0
STOP_S = 40.0

Row = Mapping[str, Any]


def main() -> int:
    """Grade, print, compare."""
    console = Console(width=max(MIN_COLUMNS, Console().width) if sys.stdout.isatty() else 140)
    texts = ((HERE / f"{task}.jsonl").read_text(encoding="utf-8") for task in ("math", "choice", "code"))
    rows = [json.loads(line) for text in texts for line in text.splitlines()]
    with running_service(console) as (client, readiness):
        rows = gradable(rows, readiness, console)
        with console.status(f"grading {len(rows)} rollouts (some programs run into their time limit on purpose)"):
            response = client.grade(groups_of(rows), SCHEME, on_unscored="return")
    console.print(table_of(rows, response))
    print_summary(response, console)
    return compare(rows, response, console)


@contextlib.contextmanager
def running_service(console: Console) -> Iterator[tuple[RewardClient, Readiness]]:
    """The service in a process of its own, ready; stopped at the end, whatever happens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REWARD_")}
    if shutil.which("g++") is None:
        environment["REWARD_LANGUAGES"] = "python"
    command = [str(Path(sys.executable).with_name("reward-service")), "serve", "--port", str(port)]
    with tempfile.TemporaryFile("w+") as log:
        service = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            with RewardClient(f"http://127.0.0.1:{port}") as client, console.status("starting the service"):
                started = time.monotonic()
                readiness = wait_until_up(client, service, log)
                console.print(f"service: http://127.0.0.1:{port}, up after {time.monotonic() - started:.1f} s")
                yield client, readiness
        finally:
            stop(service)


def wait_until_up(client: RewardClient, service: subprocess.Popen[bytes], log: Any) -> Readiness:
    """What the service says of itself once it grades.

    Raises:
        SystemExit: it ended, or took longer than a minute; its last words are the message.
    """
    deadline = time.monotonic() + START_S
    while service.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(ServiceUnavailable):
            readiness = client.ready()
            if readiness.ready or readiness.report["tasks"]["math"]:
                return readiness
        time.sleep(0.1)
    log.seek(0)
    raise SystemExit("the service did not start:\n" + "".join(log.readlines()[-20:]))


def stop(service: subprocess.Popen[bytes]) -> None:
    """Ask it to finish, and insist."""
    service.terminate()
    try:
        service.wait(STOP_S)
    except subprocess.TimeoutExpired:
        service.kill()
        service.wait()


def gradable(rows: Sequence[Row], readiness: Readiness, console: Console) -> list[Row]:
    """The rows that this machine can grade; says what it lacks and what to do about it."""
    if not readiness.report["tasks"]["code"]:
        console.print(f"[yellow]no program runs on this machine, so that code is left out: {'; '.join(readiness.report['reasons'])}")
        return [row for row in rows if row["task"] != "code"]
    if "cpp" not in readiness.report["languages"]:
        reason = "g++ is missing (Debian, Ubuntu: apt-get install g++)" if shutil.which("g++") is None else "see reward-service selftest"
        console.print(f"[yellow]no C++ runs on this machine, so that C++ programs are left out: {reason}")
        return [row for row in rows if not is_cpp(row)]
    return list(rows)


def is_cpp(row: Row) -> bool:
    """Whether the rollout is a C++ program."""
    return row["task"] == "code" and any(fence in row["completion"] for fence in ("```cpp", "```C++"))


def groups_of(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The request's groups: what is the same for all rollouts of a prompt is sent once."""
    groups: dict[str, dict[str, Any]] = {}
    for row in rows:
        shared = {name: row[name] for name in ("group_id", "task", "prompt", "reference")}
        group = groups.setdefault(row["group_id"], {**shared, "rollouts": []})
        group["rollouts"].append({name: row[name] for name in ("rollout_id", "completion", "completion_tokens")})
    return list(groups.values())


def table_of(rows: Sequence[Row], response: GradeResponse) -> Table:
    """A line per rollout, a column per term, and why."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name in ("rollout", "outcome"):
        table.add_column(name, no_wrap=True)
    for name in ("reward", *TERMS):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why")
    last = None
    for row, grade in zip(rows, response.grades, strict=True):
        if grade.group_id != last:
            table.add_section()
            table.add_row(f"[bold]{grade.group_id}")
            last = grade.group_id
        numbers = (number(value) for value in (grade.reward, *(grade.terms[name] for name in TERMS)))
        table.add_row(grade.rollout_id, grade.outcome, *numbers, why(row, grade), style=STYLES[grade.outcome])
    return table


def number(value: float | None) -> str:
    """A reward or a term; a rollout without a reward has none, which is not 0."""
    return "null" if value is None else f"{value:.4f}".rstrip("0").rstrip(".")


def why(row: Row, grade: Grade) -> str:
    """What the grade says of its reasons."""
    detail = grade.detail
    reasons = [str(detail[name]) for name in ("violation", "reason") if name in detail]
    if failure := detail.get("first_failure"):
        reasons.append(failure["status"] if failure["index"] is None else f"{failure['status']}, test {failure['index']}")
    elif grade.outcome == "incorrect":
        reasons.append(f"{detail.get('answer')} is not {row['reference'].get('answer') or row['reference']['answers'][0]}")
    if grade.outcome in ("correct", "incorrect"):
        if not grade.terms["language"]:
            reasons.append("not one language")
        if grade.terms["length"]:
            reasons.append(f"{row['completion_tokens']} tokens")
    return "; ".join(reasons).replace("[", "\\[")


def print_summary(response: GradeResponse, console: Console) -> None:
    """A line per group, and how long it took."""
    for group in response.groups:
        mean, std = number(group["reward_mean"]), number(group["reward_std"])
        advantage = {True: "all rewards equal: no advantage", False: "", None: "too few rewards to compare"}[group["zero_advantage"]]
        scored = f"{group['scored']} of {group['rollouts']} scored"
        console.print(f"{group['group_id']:<24}{scored:<18}mean {mean:<9}std {std:<9}{advantage}", highlight=False)
    took_s, count = response.service["took_s"], len(response.grades)
    console.print(
        f"{count} rollouts in {took_s:.1f} s, {count / took_s:.1f} per second; scheme {response.scheme['digest'][:12]}", highlight=False
    )


def compare(rows: Sequence[Row], response: GradeResponse, console: Console) -> int:
    """The exit code: 0 when every grade is the one worked out by hand."""
    wrong = [row for row, grade in zip(rows, response.grades, strict=True) if not as_expected(row["expected"], grade)]
    for row in wrong:
        console.print(f"[red]not as expected: {row['group_id']} {row['rollout_id']}: {json.dumps(row['expected'])} ({row['why']})")
    if not wrong:
        console.print(f"[green]all {len(rows)} grades are as worked out by hand from the published rule (examples/README.md)")
    return 1 if wrong else 0


def as_expected(expected: Row, grade: Grade) -> bool:
    """Whether outcome, reward, terms, and what the row says of the detail are as expected."""
    pairs = [(expected["reward"], grade.reward), *((expected["terms"][name], grade.terms[name]) for name in TERMS)]
    same = all(want is got if want is None or got is None else math.isclose(want, got, abs_tol=1e-9) for want, got in pairs)
    found = {**grade.detail, "status": (grade.detail.get("first_failure") or {}).get("status")}
    return same and expected["outcome"] == grade.outcome and expected.get("detail", {}).items() <= found.items()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the service is stopped then, too
    sys.exit(main())
