"""The words between a service and a runner: messages of bounded size over any stream of bytes. No I/O.

A message is 16 bytes (kind, place, length of its head, length of its body), a head and a body. Heads are small: records of fixed size, or
JSON where a message is rare. Bodies are raw bytes. Each side states how long a message of each kind may be *now*; whatever is longer, of
another kind, or does not parse is a `Violation`, raised before anything is kept of it. Nothing is ever unpickled or evaluated.

    service                                 runner
    HELLO versions, nonce            ->
                                     <-     WELCOME version, nonce, proof of the token
    PROOF of the token               ->
                                     <-     READY slots, languages, tools
    PING                            <->     PONG slots in use (at any time)
    JOB                              ->
                                     <-     STARTED, RESULT per input or one compile error, END
    TALK one or two jobs             ->
                                     <-     STARTED, OPENED or RESULT per place
    DATA, WANT, FINISH per place     ->
                                     <-     TAKEN, DATA, RESULT per place
    CANCEL                           ->
                                     <-     END

One connection carries one job at a time; several connections run several.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sandbox.interface import Job, Limits, RunResult, Status, TestInput

VERSION = 1
MAGIC = "reward-sandbox"
HEADER = struct.Struct("<BBHIQ")  # kind, place, nothing, bytes of the head, bytes of the body
NONCE_BYTES = 32
TOKEN_BYTES = 4096

HANDSHAKE_BYTES = 4096
READY_BYTES = 65_536
JOB_HEAD_BYTES = 16_777_216
JOB_BODY_BYTES = 1_073_741_824
END_BYTES = 8192
DIAGNOSTIC_BYTES = 65_536
CHUNK_BYTES = 1_048_576  # of a session's stream, in one DATA
TEXT_CHARACTERS = 1000

_RESULT = struct.Struct(
    "<iBBhiQdddI"
)  # index, status, has exit code | has signal << 1, signal, exit code, memory, cpu, wall, waited, stderr
_TAKEN = struct.Struct("<I")
_STATUSES = tuple(Status)
_NO_INDEX = -1
_LONGEST_S = 1e9


class Violation(Exception):
    """The other side does not keep to these words: it is broken or hostile, and nothing more is read of it."""


class Kind(enum.IntEnum):
    """What a message is."""

    HELLO = 1
    WELCOME = 2
    PROOF = 3
    READY = 4
    REFUSED = 5
    PING = 6
    PONG = 7
    JOB = 8
    TALK = 9
    CANCEL = 10
    STARTED = 11
    RESULT = 12
    END = 13
    OPENED = 14
    DATA = 15
    TAKEN = 16
    WANT = 17
    FINISH = 18


class Ending(enum.StrEnum):
    """How a job ended; everything but `done` and `cancelled` is an error of ours."""

    DONE = "done"
    CANCELLED = "cancelled"
    LOST = "lost"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `place` says which of two sessions it is about."""

    kind: Kind
    head: bytes = b""
    body: bytes = b""
    place: int = 0


Bounds = Mapping[Kind, tuple[int, int]]  # most bytes of head and body by kind; a kind that is missing may not come


def encode(message: Message) -> bytes:
    """The message as bytes."""
    return HEADER.pack(message.kind, message.place, 0, len(message.head), len(message.body)) + message.head + message.body


class Decoder:
    """Bytes as they arrive, turned into messages. `bounds` may be replaced between messages."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that `data` completes. Raises Violation."""
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            kind, place, head_bytes, body_bytes = self._header()
            if len(self._buffer) < HEADER.size + head_bytes + body_bytes:
                return
            middle = HEADER.size + head_bytes
            end = middle + body_bytes
            with memoryview(self._buffer) as view:
                message = Message(kind, bytes(view[HEADER.size : middle]), bytes(view[middle:end]), place)
            del self._buffer[:end]
            yield message

    def _header(self) -> tuple[Kind, int, int, int]:
        number, place, nothing, head_bytes, body_bytes = HEADER.unpack_from(self._buffer)
        try:
            kind = Kind(number)
        except ValueError:
            raise Violation(f"no message is of kind {number}") from None
        most = self.bounds.get(kind)
        if most is None:
            raise Violation(f"{kind.name} may not come now")
        if head_bytes > most[0] or body_bytes > most[1]:
            raise Violation(f"{kind.name} of {head_bytes:,} and {body_bytes:,} bytes, at most {most[0]:,} and {most[1]:,} are taken now")
        if nothing or place > 1:
            raise Violation(f"{kind.name} with a broken header")
        return kind, place, head_bytes, body_bytes


# ---- handshake ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """What a runner says of itself: slots, languages, and notes and tool chain by name."""

    slots: int
    languages: frozenset[str]
    notes: Mapping[str, str]
    tools: Mapping[str, str]


def proof(token: str, side: str, client_nonce: bytes, runner_nonce: bytes) -> bytes:
    """Shows that `side` (`service` or `runner`) has the token, without sending it."""
    return hmac.digest(token.encode(), f"{MAGIC} {VERSION} {side} ".encode() + client_nonce + runner_nonce, hashlib.sha256)


