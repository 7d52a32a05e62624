"""What commands print: tables on a console."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from reward_service.offline.check import Concern, Finding
from reward_service.offline.explain import Explanation
from reward_service.offline.run import BAD_ROW, Tally
from reward_service.offline.selftest import Line, Works
from reward_service.records import Outcome


def print_summary(out: Console, tally: Tally, path: Path, took_s: float) -> None:
    """What came of scoring a dump."""
    outcomes = [*(outcome.value for outcome in Outcome), BAD_ROW]
    table = Table("task", "rows", *outcomes, "mean reward", title=str(path), title_justify="left")
    for task, counts in sorted(tally.outcomes.items()):
        mean = tally.reward_mean(task)
        table.add_row(
            escape(task), f"{counts.total():,}", *(f"{counts[outcome]:,}" for outcome in outcomes), "-" if mean is None else f"{mean:.4f}"
        )
    out.print(table)
    for reason, count in tally.reasons.most_common():
        out.print(f"unscored: {escape(reason)} {count:,}")
    new = tally.rows - tally.kept
    out.print(f"{new:,} rows graded in {took_s:.1f} s ({new / max(took_s, 1e-9):,.0f} rows/s), {tally.kept:,} stood there before")


def print_explanation(out: Console, explanation: Explanation) -> None:
    """Every step, and the outcome."""
    table = Table("step", "finding", show_lines=True)
    for step in explanation.steps:
        finding = Text(step.finding)
        for name, value in step.facts:
            finding.append(f"\n{name}: ", style="dim").append(value.replace("\n", "\n    ") if "\n" in value.rstrip() else value.rstrip())
        table.add_row(Text(step.name, style="bold"), finding)
    out.print(table)
    grade = explanation.grade
    reward = "null" if grade.reward is None else f"{grade.reward:g}"
    out.print(Text(f"{grade.outcome.value}, reward {reward}", style="bold green" if grade.outcome is Outcome.CORRECT else "bold"))


def print_lines(out: Console, lines: list[Line]) -> None:
    """What works on this machine, and what to do about the rest."""
    table = Table("what", "works", "found", "what to do", show_lines=True)
    styles = {Works.YES: "green", Works.PARTLY: "yellow", Works.NO: "bold red"}
    for line in lines:
        advice = "" if line.works is Works.YES else line.advice
        table.add_row(Text(line.name), Text(line.works, style=styles[line.works]), Text(line.found), Text(advice))
    out.print(table)


def print_findings(console: Console, findings: Sequence[Finding], show: int) -> None:
    """A table with the first `show` rows of each kind, and the count of all."""
    table = Table("row", "concern", "what", "reference", "read as", show_lines=True)
    counts: Counter[tuple[Concern, str]] = Counter()
    for finding in findings:
        kind = (finding.concern, finding.what if finding.concern is Concern.DEBATABLE else "")
        counts[kind] += 1
        if counts[kind] <= show:
            cells = (f"{finding.source}:{finding.number}", finding.concern, finding.what, finding.reference, finding.read_as)
            table.add_row(*map(Text, cells))
    if table.row_count:
        console.print(table)
    for (concern, what), count in sorted(counts.items()):
        console.print(Text(f"{concern} {what}".strip() + f": {count:,}"))
    if not findings:
        console.print("nothing to tell")
