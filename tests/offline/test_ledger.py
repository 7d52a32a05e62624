from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service.offline.dumps import Problem, Row
from reward_service.offline.ledger import Entry, LedgerError, Stamp, open_ledger
from reward_service.records import Grade, Outcome, Terms

STAMP = Stamp("magistral", "d" * 64, {"service": "0"})


def row(number: int, source: str = "a.jsonl", completion: str = "c") -> Row:
    digest = f"{number + 1:064x}"[::-1]
    return Row(source, number, digest, 10, 0, {"group_id": "g", "rollout_id": str(number), "task": "math", "completion": completion})


def grade(outcome: Outcome = Outcome.CORRECT) -> Grade:
    if outcome is Outcome.UNSCORED:
        return Grade("g", "0", outcome, None, None, None, {"reason": "bad_reference"})
    return Grade("g", "0", outcome, 1.1, 1.0, Terms(0.1, 0.9, 0.0, 0.1), {"answer": "4"})


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def fill(path: Path, numbers: range) -> None:
    with open_ledger(path, STAMP) as ledger:
        list(ledger.resume())
        for number in numbers:
            if not ledger.has(row(number)):
                ledger.append(row(number), grade())


def test_a_line_holds_what_the_protocol_says(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    with open_ledger(path, STAMP, with_completions=True) as ledger:
        assert ledger.append(row(1), grade()) == Entry("math", Outcome.CORRECT, 1.1, None)
        assert ledger.append(row(2), grade(Outcome.UNSCORED)) == Entry("math", Outcome.UNSCORED, None, "bad_reference")
        assert ledger.append(Row("a.jsonl", 3, "e" * 64, 1, 0, {}), None, Problem("/task", "is missing")) == Entry(None, None, None, None)
    first, second, third = lines(path)
    assert first == {
        "source": "a.jsonl",
        "row": 1,
        "group_id": "g",
        "rollout_id": "1",
        "task": "math",
        "digest": row(1).digest,
        "scheme": {"name": "magistral", "digest": "d" * 64},
        "versions": {"service": "0"},
        "outcome": "correct",
        "reward": 1.1,
        "correctness": 1.0,
        "terms": {"format": 0.1, "correctness": 0.9, "length": 0.0, "language": 0.1},
        "detail": {"answer": "4"},
        "error": None,
        "completion": "c",
    }
    assert second["outcome"] == "unscored"
    assert second["reward"] is second["correctness"] is second["terms"] is None
    assert third["error"] == {"pointer": "/task", "message": "is missing"}
    assert third["outcome"] is third["reward"] is third["detail"] is None
    assert list(first) == list(second) == list(third)


def test_resume_tells_what_stands_there(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    with open_ledger(path, STAMP) as ledger:
        ledger.append(row(1), grade())
        ledger.append(row(5, "b.jsonl"), grade(Outcome.UNSCORED))
        ledger.append(row(2), None, Problem("", "not JSON"))
    with open_ledger(path, STAMP) as ledger:
        assert list(ledger.resume()) == [
            Entry("math", Outcome.CORRECT, 1.1, None),
            Entry("math", Outcome.UNSCORED, None, "bad_reference"),
            Entry("math", None, None, None),
        ]
        known = [ledger.has(each) for each in (row(1), row(2), row(3), row(5), row(5, "b.jsonl"), row(900), row(1, "c.jsonl"))]
        assert known == [True, True, False, False, True, False, False]


def test_a_run_killed_at_any_byte_is_continued(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    fill(whole, range(1, 5))
    content = whole.read_bytes()
    path = tmp_path / "l.jsonl"
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        fill(path, range(1, 5))
        assert path.read_bytes() == content, cut


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_can_be_written_and_read_again(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "l.jsonl"
        with open_ledger(path, STAMP, with_completions=True) as ledger:
            ledger.append(row(1, completion=text), grade())
        with open_ledger(path, STAMP) as ledger:
            assert len(list(ledger.resume())) == 1
        (line,) = [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
    assert line["completion"] == "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)


def test_another_scheme_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    fill(path, range(1, 3))
    other = Stamp("magistral", "e" * 64, {})
    with open_ledger(path, other) as ledger, pytest.raises(LedgerError, match="another scheme"):
        list(ledger.resume())
    assert len(lines(path)) == 2
    with open_ledger(path, other, force=True) as ledger:
        assert list(ledger.resume()) == []
    assert path.read_bytes() == b""


def test_a_dump_that_has_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    fill(path, range(1, 3))
    changed = Row("a.jsonl", 2, "9" * 64, 1, 0, {})
    with open_ledger(path, STAMP) as ledger:
        list(ledger.resume())
        with pytest.raises(LedgerError, match=r"a\.jsonl has changed .*line 2"):
            ledger.has(changed)


@pytest.mark.parametrize("content", [b"{}\n", b"hello\n", b"\n", b'{"group_id": "g"}\n', b"\xff\n"])
def test_another_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "l.jsonl"
    path.write_bytes(content)
    with open_ledger(path, STAMP) as ledger, pytest.raises(LedgerError, match="line 1 is no line of a ledger"):
        list(ledger.resume())
    assert path.read_bytes() == content


def test_a_row_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    fill(path, range(1, 2))
    path.write_bytes(path.read_bytes() * 2)
    with open_ledger(path, STAMP) as ledger, pytest.raises(LedgerError, match="stands there twice"):
        list(ledger.resume())


def test_two_runs_do_not_write_one_ledger(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    with open_ledger(path, STAMP):
        with pytest.raises(LedgerError, match="another run") as caught, open_ledger(path, STAMP):
            pass
        assert caught.value.fault == "usage"
    with open_ledger(path, STAMP):
        pass


def test_a_ledger_that_cannot_be_opened_is_the_machines_fault(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot be opened") as caught, open_ledger(tmp_path / "no" / "l.jsonl", STAMP):
        pass
    assert caught.value.fault == "machine"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_the_machines_fault() -> None:
    with open_ledger(Path("/dev/full"), STAMP) as ledger, pytest.raises(LedgerError, match="cannot be written") as caught:
        ledger.append(row(1), grade())
    assert caught.value.fault == "machine"
