"""The command `reward-service`: reads arguments, calls, prints. The work is in `server` and `offline`."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from reward_service.errors import NotScored, RequestError, RewardServiceError
from reward_service.langid import LanguageModelUnusable
from reward_service.offline.check import Concern, Finding, check_rows
from reward_service.offline.dumps import LEDGER_SUFFIX, SUFFIXES, DumpError, ReadGroup, Rename, find_row, open_dump, read_alone
from reward_service.offline.explain import Explanation, explain_rollout
from reward_service.offline.ledger import LedgerError, Stamp, open_ledger
from reward_service.offline.run import Grading, Tally, score_dump
from reward_service.offline.selftest import Line, Works, selftest
from reward_service.offline.tables import print_explanation, print_findings, print_lines, print_summary
from reward_service.records import Group, Json, JsonObject, Outcome
from reward_service.scoring.scheme import Scheme, resolve_scheme
from reward_service.server.requests import read_request
from reward_service.server.service import bounds_of
from reward_service.settings import Settings
from reward_service.wiring import Machine, build_machine

EXIT_CODES = """
Exit codes: 0 all is well; 1 finished, but some rows are bad or unscored; 2 usage: an option, a file or a setting is wrong;
3 this machine lacks something, the message says what; 130 interrupted.
"""


class UsageError(RewardServiceError):
    """The user's fault: an option is wrong."""


class Exit(enum.IntEnum):
    """What the exit code of a command means; the same for all of them."""

    FINE = 0
    SOME_UNSCORED = 1
    USAGE = 2
    MACHINE = 3
    INTERRUPTED = 130


app = typer.Typer(
    name="reward-service",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Grades what a language model wrote and returns the reward that reinforcement learning trains on.\n\n" + EXIT_CODES,
)
SchemeSpec = str | Mapping[str, object]
out = Console()
err = Console(stderr=True)

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting for this run, above the environment's; docs/settings.md lists them."),
]
SchemeOption = Annotated[
    str,
    typer.Option(
        metavar="NAME|JSON|@FILE",
        help="How findings become a reward: `magistral`, `magistral-literal`, `correctness-only`, or an object with `base` and overrides.",
    ),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map", metavar="OURS=THEIRS", help="Where a field stands in the dump: completion=response, reference.answer=ground_truth."
    ),
]


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; without a key it must be loopback.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 0 takes a free one.")] = None,
    settings_: SetOption = None,
) -> None:
    """Run the HTTP service until it is told to stop (SIGTERM or Ctrl-C: it finishes what it has accepted).

    Settings come from the environment (`REWARD_PORT=9000`), and options stand above it. The key that clients must send comes from
    `REWARD_KEY` alone, so that it shows in no process list; without one the service listens on loopback only.

        reward-service serve --port 8000
        curl -s localhost:8000/readyz
    """
    from reward_service.server.app import serve as serve_forever

    with _faults():
        settings = _settings(settings_, host=host, port=port)
        serve_forever(settings)


@app.command()
def score(
    dump: Annotated[str, typer.Argument(metavar="DUMP", help=f"A file ({', '.join(SUFFIXES)}), a folder of them, or a quoted pattern.")],
    ledger_path: Annotated[
        Path | None, typer.Option("--out", metavar="LEDGER", help=f"Where the grades go; default: beside the dump, NAME{LEDGER_SUFFIX}.")
    ] = None,
    scheme: SchemeOption = "magistral",
    renames: MapOption = None,
    with_completions: Annotated[bool, typer.Option("--with-completions", help="Copy each completion into its line of the ledger.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Empty the ledger and begin anew.")] = False,
    settings_: SetOption = None,
) -> None:
    """Grade a dump of rollouts into a ledger, one line per row.

    A row is an object with `group_id`, `rollout_id`, `task`, `reference`, `completion`, and where the scheme needs them `prompt` and
    `completion_tokens`; other keys are left alone. The reference is that of the HTTP API (docs/protocol.md).

    A run that was stopped, or killed, is continued by the same command: every row stands in the ledger exactly once. A bad row is a line
    that says what is wrong with it.

        reward-service score rollouts.jsonl --scheme magistral --map completion=response
    """
    started = time.monotonic()
    with _faults():
        spec, settings = _scheme_spec(scheme), _settings(settings_)
        resolved = _resolve(spec)
        rows = open_dump(dump)
        path = ledger_path or _beside(dump)
        if any(path.exists() and path.samefile(file) for file, _ in rows.files):
            raise UsageError(f"{path}: the ledger would overwrite the dump")
        parsed = [Rename.parse(written) for written in renames or ()]

        async def run() -> Tally:
            async with _machine(settings) as machine:
                stamp = Stamp(resolved.name, resolved.digest, machine.versions())
                grading = Grading(resolved, _group_reader(spec, settings), lambda: machine.effects("offline", None))
                with open_ledger(path, stamp, with_completions=with_completions, force=force) as ledger, _progress(rows.size) as show:
                    return await score_dump(rows, ledger, grading, renames=parsed, on_progress=show)

        tally = asyncio.run(run())
        print_summary(out, tally, path, time.monotonic() - started)
        raise typer.Exit(Exit.FINE if tally.all_scored else Exit.SOME_UNSCORED)


