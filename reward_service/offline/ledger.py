"""The ledger: one line of JSON per row of a dump, appended as grades become known; a run that was killed is continued from it.

The file is the whole state. Each line says which row it is (file, line, content digest), so that lines may come in any order and rows
with the same ids stay apart. A last line without its line feed was being written when the run died: it is cut off, and its row is
graded again.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import msgspec

from reward_service.errors import RewardServiceError
from reward_service.offline.dumps import Problem, Row
from reward_service.records import Grade, Json, Outcome

DIGEST_DIGITS = 15  # hexadecimal digits of a row's digest that are kept in memory, 8 bytes a row


class LedgerError(RewardServiceError):
    """The file is in use, damaged, or another run's. `fault` tells the user's doing from the machine's."""

    def __init__(self, message: str, fault: Literal["usage", "machine"] = "usage") -> None:
        super().__init__(message)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Entry:
    """What the summary needs of one line. `outcome` is None where the row is bad; `reason` is set where it is unscored."""

    task: str | None
    outcome: Outcome | None
    reward: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Stamp:
    """What decided every grade of one run: the scheme, and the versions of service, verifiers and tool chain."""

    scheme: str
    scheme_digest: str
    versions: Mapping[str, str]


class _Scheme(msgspec.Struct):
    digest: str


class _Detail(msgspec.Struct):
    reason: str | None = None


class _Line(msgspec.Struct):
    """The part of a line that a continued run reads again."""

    source: str
    row: int
    digest: str
    scheme: _Scheme
    outcome: Outcome | None
    reward: float | None
    task: str | None = None
    detail: _Detail | None = None


_LINES = msgspec.json.Decoder(_Line)


class Ledger:
    """An open ledger, locked against other runs. Use `open_ledger`."""

    def __init__(self, path: Path, file: io.FileIO, stamp: Stamp, *, with_completions: bool) -> None:
        self._path = path
        self._file = file
        self._with_completions = with_completions
        self._stamp: dict[str, Json] = {
            "scheme": {"name": stamp.scheme, "digest": stamp.scheme_digest},
            "versions": dict(stamp.versions),
        }
        self._scheme_digest = stamp.scheme_digest
        self._graded: dict[str, array[int]] = {}

    def resume(self) -> Iterator[Entry]:
        """Every line that stands in the file; a torn last one is cut off.

        Raises:
            LedgerError: the user's fault: no ledger, or one made under another scheme; or damaged.
        """
        whole = number = 0
        with open(self._path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):
                    self._file.truncate(whole)
                    break
                yield self._read(number, line)
                whole += len(line)

    def has(self, row: Row) -> bool:
        """Whether this row was graded before.

        Raises:
            LedgerError: the user's fault: the dump has another row in that place now.
        """
        graded = self._graded.get(row.source)
        kept = graded[row.number] if graded is not None and row.number < len(graded) else 0
        if kept and kept != _kept(row.digest):
            raise LedgerError(
                f"{self._path}: {row.source} has changed since it was graded (line {row.number}); name another ledger with --out, or begin "
                "anew with --force"
            )
        return kept != 0

    def append(self, row: Row, grade: Grade | None, problem: Problem | None = None) -> Entry:
        """Add a row with its grade, or with what is wrong with it, in one write.

        Raises:
            LedgerError: the machine's fault: the disk is full or failing.
        """
        line: dict[str, Json] = {
            "source": row.source,
            "row": row.number,
            "group_id": _text(row.fields.get("group_id")),
            "rollout_id": _text(row.fields.get("rollout_id")),
            "task": _text(row.fields.get("task")),
            "digest": row.digest,
            **self._stamp,
            **_graded(grade),
            "error": asdict(problem) if problem else None,
        }
        if self._with_completions:
            line["completion"] = row.fields.get("completion")
        self._write(_utf8(json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":"))) + b"\n")
        self._remember(row.source, row.number, row.digest)
        return _entry(line["task"], grade)

    def _write(self, line: bytes) -> None:
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise LedgerError(f"{self._path}: cannot be written: {error.strerror}", "machine") from error

    def _read(self, number: int, line: bytes) -> Entry:
        try:
            read = _LINES.decode(line)
        except msgspec.MsgspecError as error:
            raise LedgerError(f"{self._path}: line {number} is no line of a ledger ({error}); name another file with --out") from error
        if read.scheme.digest != self._scheme_digest:
            raise LedgerError(
                f"{self._path}: was made under another scheme ({read.scheme.digest[:12]}, not {self._scheme_digest[:12]}); name another "
                "ledger with --out, or begin anew with --force"
            )
        if not self._remember(read.source, read.row, read.digest):
            raise LedgerError(f"{self._path}: line {number}: row {read.row} of {read.source} stands there twice")
        return Entry(read.task, read.outcome, read.reward, read.detail.reason if read.detail else None)

    def _remember(self, source: str, number: int, digest: str) -> bool:
        """Keep that a row is graded; False where it was already."""
        graded = self._graded.setdefault(source, array("Q"))
        if number >= len(graded):
            graded.frombytes(bytes(graded.itemsize * (number + 1 - len(graded))))
        known = graded[number] != 0
        graded[number] = _kept(digest)
        return not known


@contextlib.contextmanager
def open_ledger(path: Path, stamp: Stamp, *, with_completions: bool = False, force: bool = False) -> Iterator[Ledger]:
    """The ledger at `path`, new or to be continued (call `resume` first); `force` empties it.

    Raises:
        LedgerError: the user's fault: another run is writing it; or the machine's: it cannot be opened.
    """
    try:
        file = io.FileIO(path, "a")
    except OSError as error:
        raise LedgerError(f"{path}: cannot be opened: {error.strerror}", "machine") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LedgerError(f"{path}: another run is writing it") from error
        if force:
            file.truncate(0)
        yield Ledger(path, file, stamp, with_completions=with_completions)


def _graded(grade: Grade | None) -> dict[str, Json]:
    """The fields of a grade, all null where there is none."""
    if grade is None:
        return dict.fromkeys(("outcome", "reward", "correctness", "terms", "detail"))
    return {
        "outcome": grade.outcome.value,
        "reward": grade.reward,
        "correctness": grade.correctness,
        "terms": asdict(grade.terms) if grade.terms else None,
        "detail": grade.detail,
    }


def _utf8(text: str) -> bytes:
    """UTF-8, with U+FFFD for lone surrogates, which not every reader of JSON takes."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode("utf-8")


def _kept(digest: str) -> int:
    return int(digest[:DIGEST_DIGITS], 16) + 1  # 0 means: not graded


def _text(value: Json) -> str | None:
    """Ids and task of a bad row may be anything."""
    return value if isinstance(value, str) else None


def _entry(task: Json, grade: Grade | None) -> Entry:
    reason = grade.detail.get("reason") if grade else None
    return Entry(_text(task), grade.outcome if grade else None, grade.reward if grade else None, _text(reason))
