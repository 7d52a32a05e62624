"""Dumps of rollouts: one JSON object per line, read a row at a time in bounded memory and gathered into groups.

A dump is a `.jsonl`, `.jsonl.gz` or `.jsonl.zst` file, a folder of them, or a glob pattern. Bad rows are data here, not errors: each
keeps its place and says what is wrong with it.
"""

from __future__ import annotations

import glob
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import zstandard

from reward_service.errors import RequestError, RewardServiceError
from reward_service.records import Group, Json, JsonObject

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst")
LEDGER_SUFFIX = ".ledger.jsonl"
MAX_ROW_BYTES = 256 << 20
MAX_ID_CHARACTERS = 1024
ZSTD_PIECE_BYTES = 1 << 10  # four bytes of zstd may say 128 KiB, so that one piece becomes at most 32 MiB
MAX_BATCH_ROLLOUTS = 64
MAX_BATCH_BYTES = 4 << 20  # of rows as they stand in the dump; a longer row is a batch alone
GROUP_FIELDS = ("group_id", "task", "reference", "prompt", "language")
ROLLOUT_FIELDS = ("rollout_id", "completion", "completion_tokens")
REQUIRED_FIELDS = ("group_id", "rollout_id", "task", "reference", "completion")

ReadGroup = Callable[[JsonObject], Group]  # a group of the native API; raises RequestError with a pointer relative to the group


class DumpError(RewardServiceError):
    """The user's fault: there is no such dump, or it is damaged. The message says where."""


