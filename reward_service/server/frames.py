"""A read request as a sequence of small frames, so that the event loop rebuilds it a little at a time.

Each frame is a kind (one byte), a length (four bytes, little endian) and a MessagePack value. A request is one `H` (head), then for
each group one `G` (all but tests and rollouts), any number of `T` (tests) and of `R` (rollouts). A test set is one `S` (all but tests)
and any number of `T`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec

from reward_service.errors import RewardServiceError
from reward_service.records import ChoiceReference, CodeReference, DetailLevel, Group, MathReference, ProgramTest, Reference, Rollout
from reward_service.scoring.scheme import Scheme
from reward_service.server.requests import GradeRequest

HEADER = struct.Struct("<cI")
BATCH_CHARACTERS = 200_000  # of one frame; a single longer text is a frame of its own

T = TypeVar("T")
TestBytes = tuple[bytes, bytes]  # tests may hold lone surrogates, which MessagePack's strings may not
RolloutFields = tuple[str, str, int | None]


@dataclass(frozen=True, slots=True)
class _Head:
    scheme: Scheme
    detail: DetailLevel
    deadline_s: float
    groups: int
    priority: str
    request_id: str | None
    digest: str


@dataclass(frozen=True, slots=True)
class _GroupHead:
    group_id: str
    task: str
    prompt: str | None
    language: str | None
    math: MathReference | None = None
    choice: ChoiceReference | None = None
    code: CodeReference | None = None


def to_frames(request: GradeRequest) -> Iterator[bytes]:
    """The frames of a request, in order; HEADER and payload of each are one piece of bytes."""
    frame = _framer()
    yield frame(b"H", _head_of_request(request))
    for group in request.groups:
        yield frame(b"G", _head_of(group))
        if isinstance(group.reference, CodeReference):
            yield from _test_frames(group.reference, frame)
        for rollouts in _batches(((r.rollout_id, r.completion, r.completion_tokens) for r in group.rollouts), _rollout_size):
            yield frame(b"R", rollouts)


def test_set_frames(reference: CodeReference) -> Iterator[bytes]:
    """The frames of a test set."""
    frame = _framer()
    yield frame(b"S", replace(reference, tests=()))
    yield from _test_frames(reference, frame)


def _framer() -> Callable[[bytes, object], bytes]:
    encoder = msgspec.msgpack.Encoder()

    def frame(kind: bytes, value: object) -> bytes:
        payload = encoder.encode(value)
        return HEADER.pack(kind, len(payload)) + payload

    return frame


def _test_frames(reference: CodeReference, frame: Callable[[bytes, object], bytes]) -> Iterator[bytes]:
    for tests in _batches(((_packed(t.stdin), _packed(t.stdout)) for t in reference.tests), _test_size):
        yield frame(b"T", tests)


class _Tests:
    """The tests of `T` frames, in order."""

    def __init__(self) -> None:
        self._found: list[ProgramTest] = []
        self._read = msgspec.msgpack.Decoder(list[TestBytes]).decode

    def add(self, payload: bytes) -> None:
        """Take the next frame."""
        self._found += [ProgramTest(_unpacked(stdin), _unpacked(stdout)) for stdin, stdout in self._read(payload)]

    def take(self, reference: CodeReference) -> CodeReference:
        """The reference with its tests, which are the next one's no more."""
        found, self._found = self._found, []
        return replace(reference, tests=tuple(found))


class TestSetAssembler:
    """Builds a test set out of its frames, added one after the other."""

    __test__ = False

    def __init__(self) -> None:
        self.size = 0  # of all frames
        self._head: CodeReference | None = None
        self._tests = _Tests()

    def add(self, kind: bytes, payload: bytes) -> None:
        """Take the next frame."""
        self.size += len(payload)
        if kind == b"S":
            self._head = msgspec.msgpack.decode(payload, type=CodeReference)
        elif kind == b"T":
            self._tests.add(payload)
        else:
            raise RewardServiceError("a frame of an unknown kind")

    def test_set(self) -> CodeReference:
        """The test set, once all frames are in.

        Raises:
            RewardServiceError: ours: frames are missing.
        """
        if self._head is None:
            raise RewardServiceError("frames of a test set are missing")
        return self._tests.take(self._head)


class Assembler:
    """Builds the request out of its frames, added one after the other."""

    def __init__(self) -> None:
        self._head: _Head | None = None
        self._groups: list[Group] = []
        self._open: _GroupHead | None = None
        self._tests = _Tests()
        self._rollouts: list[Rollout] = []
        self._read_head = msgspec.msgpack.Decoder(_Head).decode
        self._read_group = msgspec.msgpack.Decoder(_GroupHead).decode
        self._read_rollouts = msgspec.msgpack.Decoder(list[RolloutFields]).decode

    def add(self, kind: bytes, payload: bytes) -> None:
        """Take the next frame."""
        if kind == b"R":
            self._rollouts += [Rollout(*fields) for fields in self._read_rollouts(payload)]
        elif kind == b"T":
            self._tests.add(payload)
        elif kind == b"G":
            self._finish_group()
            self._open = self._read_group(payload)
        elif kind == b"H":
            self._head = self._read_head(payload)
        else:
            raise RewardServiceError("a frame of an unknown kind")

    def request(self) -> GradeRequest:
        """The request, once all frames are in.

        Raises:
            RewardServiceError: ours: frames are missing.
        """
        self._finish_group()
        head = self._head
        if head is None or head.groups != len(self._groups):
            raise RewardServiceError("frames of a request are missing")
        return GradeRequest(tuple(self._groups), head.scheme, head.detail, head.deadline_s, head.priority, head.request_id, head.digest)

    def _finish_group(self) -> None:
        head, self._open = self._open, None
        if head is None:
            return
        reference: Reference | None = head.choice if head.math is None else head.math
        if head.code is not None:
            reference = self._tests.take(head.code)
        if reference is None:
            raise RewardServiceError("a frame of a group without its reference")
        self._groups.append(Group(head.group_id, head.task, reference, tuple(self._rollouts), head.prompt, head.language))
        self._rollouts = []


def _head_of_request(request: GradeRequest) -> _Head:
    stated = (request.scheme, request.detail, request.deadline_s, len(request.groups))
    return _Head(*stated, request.priority, request.request_id, request.digest)


def _head_of(group: Group) -> _GroupHead:
    reference = group.reference
    return _GroupHead(
        group.group_id,
        group.task,
        group.prompt,
        group.language,
        math=reference if isinstance(reference, MathReference) else None,
        choice=reference if isinstance(reference, ChoiceReference) else None,
        code=replace(reference, tests=()) if isinstance(reference, CodeReference) else None,
    )


def _batches(items: Iterable[T], size_of: Callable[[T], int]) -> Iterator[list[T]]:
    batch: list[T] = []
    size = 0
    for item in items:
        size += size_of(item)
        if batch and size > BATCH_CHARACTERS:
            yield batch
            batch, size = [], size_of(item)
        batch.append(item)
    if batch:
        yield batch


def _test_size(test: TestBytes) -> int:
    return 100 + len(test[0]) + len(test[1])


def _rollout_size(rollout: RolloutFields) -> int:
    return 100 + len(rollout[1])


def _packed(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _unpacked(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
