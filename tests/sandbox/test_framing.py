"""The words between service and runner: what is said arrives, and nothing else is taken."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import framing
from sandbox.framing import Decoder, Kind, Message, Violation
from sandbox.interface import Job, Limits, RunResult, Status, TestInput

ANYTHING = {kind: (1 << 20, 1 << 20) for kind in Kind}
NAMES = st.text("abcXYZ019_+", min_size=1, max_size=8).filter(lambda name: name != "main")
FILES = st.dictionaries(NAMES, st.binary(max_size=40), max_size=3)
INPUTS = st.builds(TestInput, st.binary(max_size=60), st.integers(0, 1 << 40), FILES)
SECONDS = st.floats(0, 1e6)
COUNTS = st.integers(0, 1 << 50)
LIMITS = st.builds(Limits, SECONDS, COUNTS, SECONDS, COUNTS, COUNTS, COUNTS, st.none() | SECONDS)
JOBS = st.builds(
    Job,
    st.sampled_from(["python", "cpp", "x"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    st.lists(INPUTS, max_size=4).map(tuple),
    LIMITS,
    st.integers(0, 1 << 64),
    FILES,
    st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9), max_size=3).map(tuple),
    st.booleans(),
)
RUNS = st.builds(
    RunResult,
    st.integers(0, 1 << 30),
    st.sampled_from([status for status in Status if status not in (Status.COMPILE_ERROR, Status.FINISHED)]),
    st.binary(max_size=200),
    st.binary(max_size=200),
    st.none() | st.integers(0, 255),
    st.none() | st.integers(1, 64),
    SECONDS,
    SECONDS,
    COUNTS,
    SECONDS,
)


def through(message: Message, step: int = 7) -> Message:
    """The message after it crossed in pieces."""
    decoder, data = Decoder(ANYTHING), framing.encode(message)
    (found,) = [one for at in range(0, len(data), step) for one in decoder.feed(data[at : at + step])]
    return found


@given(st.lists(JOBS, min_size=1, max_size=2).map(tuple))
def test_jobs_arrive_as_they_were(jobs: tuple[Job, ...]) -> None:
    assert framing.decode_jobs(through(framing.encode_jobs(Kind.TALK, jobs))) == jobs


@given(RUNS)
def test_results_arrive_as_they_were(result: RunResult) -> None:
    assert framing.decode_result(through(framing.encode_result(result))) == result


def test_a_lone_surrogate_becomes_a_question_mark_as_it_does_in_every_backend() -> None:
    (job,) = framing.decode_jobs(framing.encode_jobs(Kind.JOB, (Job("python", "x='\ud800'", ()),)))
    assert job.source == "x='?'"


@given(st.binary(max_size=300), st.integers(1, 40))
def test_whatever_comes_is_a_message_or_a_violation(data: bytes, step: int) -> None:
    decoder = Decoder({Kind.PING: (0, 0), Kind.JOB: (64, 64)})
    try:
        for at in range(0, len(data), step):
            for message in decoder.feed(data[at : at + step]):
                assert message.kind in (Kind.PING, Kind.JOB)
                assert len(message.head) <= 64 >= len(message.body)
    except Violation:
        pass


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ((0, 0, 0, 0, 0), "unknown kind"), ((99, 0, 0, 0, 0), "unknown kind"), ((Kind.RESULT, 0, 0, 0, 0), "not now"),
        ((Kind.JOB, 0, 0, 65, 0), "long head"), ((Kind.JOB, 0, 0, 0, 65), "long body"), ((Kind.JOB, 0, 0, 0, 1 << 63), "huge body"),
        ((Kind.JOB, 2, 0, 0, 0), "no such place"), ((Kind.JOB, 0, 1, 0, 0), "reserved bytes"),
    ],
)  # fmt: skip
def test_a_header_is_refused_before_what_it_announces_comes(header: tuple[int, ...], why: str) -> None:
    with pytest.raises(Violation):
        list(Decoder({Kind.JOB: (64, 64)}).feed(framing.HEADER.pack(*header)))


def result_head(**changed: object) -> bytes:
    values = {"index": 0, "status": 1, "have": 1, "signal": 0, "code": 1, "memory": 0, "cpu": 0.0, "wall": 0.0, "waited": 0.0, "stderr": 0}
    return struct.pack("<iBBhiQdddI", *{**values, **changed}.values())


@pytest.mark.parametrize(
    "changed",
    [
        {"status": 7}, {"status": 255}, {"index": -2}, {"have": 4}, {"cpu": float("nan")}, {"wall": float("inf")}, {"waited": -1.0},
        {"cpu": 1e300}, {"stderr": 5}, {"status": 0, "code": 1}, {"status": 0, "have": 0}, {"status": 0, "have": 3, "signal": 9, "code": 0},
        {"index": -1}, {"status": 6}, {"status": 0, "index": -1, "code": 0},
    ],
    ids=str,
)  # fmt: skip
def test_a_result_with_impossible_numbers_is_a_violation(changed: dict[str, object]) -> None:
    framing.decode_result(Message(Kind.RESULT, result_head(), b"abc"))
    with pytest.raises(Violation):
        framing.decode_result(Message(Kind.RESULT, result_head(**changed), b"abc"))


GOOD_JOB = json.loads(framing.encode_jobs(Kind.JOB, (Job("python", "x", (TestInput(b"y"),)),)).head)[0]


@pytest.mark.parametrize(
    "head",
    [
        b"", b"{", b"[" * 100_000, b"{}", b"[]", b"[1]", b"[{}]", b"null", b"\xff",
        *(json.dumps([{**GOOD_JOB, **change}]).encode() for change in (
            {"source": 9}, {"source": -1}, {"source": "1"}, {"source": 1e3}, {"inputs": [[5, 1]]}, {"inputs": [[1]]}, {"inputs": 3},
            {"files": [["../x", 0]]}, {"files": [["main.py", 0]]}, {"files": [["a", 1 << 70]]}, {"limits": [1, 2]}, {"seed": None},
            {"limits": ["a"] * 7}, {"limits": [float("nan"), 1, 1.0, 1, 1, 1, None]}, {"arguments": ["\0"]}, {"arguments": 5},
        )),
        json.dumps([GOOD_JOB] * 3).encode(),
    ],
)  # fmt: skip
def test_a_job_that_cannot_be_read_is_a_violation(head: bytes) -> None:
    framing.decode_jobs(Message(Kind.JOB, json.dumps([GOOD_JOB]).encode(), b"xy"))
    with pytest.raises(Violation):
        framing.decode_jobs(Message(Kind.JOB, head, b"xy"))


@pytest.mark.parametrize(
    "said",
    [
        {"slots": 0}, {"slots": True}, {"slots": 1 << 40}, {"languages": "python"}, {"languages": [1]}, {"languages": ["x"] * 65},
        {"notes": []}, {"notes": {"a": 1}}, {"tools": {str(n): "" for n in range(65)}},
    ],
    ids=lambda said: str(said)[:40],
)  # fmt: skip
def test_a_runner_that_says_nonsense_of_itself_is_a_violation(said: dict[str, object]) -> None:
    good = {"slots": 1, "languages": ["python"], "notes": {}, "tools": {}}
    framing.read_ready(Message(Kind.READY, json.dumps(good).encode()))
    with pytest.raises(Violation):
        framing.read_ready(Message(Kind.READY, json.dumps({**good, **said}).encode()))


def test_texts_of_a_runner_cannot_steer_a_terminal() -> None:
    said = {"slots": 1, "languages": [], "notes": {"a": "\x1b[2Jred\n" + "x" * 9000}, "tools": {}}
    note = framing.read_ready(Message(Kind.READY, json.dumps(said).encode())).notes["a"]
    assert note.startswith("?[2Jred?x")
    assert len(note) == framing.TEXT_CHARACTERS


def test_another_version_is_told_so() -> None:
    word = framing.hello(bytes(32))
    assert framing.check_hello(word) == bytes(32)
    other = json.dumps({"magic": framing.MAGIC, "versions": [framing.VERSION + 1]}).encode()
    with pytest.raises(Violation, match="same release"):
        framing.check_hello(Message(Kind.HELLO, other, bytes(32)))
    with pytest.raises(Violation):
        framing.check_hello(Message(Kind.HELLO, b'{"magic": "http", "versions": [1]}', bytes(32)))


def test_the_proof_of_one_side_is_none_of_the_other() -> None:
    proofs = {
        framing.proof(token, side, a, b) for token in ("s", "t") for side in ("service", "runner") for a, b in ((b"1", b"2"), (b"2", b"1"))
    }
    assert len(proofs) == 8