@dataclass(frozen=True, slots=True)
class Rename:
    """`--map target=source`: where a field of ours stands in this dump, both as paths of keys ("reference.answer=ground_truth")."""

    target: tuple[str, ...]
    source: str

    @classmethod
    def parse(cls, written: str) -> Rename:
        """From `target=source`.

        Raises:
            DumpError: the user's fault: not of that form, or no field that a row has.
        """
        target, equals, source = written.partition("=")
        path = tuple(target.split("."))
        if not equals or not source or not all(path):
            raise DumpError(f"--map {written}: must look like completion=response or reference.answer=ground_truth")
        if path[0] not in GROUP_FIELDS + ROLLOUT_FIELDS:
            raise DumpError(f"--map {written}: no field of a row; these are {', '.join(GROUP_FIELDS + ROLLOUT_FIELDS)}")
        return cls(path, source)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a row: a JSON pointer into it ("" for the row itself) and a message."""

    pointer: str
    message: str


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a dump: where it stands, what it says, or what is wrong with it.

    `number` counts the lines of its file from 1, blank ones too. `digest` is the SHA-256 of the row's canonical JSON (of its bytes
    where it is no JSON). `fields` holds the fields of this service's words, after `--map`. `position` is how many bytes of the whole
    dump, as stored, had been read when the row was.
    """

    source: str
    number: int
    digest: str
    size: int
    position: int
    fields: JsonObject
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive rows of one group, as a group whose rollout ids are places in `rows`; or, without a group, rows that are bad."""

    rows: tuple[Row, ...]
    group: Group | None


@dataclass(frozen=True, slots=True)
class Dump:
    """The files of a dump in reading order, with the names that the ledger calls them, and their size in bytes."""

    files: tuple[tuple[Path, str], ...]
    size: int

    def rows(self, renames: Sequence[Rename] = ()) -> Iterator[Row]:
        """All rows, a row at a time; blank lines are left out.

        Raises:
            DumpError: the user's fault: a file cannot be read to its end. All rows before that place have been given.
        """
        before = 0
        for path, source in self.files:
            yield from _rows_of(path, source, before, renames)
            before += path.stat().st_size


def open_dump(argument: str) -> Dump:
    """The dump that a file name, a folder or a glob pattern means; of folders and patterns all files with a known suffix, sorted by name.

    Raises:
        DumpError: the user's fault: nothing there, or a file of another kind.
    """
    path = Path(argument)
    if path.is_dir():
        files = [(file, file.relative_to(path).as_posix()) for file in sorted(path.rglob("*")) if _is_dump(file)]
    elif path.is_file():
        if not path.name.endswith(SUFFIXES):
            raise DumpError(f"{argument}: not one of {', '.join(SUFFIXES)}")
        files = [(path, path.name)]
    else:
        root = next(parent for parent in path.parents if not glob.has_magic(str(parent)))
        found = (Path(file) for file in sorted(glob.glob(argument, recursive=True)))
        files = [(file, file.relative_to(root).as_posix()) for file in found if _is_dump(file)]
    if not files:
        raise DumpError(f"{argument}: no such file, folder or pattern with {', '.join(SUFFIXES)}")
    return Dump(tuple(files), sum(file.stat().st_size for file, _ in files))


def batches(rows: Iterable[Row], read_group: ReadGroup) -> Iterator[Batch]:
    """Rows as batches of consecutive rows of the same group, bounded in number and bytes; every row is in exactly one batch.

    Raises:
        DumpError: as `rows` does, after all rows before it.
    """
    waiting: list[Row] = []
    size = 0
    try:
        for row in rows:
            if row.problem is not None:
                yield Batch((row,), None)
                continue
            full = len(waiting) >= MAX_BATCH_ROLLOUTS or size + row.size > MAX_BATCH_BYTES
            if waiting and (full or not _same_group(waiting[0].fields, row.fields)):
                yield from _read_batch(waiting, read_group)
                waiting, size = [], 0
            waiting.append(row)
            size += row.size
    except DumpError:
        yield from _read_batch(waiting, read_group)
        raise
    yield from _read_batch(waiting, read_group)


def find_row(rows: Iterable[Row], number: int | None, group_id: str | None, rollout_id: str | None) -> Row:
    """The first row with this line number and these ids, as far as they are given.

    Raises:
        DumpError: the user's fault: there is none, or it is bad.
    """
    for row in rows:
        ids = ((group_id, row.fields.get("group_id")), (rollout_id, row.fields.get("rollout_id")))
        if number in (None, row.number) and all(wanted in (None, found) for wanted, found in ids):
            if row.problem is not None:
                raise DumpError(f"{row.source}, line {row.number}: {row.problem.pointer or 'the row'} {row.problem.message}")
            return row
    raise DumpError("no such row in the dump")


def read_alone(fields: JsonObject, read_group: ReadGroup) -> Group:
    """One row's fields as a group of one rollout, which keeps its id.

    Raises:
        RequestError: the row's fault; the pointer is relative to the row.
    """
    rollout: JsonObject = {name: fields[name] for name in ROLLOUT_FIELDS if name in fields}
    try:
        return read_group({**{name: fields[name] for name in GROUP_FIELDS if name in fields}, "rollouts": [rollout]})
    except RequestError as error:
        raise RequestError(_pointer_in_row(error.pointer), error.message) from None


def canonical_digest(row: Json) -> str:
    """SHA-256, in hexadecimal, of JSON with sorted keys and no spaces, UTF-8; what identifies a row's content."""
    text = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class _ZstdReader(io.RawIOBase):
    """The plain bytes of all zstd frames of a stream; unlike the library's own reader it tells a stream that was cut off."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._compressed = b""
        self._plain = memoryview(b"")
        self._inside = False

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer; 0 at the end.

        Raises:
            EOFError: the user's fault: the stream ends inside a frame.
            zstandard.ZstdError: the user's fault: damaged.
        """
        while not self._plain:
            if not self._compressed:
                self._compressed = self._raw.read(ZSTD_PIECE_BYTES)
            if not self._compressed:
                if self._inside:
                    raise EOFError("the last zstd frame is cut off")
                return 0
            self._feed()
        target = memoryview(buffer).cast("B")
        size = min(len(target), len(self._plain))
        target[:size] = self._plain[:size]
        self._plain = self._plain[size:]
        return size

    def _feed(self) -> None:
        self._plain = memoryview(self._frame.decompress(self._compressed))
        self._inside = not self._frame.eof
        self._compressed = self._frame.unused_data if self._frame.eof else b""
        if self._frame.eof:
            self._frame = zstandard.ZstdDecompressor().decompressobj()


def _is_dump(path: Path) -> bool:
    return path.is_file() and path.name.endswith(SUFFIXES) and not path.name.endswith(LEDGER_SUFFIX)


def _rows_of(path: Path, source: str, before: int, renames: Sequence[Rename]) -> Iterator[Row]:
    number = 0
    try:
        with path.open("rb") as raw, _plain(raw, path) as lines:
            while line := lines.readline(MAX_ROW_BYTES + 1):
                number += 1
                if len(line) > MAX_ROW_BYTES:
                    _skip_line(lines, line)
                    line = line[:MAX_ROW_BYTES]
                    yield _bad(source, number, line, before + raw.tell(), Problem("", f"longer than {MAX_ROW_BYTES:,} bytes"))
                elif line.strip():
                    yield _parse(source, number, line, before + raw.tell(), renames)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise DumpError(f"{path}: cannot be read after line {number}: {error}") from error


def _plain(raw: BinaryIO, path: Path) -> BinaryIO | io.BufferedReader:
    if path.name.endswith(".gz"):
        return io.BufferedReader(gzip.GzipFile(fileobj=raw))
    if path.name.endswith(".zst"):
        return io.BufferedReader(_ZstdReader(raw))
    return raw