def hello(nonce: bytes) -> Message:
    """The service's first word."""
    return Message(Kind.HELLO, json.dumps({"magic": MAGIC, "versions": [VERSION]}).encode(), nonce)


def check_hello(message: Message) -> bytes:
    """The service's nonce. Raises Violation where it speaks no version of ours."""
    said = _object(message.head)
    versions = said.get("versions")
    if said.get("magic") != MAGIC or not isinstance(versions, list) or len(message.body) != NONCE_BYTES:
        raise Violation("the service speaks something else")
    if VERSION not in versions:
        raise Violation(f"the service speaks versions {str(versions)[:100]}, this runner {VERSION}: use the same release on both sides")
    return message.body


def ready(found: Ready) -> Message:
    """The runner's description of itself."""
    head = {"slots": found.slots, "languages": sorted(found.languages), "notes": dict(found.notes), "tools": dict(found.tools)}
    return Message(Kind.READY, json.dumps(head).encode())


def read_ready(message: Message) -> Ready:
    """What a runner said of itself. Raises Violation."""
    said = _object(message.head)
    slots, languages = said.get("slots"), said.get("languages")
    if type(slots) is not int or not 1 <= slots <= 4096:
        raise Violation("a runner without slots")
    if not isinstance(languages, list) or len(languages) > 64 or not all(isinstance(name, str) for name in languages):
        raise Violation("a runner without languages")
    return Ready(slots, frozenset(map(_text, languages)), _texts(said.get("notes")), _texts(said.get("tools")))


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > 64:
        raise Violation("an object of texts was expected")
    return {_text(name): _text(text) for name, text in value.items()}


def _text(value: object) -> str:
    """A text of bounded length without control characters: it may reach a log or a terminal."""
    if not isinstance(value, str):
        raise Violation("a text was expected")
    return "".join(character if character.isprintable() else "?" for character in value[:TEXT_CHARACTERS])


def _object(data: bytes) -> dict[str, object]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Violation("a head that is no JSON") from error
    if not isinstance(found, dict):
        raise Violation("a head that is no object")
    return found


# ---- jobs --------------------------------------------------------------------------------------------------------------


def encode_jobs(kind: Kind, jobs: tuple[Job, ...]) -> Message:
    """A JOB or a TALK: heads as JSON, all bytes in the body in the order of the heads."""
    parts: list[bytes] = []
    head = json.dumps([_job_head(job, parts) for job in jobs], separators=(",", ":")).encode()
    return Message(kind, head, b"".join(parts))


def _job_head(job: Job, parts: list[bytes]) -> dict[str, object]:
    limits = job.limits
    source = job.source.encode("utf-8", "replace")
    parts += [source, *job.files.values()]
    inputs = []
    for test in job.inputs:
        parts += [test.stdin, *test.files.values()]
        inputs.append([len(test.stdin), test.output_bytes, *([_sizes(test.files)] if test.files else [])])
    return {
        "language": job.language, "source": len(source), "files": _sizes(job.files), "arguments": job.arguments, "seed": job.seed,
        "alone": job.alone, "limits": [
            limits.cpu_s, limits.memory_bytes, limits.compile_s, limits.processes, limits.disk_bytes, limits.disk_inodes, limits.wall_s,
        ],
        "inputs": inputs,
    }  # fmt: skip


def _sizes(files: Mapping[str, bytes]) -> list[tuple[str, int]]:
    return [(name, len(data)) for name, data in files.items()]


def decode_jobs(message: Message) -> tuple[Job, ...]:
    """The jobs of a JOB or a TALK. Raises Violation."""
    try:
        heads = json.loads(message.head)
        body = _Body(message.body)
        jobs = tuple(_job(head, body) for head in heads)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise Violation(f"a job that cannot be read: {type(error).__name__}") from error
    if not body.used_up() or len(jobs) not in ((1,) if message.kind is Kind.JOB else (1, 2)):
        raise Violation("a job with bytes left over")
    return jobs


def _job(head: dict[str, object], body: _Body) -> Job:
    source = body.take(head["source"]).decode("utf-8")
    files = {str(name): body.take(size) for name, size in head["files"]}  # type: ignore[attr-defined]
    inputs = []
    for stdin_bytes, output_bytes, *more in head["inputs"]:  # type: ignore[attr-defined]
        stdin = body.take(stdin_bytes)
        placed = {str(name): body.take(size) for name, size in (more[0] if more else ())}
        inputs.append(TestInput(stdin, _count(output_bytes), placed))
    arguments = tuple(str(text) for text in head["arguments"])  # type: ignore[attr-defined]
    seed, alone = int(head["seed"]), head["alone"] is True  # type: ignore[call-overload]
    return Job(str(head["language"]), source, tuple(inputs), _limits(head["limits"]), seed, files, arguments, alone)