@app.command()
def explain(
    dump: Annotated[str | None, typer.Option(help="Take the rollout from this dump: with --row, or --group and --rollout.")] = None,
    row: Annotated[int | None, typer.Option(min=1, help="The row's line in the dump, counted from 1.")] = None,
    group: Annotated[str | None, typer.Option(help="The row's `group_id`; the first one found.")] = None,
    rollout: Annotated[str | None, typer.Option(help="The row's `rollout_id`; the first one found.")] = None,
    task: Annotated[str | None, typer.Option(help="Without a dump: math, choice or code.")] = None,
    reference: Annotated[str | None, typer.Option(metavar="JSON|@FILE", help="Without a dump: the reference, as in the HTTP API.")] = None,
    completion: Annotated[str | None, typer.Option(metavar="TEXT|@FILE", help="Without a dump: what the model wrote.")] = None,
    prompt: Annotated[str | None, typer.Option(metavar="TEXT|@FILE", help="Without a dump: what the model read.")] = None,
    language: Annotated[str | None, typer.Option(help="Without a dump: the wanted language, as a code.")] = None,
    completion_tokens: Annotated[int | None, typer.Option(help="Without a dump: the completion's length in tokens.")] = None,
    scheme: SchemeOption = "magistral",
    renames: MapOption = None,
    settings_: SetOption = None,
) -> None:
    r"""Tell every step of one rollout's way, and why it got its reward.

    The rollout comes from a dump, or from the options. Each step says what it found: the split, the format gate, the extracted answer,
    the verifier (of a program every test, and of the first failed one input, expected output and what came instead), language, length,
    and the sum.

        reward-service explain --dump rollouts.jsonl --row 17
        reward-service explain --scheme correctness-only --task math --reference '{"answer": "1/2"}' --completion '\boxed{0.5}'
    """
    with _faults():
        spec, settings = _scheme_spec(scheme), _settings(settings_)
        resolved = _resolve(spec)
        if dump is not None:
            parsed = [Rename.parse(written) for written in renames or ()]
            fields = find_row(open_dump(dump).rows(parsed), row, group, rollout).fields
        else:
            fields = _row_of_options(task, reference, completion, prompt, language, completion_tokens)
        one = read_alone(fields, _group_reader(spec, settings))

        async def run() -> Explanation:
            async with _machine(settings) as machine:
                return await explain_rollout(one, resolved, machine.effects("explain", None))

        explanation = asyncio.run(run())
        print_explanation(out, explanation)
        raise typer.Exit(Exit.SOME_UNSCORED if explanation.grade.outcome is Outcome.UNSCORED else Exit.FINE)


@app.command()
def check(
    data: Annotated[str, typer.Argument(help="A file, a folder or a pattern in quotes: .jsonl, .jsonl.gz, .jsonl.zst.")],
    solutions: Annotated[
        bool, typer.Option("--solutions", help="The rows' completions are known solutions: tell those that fail.")
    ] = False,
    show: Annotated[int, typer.Option(min=0, help="Rows shown of each kind; all of them are counted.")] = 10,
    renames: MapOption = None,
    settings_: SetOption = None,
) -> None:
    r"""Go through a data set before a run.

    Tells references that cannot be used (math that does not parse or does not equal itself, tests and checkers that fail alone, languages
    that are missing here), and math references over which a debatable convention decides (docs/math-conventions.md), with how they
    were read. Completions are not needed, nor ids. Exit code 1 where something is unusable or a solution fails.

        reward-service check train.jsonl --map reference.answer=answer
    """
    with _faults():
        spec, settings = "correctness-only", _settings(settings_)
        parsed = [Rename.parse(written) for written in renames or ()]

        async def run() -> list[Finding]:
            async with _machine(settings) as machine:
                rows = open_dump(data).rows(parsed)
                found = check_rows(rows, _group_reader(spec, settings), machine.effects("check", None), solutions=solutions)
                return [finding async for finding in found]

        findings = asyncio.run(run())
        print_findings(out, findings, show)
        raise typer.Exit(Exit.FINE if all(each.concern is Concern.DEBATABLE for each in findings) else Exit.SOME_UNSCORED)


@app.command(name="selftest")
def selftest_command(settings_: SetOption = None) -> None:
    """Try what this machine can do and say what to do about the rest.

    Starts the workers, the language model and the sandbox as `serve` would, and grades a canary of each task and programming language.
    Exit code 3 where something does not work.
    """
    with _faults():
        machine = build_machine(_settings(settings_))

        async def run() -> list[Line]:
            try:
                return [line async for line in selftest(machine)]
            finally:
                await machine.close()

        lines = asyncio.run(run())
        print_lines(out, lines)
        raise typer.Exit(Exit.FINE if all(line.works is not Works.NO for line in lines) else Exit.MACHINE)