def _skip_line(lines: BinaryIO | io.BufferedReader, line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = lines.readline(1 << 20)


def _bad(source: str, number: int, line: bytes, position: int, problem: Problem) -> Row:
    return Row(source, number, hashlib.sha256(line).hexdigest(), len(line), position, {}, problem)


def _parse(source: str, number: int, line: bytes, position: int, renames: Sequence[Rename]) -> Row:
    try:
        value: Json = json.loads(line)
        digest = canonical_digest(value)
    except json.JSONDecodeError as error:
        return _bad(source, number, line, position, Problem("", f"not JSON: {error.msg} (column {error.colno})"))
    except UnicodeDecodeError as error:
        return _bad(source, number, line, position, Problem("", f"not UTF-8 (byte {error.start})"))
    except (ValueError, RecursionError):  # an integer of more digits than Python reads; nested too deep
        return _bad(
            source, number, line, position, Problem("", "not JSON that can be read: a number of too many digits, or nested too deep")
        )
    if not isinstance(value, Mapping):
        return _bad(source, number, line, position, Problem("", "must be a JSON object"))
    fields = _fields(value, renames)
    return Row(source, number, digest, len(line), position, fields, _problem(fields))


def _problem(fields: JsonObject) -> Problem | None:
    """What can be seen before the row is read as part of a group, which knows nothing of its rollout id."""
    for name in REQUIRED_FIELDS:
        if fields.get(name) is None:
            return Problem(f"/{name}", "is missing")
    rollout_id = fields["rollout_id"]
    if not isinstance(rollout_id, str) or len(rollout_id) > MAX_ID_CHARACTERS:
        return Problem("/rollout_id", f"must be a string of at most {MAX_ID_CHARACTERS} characters, or an integer")
    return None


def _fields(row: JsonObject, renames: Sequence[Rename]) -> JsonObject:
    """The row in our words. `language` only where it is mapped: in many dumps that key means a programming language or a locale."""
    fields: dict[str, Json] = {name: row[name] for name in GROUP_FIELDS + ROLLOUT_FIELDS if name in row and name != "language"}
    for rename in renames:
        found, value = _look_up(row, rename.source)
        if found:
            _put(fields, rename.target, value)
    for name in ("group_id", "rollout_id"):
        if isinstance(fields.get(name), int) and not isinstance(fields[name], bool):
            fields[name] = str(fields[name])
    return fields


def _look_up(row: JsonObject, source: str) -> tuple[bool, Json]:
    """A key of this very name, else a path of keys parted by points."""
    if source in row:
        return True, row[source]
    value: Json = row
    for key in source.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return False, None
        value = value[key]
    return True, value


def _put(fields: dict[str, Json], target: tuple[str, ...], value: Json) -> None:
    """Set a field, or a key inside it; the row itself is left as it is."""
    if len(target) == 1:
        fields[target[0]] = value
        return
    inner = fields.get(target[0])
    copied: dict[str, Json] = dict(inner) if isinstance(inner, Mapping) else {}
    _put(copied, target[1:], value)
    fields[target[0]] = copied


def _same_group(one: JsonObject, other: JsonObject) -> bool:
    return all(one.get(name) == other.get(name) for name in GROUP_FIELDS)


def _read_batch(rows: Sequence[Row], read_group: ReadGroup) -> Iterator[Batch]:
    """The rows as one group; where that is refused, each row alone, so that a bad one takes no other with it."""
    if not rows:
        return
    try:
        yield Batch(tuple(rows), read_group(_group_of(rows)))
        return
    except RequestError as error:
        if len(rows) == 1:
            yield Batch((replace(rows[0], problem=Problem(_pointer_in_row(error.pointer), error.message)),), None)
            return
    for row in rows:
        yield from _read_batch([row], read_group)


def _group_of(rows: Sequence[Row]) -> JsonObject:
    first = rows[0].fields
    rollouts: list[Json] = [
        {"rollout_id": str(place), **{name: row.fields[name] for name in ROLLOUT_FIELDS[1:] if name in row.fields}}
        for place, row in enumerate(rows)
    ]
    return {**{name: first[name] for name in GROUP_FIELDS if name in first}, "rollouts": rollouts}


def _pointer_in_row(pointer: str) -> str:
    """A pointer into a group of one rollout as a pointer into its row: "/rollouts/0/completion" -> "/completion"."""
    inside = "/rollouts/0/"
    return "/" + pointer[len(inside) :] if pointer.startswith(inside) else pointer