def _limits(values: object) -> Limits:
    if not isinstance(values, list) or len(values) != 7:
        raise ValueError("seven limits were expected")
    cpu_s, memory_bytes, compile_s, processes, disk_bytes, disk_inodes, wall_s = values
    counts = (_count(processes), _count(disk_bytes), _count(disk_inodes))
    return Limits(_seconds(cpu_s), _count(memory_bytes), _seconds(compile_s), *counts, None if wall_s is None else _seconds(wall_s))


class _Body:
    """Takes bytes from the front of a body."""

    def __init__(self, data: bytes) -> None:
        self._view = memoryview(data)
        self._at = 0

    def used_up(self) -> bool:
        return self._at == len(self._view)

    def take(self, size: object) -> bytes:
        count = _count(size)
        if count > len(self._view) - self._at:
            raise ValueError("the body is too short")
        self._at += count
        return bytes(self._view[self._at - count : self._at])


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError("a count was expected")
    return value


def _seconds(value: object) -> float:
    if type(value) not in (int, float) or not 0 <= value <= _LONGEST_S:  # type: ignore[operator]
        raise ValueError("seconds were expected")
    return float(value)  # type: ignore[arg-type]


def job_bytes(job: Job) -> int:
    """About how many bytes the job's inputs come to."""
    return sum(len(test.stdin) + sum(map(len, test.files.values())) for test in job.inputs)


# ---- results -----------------------------------------------------------------------------------------------------------


def encode_result(result: RunResult, place: int = 0) -> Message:
    """A RESULT."""
    have, index = (result.exit_code is not None) | (result.signal is not None) << 1, _NO_INDEX if result.index is None else result.index
    numbers = (index, _STATUSES.index(result.status), have, result.signal or 0, result.exit_code or 0, result.memory_bytes)
    head = _RESULT.pack(*numbers, result.cpu_s, result.wall_s, result.waited_s, len(result.stderr))
    return Message(Kind.RESULT, head, result.stdout + result.stderr, place)


def result_bounds(output_bytes: int) -> tuple[int, int]:
    """Most bytes of a RESULT's head and body where a run may print so much."""
    return _RESULT.size, output_bytes + DIAGNOSTIC_BYTES


def decode_result(message: Message) -> RunResult:
    """What a RESULT says; every number is in range. Raises Violation."""
    if len(message.head) != _RESULT.size:
        raise Violation("a result of another size")
    index, status, have, signal, exit_code, memory_bytes, cpu_s, wall_s, waited_s, stderr_bytes = _RESULT.unpack(message.head)
    times = (cpu_s, wall_s, waited_s)
    if status >= len(_STATUSES) or index < _NO_INDEX or have > 3 or not all(math.isfinite(t) and 0 <= t <= _LONGEST_S for t in times):
        raise Violation("a result with impossible numbers")
    if stderr_bytes > min(len(message.body), DIAGNOSTIC_BYTES):
        raise Violation("a result with more errors than bytes")
    middle = len(message.body) - stderr_bytes
    stdout, stderr = message.body[:middle], message.body[middle:]
    code, number = exit_code if have & 1 else None, signal if have & 2 else None
    found = _STATUSES[status]
    if found is Status.FINISHED and (code != 0 or number is not None or index == _NO_INDEX):
        raise Violation("a result that contradicts itself")
    if (found is Status.COMPILE_ERROR) != (index == _NO_INDEX):
        raise Violation("a compile error with an index, or a run without one")
    return RunResult(None if index == _NO_INDEX else index, found, stdout, stderr, code, number, cpu_s, wall_s, memory_bytes, waited_s)


def encode_end(ending: Ending, why: str = "") -> Message:
    """An END, with what went wrong where something did."""
    return Message(Kind.END, json.dumps({"ending": ending, "why": why[:TEXT_CHARACTERS]}).encode())


def decode_end(message: Message) -> tuple[Ending, str]:
    """How a job ended, and why. Raises Violation."""
    said = _object(message.head)
    try:
        return Ending(str(said.get("ending"))), _text(said.get("why"))
    except ValueError as error:
        raise Violation("an end of an unknown kind") from error


def refused(why: str) -> Message:
    """The runner's no."""
    return Message(Kind.REFUSED, json.dumps({"why": why[:TEXT_CHARACTERS]}).encode())


def why_refused(message: Message) -> str:
    """The text of a REFUSED. Raises Violation."""
    return _text(_object(message.head).get("why"))


def encode_count(kind: Kind, count: int, place: int = 0) -> Message:
    """A TAKEN (bytes of a stream) or a PONG (slots in use)."""
    return Message(kind, _TAKEN.pack(count), b"", place)


def decode_count(message: Message) -> int:
    """The number of a TAKEN or a PONG. Raises Violation."""
    if len(message.head) != _TAKEN.size:
        raise Violation("a count of another size")
    return int(_TAKEN.unpack(message.head)[0])


COUNT_BOUNDS = (_TAKEN.size, 0)