# ---- what commands share ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    """Say whose fault an error is, without a traceback, and exit with its code."""
    try:
        yield
    except (UsageError, DumpError, RequestError) as error:
        _fail(str(error), Exit.USAGE)
    except LedgerError as error:
        _fail(str(error), Exit.USAGE if error.fault == "usage" else Exit.MACHINE)
    except (LanguageModelUnusable, NotScored) as error:
        _fail(f"{error} (`reward-service selftest` says what works here)", Exit.MACHINE)
    except KeyboardInterrupt:
        _fail("interrupted; the same command continues", Exit.INTERRUPTED)


def _fail(message: str, code: Exit) -> None:
    err.print(Text(message, style="red"))
    raise typer.Exit(code)


def _settings(written: list[str] | None, **options: object) -> Settings:
    """The environment's settings, with `--set` and then the options above them."""
    values: dict[str, Any] = {}
    for item in written or ():
        name, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"--set {item}: must look like NAME=VALUE")
        values[name] = value
    values |= {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(**values)
    except ValidationError as error:
        found = (f"{'.'.join(map(str, detail['loc'])) or 'settings'}: {detail['msg']}" for detail in error.errors(include_url=False))
        raise UsageError("; ".join(found)) from None
    except ValueError as error:
        raise UsageError(str(error)) from None


def _scheme_spec(written: str) -> SchemeSpec:
    text = _text_or_file(written) or ""
    if not text.lstrip().startswith("{"):
        return text.strip()
    try:
        spec: Mapping[str, object] = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"--scheme is not JSON: {error}") from None
    return spec


def _resolve(spec: SchemeSpec) -> Scheme:
    try:
        return resolve_scheme(spec)
    except RequestError as error:
        raise UsageError(f"--scheme {error.pointer}: {error.message}".replace(" :", ":")) from None


def _group_reader(spec: SchemeSpec, settings: Settings) -> ReadGroup:
    """Reads groups exactly as the server does."""
    bounds = bounds_of(settings)

    def read(group: JsonObject) -> Group:
        body = json.dumps({"scheme": spec, "groups": [group]})
        try:
            return read_request(body.encode("ascii"), bounds).groups[0]
        except RequestError as error:
            raise RequestError(error.pointer.removeprefix("/groups/0"), error.message) from None

    return read


@contextlib.asynccontextmanager
async def _machine(settings: Settings) -> AsyncIterator[Machine]:
    machine = build_machine(settings)
    try:
        await machine.start()
        if machine.sandbox_fault is not None:
            err.print(Text(f"code is not graded here: {machine.sandbox_fault}", style="yellow"))
        yield machine
    finally:
        await machine.close()


def _beside(dump: str) -> Path:
    """Where the ledger of a dump goes: beside the file or folder, and for a pattern into the current folder."""
    path = Path(dump)
    if not path.exists():
        return Path(f"scores{LEDGER_SUFFIX}")
    suffix = next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), "")
    return path.absolute().parent / (path.name.removesuffix(suffix) + LEDGER_SUFFIX)


def _text_or_file(written: str | None) -> str | None:
    """The text, or after `@` the content of a file (`@-`: of standard input)."""
    if written is None or not written.startswith("@"):
        return written
    if written == "@-":
        return sys.stdin.read()
    try:
        return Path(written[1:]).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{written[1:]}: {error.strerror}") from error


def _row_of_options(
    task: str | None, reference: str | None, completion: str | None, prompt: str | None, language: str | None, completion_tokens: int | None
) -> JsonObject:
    if task is None or reference is None or completion is None:
        raise UsageError("say --dump FILE with --row N (or --group and --rollout), or --task, --reference and --completion")
    try:
        parsed: Json = json.loads(_text_or_file(reference) or "")
    except json.JSONDecodeError as error:
        raise UsageError(f"--reference is not JSON: {error}") from error
    fields: dict[str, Json] = {"group_id": "explain", "rollout_id": "0", "task": task, "reference": parsed}
    others: JsonObject = {
        "completion": _text_or_file(completion),
        "prompt": _text_or_file(prompt),
        "language": language,
        "completion_tokens": completion_tokens,
    }
    return fields | {name: value for name, value in others.items() if value is not None}


# ---- what commands print ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _progress(size: int) -> Iterator[Callable[[Tally], None]]:
    """A bar on standard error, by bytes of the dump; nothing where that is no terminal."""
    columns = (
        TextColumn("grading"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[rows]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        bar = progress.add_task("grading", total=size or 1, rows="")

        def show(tally: Tally) -> None:
            progress.update(bar, completed=tally.position, rows=f"{tally.rows:,} rows, {tally.kept:,} of them before")

        yield show
