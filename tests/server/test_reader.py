"""Bodies: collecting, decompressing, and the process that reads big ones."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from reward_service.errors import Cancelled, Overloaded, RequestError
from reward_service.records import CodeReference
from reward_service.server.bodies import Body, check_headers, receive_into
from reward_service.server.bounds import INLINE_BYTES
from reward_service.server.decompress import MAX_MEMBERS, Encoding, TooLarge, decompress
from reward_service.server.frames import HEADER, Assembler, to_frames
from reward_service.server.reader import BOOT, BodyReader
from reward_service.server.requests import GradeRequest, read_request
from reward_service.server.service import bounds_of
from reward_service.settings import Settings

LIMITED = BOOT.replace("r.main(", "r.resource.setrlimit = lambda *_: None; r.main(")  # keeps the limit that the test has set
BOUNDS = bounds_of(Settings(max_body_bytes=4 << 20))


def big_body(rollouts: int = 40, text: str = "\u4e2d \U0001f600 x\n") -> bytes:
    group = {
        "group_id": "m",
        "prompt": "p",
        "task": "math",
        "reference": {"answers": ["1", "2"]},
        "rollouts": [{"rollout_id": str(k), "completion": text * 500, "completion_tokens": k} for k in range(rollouts)],
    }
    tests = [{"stdin": "\udcff" * 3, "stdout": str(k)} for k in range(3000)]
    code = {
        **group,
        "group_id": "c",
        "task": "code",
        "reference": {"tests": tests, "checker": {"float": {"abs": 0.5}}, "languages": ["cpp"]},
    }
    choice = {**group, "group_id": "l", "language": "fr", "task": "choice", "reference": {"answer": "A", "choices": ["x", "y"]}}
    scheme = {"base": "magistral", "l_max": 9000, "tags": ["[THINK]", "[/THINK]"]}
    return json.dumps({"scheme": scheme, "groups": [group, code, choice], "detail": "full", "deadline_s": 7}).encode()


def body_of(data: bytes, encoding: Encoding = Encoding.IDENTITY) -> Body:
    body = Body(encoding)
    for start in range(0, len(data), 10_000):
        body.add(data[start : start + 10_000])
    return body


def assembled(request: GradeRequest) -> GradeRequest:
    assembler = Assembler()
    for frame in to_frames(request):
        kind, length = HEADER.unpack(frame[: HEADER.size])
        assert length == len(frame) - HEADER.size
        assembler.add(kind, frame[HEADER.size :])
    return assembler.request()


@pytest.fixture
async def reader() -> AsyncIterator[BodyReader]:
    reader = BodyReader(BOUNDS)
    await reader.start()
    yield reader
    await reader.close()


# ---- frames ----------------------------------------------------------------------------------------------------------


def test_frames_rebuild_the_request() -> None:
    request = read_request(big_body(), BOUNDS)
    assert assembled(request) == request
    assert isinstance(request.groups[1].reference, CodeReference)
    assert len(list(to_frames(request))) > 6, "one frame for all would stall the event loop"


def test_frames_of_no_groups() -> None:
    request = read_request(b'{"groups":[]}', BOUNDS)
    assert assembled(request) == request


# ---- compressed bodies -----------------------------------------------------------------------------------------------


@given(st.binary(max_size=3000), st.integers(1, 3))
def test_what_was_compressed_comes_back(data: bytes, parts: int) -> None:
    pieces = [data[start::parts] for start in range(parts)]
    packed = b"".join(gzip.compress(piece) for piece in pieces)
    assert bytes(decompress(packed, Encoding.GZIP, 3000)) == b"".join(pieces)
    packed = b"".join(zstandard.compress(piece) for piece in pieces)
    assert bytes(decompress(packed, Encoding.ZSTD, 3000)) == b"".join(pieces)


def test_output_that_zlib_holds_back_at_the_end_is_not_lost() -> None:
    data = os.urandom(10) + b"\0" * 1_000_000
    assert bytes(decompress(gzip.compress(data), Encoding.GZIP, len(data))) == data


def test_streamed_zstd_states_no_size_and_is_read() -> None:
    frame = zstandard.ZstdCompressor().compressobj()
    packed = frame.compress(b"x" * 100_000) + frame.flush()
    assert len(decompress(packed, Encoding.ZSTD, 100_000)) == 100_000


@pytest.mark.parametrize("encoding", [Encoding.GZIP, Encoding.ZSTD])
@pytest.mark.parametrize("cut", ["empty", "half", "flipped", "followed"])
def test_damaged_bodies_are_refused(encoding: Encoding, cut: str) -> None:
    whole = (
        gzip.compress(b"hello" * 1000)
        if encoding is Encoding.GZIP
        else zstandard.ZstdCompressor(write_checksum=True).compress(b"hello" * 1000)
    )
    flipped = bytearray(whole)
    flipped[-6 if encoding is Encoding.GZIP else -2] ^= 1
    damaged = {"empty": b"", "half": whole[: len(whole) // 2], "flipped": bytes(flipped), "followed": whole + b"more"}[cut]
    with pytest.raises(RequestError) as refused:
        decompress(damaged, encoding, 100_000)
    assert refused.value.status == 400


@pytest.mark.parametrize("encoding", [Encoding.GZIP, Encoding.ZSTD])
def test_bombs_are_refused_at_the_bound(encoding: Encoding) -> None:
    zeros = b"\0" * 200_000_000
    bomb = zlib.compress(zeros, 9, wbits=31) if encoding is Encoding.GZIP else zstandard.compress(zeros)
    assert len(bomb) < 250_000
    with pytest.raises(TooLarge):
        decompress(bomb, encoding, 1_000_000)


def test_endless_empty_members_are_refused() -> None:
    with pytest.raises(RequestError):
        decompress(gzip.compress(b"") * (MAX_MEMBERS + 1), Encoding.GZIP, 1000)


# ---- headers and receiving -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/json; charset=latin-1"}, 415),
        ({"content-encoding": "br"}, 415),
        ({"content-encoding": "gzip, zstd"}, 415),
        ({"content-length": "-1"}, 400),
        ({"content-length": "1e3"}, 400),
        ({"content-length": "101"}, 413),
        ({"content-length": "9" * 5000}, 413),
    ],
)
def test_headers_that_are_refused(headers: dict[str, str], status: int) -> None:
    with pytest.raises(RequestError) as refused:
        check_headers(headers, 100)
    assert refused.value.status == status


def test_headers_that_are_accepted() -> None:
    assert check_headers({}, 100) is Encoding.IDENTITY
    assert check_headers({"content-type": 'Application/JSON; Charset="UTF-8"', "content-length": "100"}, 100) is Encoding.IDENTITY
    assert check_headers({"content-encoding": " GZIP "}, 100) is Encoding.GZIP
    assert check_headers({"content-encoding": "zstd"}, 100) is Encoding.ZSTD


async def received(messages: list[dict[str, Any]], bound: int, wait_s: float = 5.0) -> Body:
    body = Body()
    pending = iter(messages)

    async def receive() -> dict[str, Any]:
        message = next(pending, None)
        if message is None:
            await asyncio.sleep(60)
        return message or {}

    await receive_into(body, receive, bound, wait_s, lambda _: None)
    return body


async def test_bodies_without_a_length_are_bounded_while_they_arrive() -> None:
    pieces = [{"type": "http.request", "body": b"x" * 60, "more_body": True}] * 2
    with pytest.raises(TooLarge):
        await received(pieces, 100)


async def test_a_client_that_stops_sending_is_refused() -> None:
    with pytest.raises(RequestError) as refused:
        await received([{"type": "http.request", "body": b"x", "more_body": True}], 100, wait_s=0.05)
    assert refused.value.status == 408


async def test_a_client_that_goes_away_while_it_sends() -> None:
    with pytest.raises(Cancelled):
        await received([{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}], 100)


async def test_big_bodies_are_kept_in_a_file() -> None:
    with await received([{"type": "http.request", "body": b"x" * (INLINE_BYTES + 1)}], 1 << 20) as body:
        assert body.file is not None
        assert os.pread(body.file, 1 << 20, 0) == b"x" * (INLINE_BYTES + 1)
    assert body.file is None


# ---- the process that reads ------------------------------------------------------------------------------------------


async def test_big_and_small_bodies_are_read_alike(reader: BodyReader) -> None:
    data = big_body()
    expected = read_request(data, BOUNDS)
    with (
        body_of(data) as plain,
        body_of(gzip.compress(data), Encoding.GZIP) as gzipped,
        body_of(zstandard.compress(data), Encoding.ZSTD) as zstd,
    ):
        assert plain.file is not None
        assert await asyncio.gather(*(reader.read(body) for body in (plain, gzipped, zstd))) == [expected] * 3
    small = json.dumps({"groups": []}).encode()
    assert (await reader.read(body_of(gzip.compress(small), Encoding.GZIP))).groups == ()


async def test_refusals_cross_the_process_border(reader: BodyReader) -> None:
    data = json.loads(big_body())
    data["groups"][0]["rollouts"][3]["colour"] = 1
    with body_of(json.dumps(data).encode()) as body, pytest.raises(RequestError) as refused:
        await reader.read(body)
    assert (refused.value.status, refused.value.pointer) == (422, "/groups/0/rollouts/3/colour")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"[" * 100_000, 422),
        (b'{"a":' * 100_000, 422),
        (b'"' + b"\xff" * 100_000 + b'"', 400),
        (b'{"groups":[' + b"1," * 100_000 + b"1]}", 413),
        (b'{"groups":[],' + b",".join(b'"%d":0' % k for k in range(20_000)) + b"}", 422),
        (b'{"groups":[],"deadline_s":' + b"1" * 100_000 + b"}", 400),
    ],
    ids=["arrays", "objects", "no-utf8", "numbers", "keys", "digits"],
)
async def test_hostile_big_bodies_are_refused_and_the_reader_lives(reader: BodyReader, data: bytes, status: int) -> None:
    with body_of(data) as body, pytest.raises(RequestError) as refused:
        await reader.read(body)
    assert refused.value.status == status
    with body_of(big_body()) as body:
        assert (await reader.read(body)).rollouts == 120
    assert reader.restarts == 0


async def test_bombs_are_refused_by_the_reader(reader: BodyReader) -> None:
    with body_of(zstandard.compress(b" " * 100_000_000), Encoding.ZSTD) as body, pytest.raises(RequestError) as refused:
        await reader.read(body)
    assert refused.value.status == 413


async def test_a_reader_that_is_killed_is_replaced_and_the_body_read_again(reader: BodyReader) -> None:
    (pid,) = reader.pids
    os.kill(pid, signal.SIGSTOP)
    with body_of(big_body()) as body:
        waiting = asyncio.create_task(reader.read(body))
        await asyncio.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        assert (await waiting).rollouts == 120
    assert reader.restarts == 1


async def test_a_body_that_kills_every_reader_is_refused_for_now(reader: BodyReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reward_service.server.reader.BOOT", "raise SystemExit(3)")
    os.kill(reader.pids[0], signal.SIGKILL)
    with body_of(big_body()) as body, pytest.raises(Overloaded):
        await reader.read(body)


async def test_a_reader_whose_client_has_left_is_replaced(reader: BodyReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reward_service.server.reader.LEFT_S", 0.1)
    (pid,) = reader.pids
    os.kill(pid, signal.SIGSTOP)  # as if the body took for ever
    with body_of(big_body()) as body:
        abandoned = asyncio.create_task(reader.read(body))
        waiting = asyncio.create_task(reader.read(body))
        await asyncio.sleep(0.05)
        abandoned.cancel()
        assert (await waiting).rollouts == 120
    assert (reader.restarts, abandoned.cancelled()) == (1, True)
    assert pid not in reader.pids


async def test_a_body_that_takes_too_long_is_not_tried_again(reader: BodyReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reward_service.server.reader.BASE_S", 0.1)
    monkeypatch.setattr("reward_service.server.reader.BYTES_PER_S", 1e12)
    os.kill(reader.pids[0], signal.SIGSTOP)
    with body_of(big_body()) as body, pytest.raises(Overloaded, match="took too long"):
        await reader.read(body)
    assert reader.restarts == 1
    monkeypatch.undo()
    with body_of(big_body()) as body:
        assert (await reader.read(body)).rollouts == 120


DYING = "import os, socket, sys; socket.recv_fds(socket.socket(fileno=int(sys.argv[1])), 65536, 1); "


@pytest.mark.parametrize("end", ["os.abort()", "os._exit(77)", "os.kill(os.getpid(), 11)"])
async def test_a_body_that_a_reader_dies_of_is_refused_and_not_tried_again(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reward_service.server.reader.BOOT", DYING + end)
    dying = BodyReader(BOUNDS)
    await dying.start()
    with body_of(big_body()) as body, pytest.raises(RequestError, match="more memory") as refused:
        await dying.read(body)
    assert (refused.value.status, dying.restarts) == (413, 1)
    await dying.close()


async def test_closing_lets_go_of_everyone(reader: BodyReader) -> None:
    (pid,) = reader.pids
    os.kill(pid, signal.SIGSTOP)
    with body_of(big_body()) as body:
        waiting = [asyncio.create_task(reader.read(body)) for _ in range(3)]
        await asyncio.sleep(0.05)
        await reader.close()
        done = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in done] == [asyncio.CancelledError, Overloaded, Overloaded]
    assert not os.path.exists(f"/proc/{pid}")


async def test_little_memory_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails for lack of memory, the parser or pydantic's core: a refusal, and the next body is read."""
    monkeypatch.setattr(
        "reward_service.server.reader.BOOT", "import resource; resource.setrlimit(resource.RLIMIT_AS, (400 << 20,) * 2); " + LIMITED
    )
    poor = BodyReader(bounds_of(Settings(max_body_bytes=64 << 20)))
    await poor.start()
    group = {"group_id": "a", "task": "code", "reference": {"tests": [{"stdin": "", "stdout": "x"}] * 900_000}, "rollouts": [{}]}
    with body_of(json.dumps({"groups": [group]}).encode()) as body, pytest.raises(RequestError) as refused:
        await poor.read(body)
    assert refused.value.status == 413
    with body_of(big_body()) as body:
        assert (await poor.read(body)).rollouts == 120
    await poor.close()


async def test_whoever_stops_waiting_leaves_a_reader_that_works(reader: BodyReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reward_service.server.reader.LEFT_S", 60.0)  # however busy the machine is
    with body_of(big_body()) as body:
        abandoned = asyncio.create_task(reader.read(body))
        await asyncio.sleep(0.01)
        abandoned.cancel()
        await asyncio.gather(abandoned, return_exceptions=True)
    with body_of(big_body()) as body:
        assert (await reader.read(body)).rollouts == 120
    assert reader.restarts == 0


async def test_reading_a_big_body_leaves_the_event_loop_free(reader: BodyReader) -> None:
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(0.001)
            longest = max(longest, loop.time() - before)

    data = big_body(text="plain text " * 5)
    assert len(data) > 3_000_000
    with body_of(data) as body:
        ticker = asyncio.create_task(tick())
        await reader.read(body)
        ticker.cancel()
    assert longest < 0.25, "bench figure is under 10 ms; the margin is for busy machines"
