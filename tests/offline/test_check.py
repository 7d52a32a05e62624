"""`reward-service check`: what a data set's owner is told before a run."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from reward_service.effects import Effects, Task
from reward_service.errors import JobKilled
from reward_service.offline.check import Concern, Finding, check_rows
from reward_service.offline.dumps import open_dump
from reward_service.offline.tables import print_findings
from reward_service.records import Group, JsonObject
from reward_service.server.requests import read_request
from reward_service.server.service import bounds_of
from reward_service.settings import Settings
from sandbox.fake import FakeSandbox
from sandbox.interface import Job, RunResult, Status


class Inline:
    """Runs tasks in this process; `killed` names a function that exceeds its limit."""

    def __init__(self, killed: str = "") -> None:
        self.killed = killed

    async def run(self, task: Task[Any], *args: object) -> Any:
        if task.function.__name__ == self.killed:
            raise JobKilled("cpu_limit")
        return task.function(*args)


def answer(job: Job, index: int) -> RunResult:
    return RunResult(index, Status.FINISHED, stdout=b"3\n", exit_code=0, cpu_s=0.01, memory_bytes=9 << 20)


def read_group(group: JsonObject) -> Group:
    return read_request(json.dumps({"scheme": "correctness-only", "groups": [group]}).encode(), bounds_of(Settings())).groups[0]


def check(tmp_path: Path, *rows: Any, killed: str = "", solutions: bool = False) -> list[Finding]:
    path = tmp_path / "data.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8")
    effects = Effects(Inline(killed), FakeSandbox(answer), None)  # type: ignore[arg-type]

    async def run() -> list[Finding]:
        return [finding async for finding in check_rows(open_dump(str(path)).rows(), read_group, effects, solutions=solutions)]

    return asyncio.run(run())


def math(answer: str, **more: Any) -> dict[str, Any]:
    return {"task": "math", "reference": {"answer": answer}, **more}


def told(findings: list[Finding]) -> list[tuple[int, Concern, str]]:
    return [(finding.number, finding.concern, finding.what) for finding in findings]


def test_what_is_plain_is_not_told(tmp_path: Path) -> None:
    assert check(tmp_path, math("42"), math(r"\frac{1}{2}"), math("x+y"), math(r"\text{even}")) == []


def test_debatable_references_are_told_with_their_convention_and_reading(tmp_path: Path) -> None:
    rows = [
        math(each)
        for each in ("0.333", "x=5", "(1,2)", "1, 2", "25_6", r"10\%", r"45^\circ", r"5\text{ cm}", "t^2", "3,14", "1,234", r"\foo{2}")
    ]
    findings = check(tmp_path, *rows)
    assert [what for _, concern, what in told(findings) if concern is Concern.DEBATABLE] == [
        "rounding", "assignments", "bare_tuples", "list_order", "base_suffix", "percent", "angles", "units", "variables",
        "decimal_comma", "list_order", "ambiguous", "list_order", "words",
    ]  # fmt: skip
    assert findings[1].read_as == "x = 5"
    assert next(each.read_as for each in findings if each.what == "ambiguous") == "1234; 1, 234"


def test_unusable_references_are_told_once(tmp_path: Path) -> None:
    findings = check(tmp_path, math(r"\frac{1}{"), math(r"\frac{1}{"), math("2"))
    assert [(number, concern) for number, concern, _ in told(findings)] == [(1, Concern.UNUSABLE)]
    assert "cannot be used" in findings[0].what
    assert findings[0].reference == '{"answer": "\\\\frac{1}{"}'


def test_a_reference_that_exceeds_its_limit_is_unusable(tmp_path: Path) -> None:
    (finding,) = check(tmp_path, math("2"), killed="prepare_lightly")
    assert (finding.concern, "cpu_limit" in finding.what) == (Concern.UNUSABLE, True)


def test_rows_that_are_none_are_told(tmp_path: Path) -> None:
    findings = check(tmp_path, "{", {"task": "math"}, {"task": "nope", "reference": {"answer": "1"}}, math("2"))
    assert [(number, concern) for number, concern, _ in told(findings)] == [(each, Concern.BAD_ROW) for each in (1, 2, 3)]


def test_solutions_that_fail_are_told(tmp_path: Path) -> None:
    rows = [math("2", completion=r"\boxed{2}"), math("2", completion=r"\boxed{3}"), math("2", completion="none")]
    assert [(number, concern) for number, concern, _ in told(check(tmp_path, *rows, solutions=True))] == [
        (2, Concern.SOLUTION),
        (3, Concern.SOLUTION),
    ]


def test_the_table_counts_what_it_does_not_show() -> None:
    text = io.StringIO()
    findings = [Finding("a.jsonl", number, Concern.DEBATABLE, "rounding", "0.3", "3/10") for number in range(5)]
    print_findings(Console(file=text, width=120), findings, show=2)
    assert text.getvalue().count("a.jsonl:") == 2
    assert "debatable rounding: 5" in text.getvalue()
    print_findings(Console(file=text, width=120), [], show=2)
    assert "nothing to tell" in text.getvalue()
