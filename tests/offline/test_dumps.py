from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from reward_service.errors import RequestError
from reward_service.offline import dumps
from reward_service.offline.dumps import Batch, DumpError, Rename, Row, batches, canonical_digest, find_row, open_dump, read_alone
from reward_service.records import Group, JsonObject, MathReference, Rollout


def row(**fields: Any) -> dict[str, Any]:
    return {"group_id": "g", "rollout_id": "0", "task": "math", "reference": {"answer": "1"}, "completion": "c"} | fields


def write(path: Path, *rows: Any) -> Path:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in rows)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return path


def read(path: Path, *renames: str) -> list[Row]:
    return list(open_dump(str(path)).rows([Rename.parse(written) for written in renames]))


def read_group(value: JsonObject) -> Group:
    """Takes what looks like a group of the native API; refuses references that say so, and completions that are no text."""
    reference, rollouts = value["reference"], value["rollouts"]
    assert isinstance(reference, dict)
    assert isinstance(rollouts, list)
    if reference.get("bad"):
        raise RequestError("/reference/bad", "must not be")
    for place, rollout in enumerate(rollouts):
        if not isinstance(rollout["completion"], str):
            raise RequestError(f"/rollouts/{place}/completion", "must be a string")
    made = tuple(Rollout(rollout["rollout_id"], rollout["completion"], rollout.get("completion_tokens")) for rollout in rollouts)
    return Group(str(value["group_id"]), str(value["task"]), MathReference((str(reference["answer"]),)), made, value.get("prompt"))


def test_rows_keep_their_places(tmp_path: Path) -> None:
    rows = read(write(tmp_path / "a.jsonl", row(rollout_id="0", extra=[1]), "", "  ", row(rollout_id=7)))
    assert [(found.source, found.number, found.fields["rollout_id"]) for found in rows] == [("a.jsonl", 1, "0"), ("a.jsonl", 4, "7")]
    assert rows[0].fields == row()
    assert rows[0].digest == canonical_digest(row(extra=[1])) != canonical_digest(row())
    assert all(found.problem is None for found in rows)
    assert rows[-1].position == (tmp_path / "a.jsonl").stat().st_size


def test_a_last_line_without_line_feed_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row()))
    assert len(read(path)) == 1


@pytest.mark.parametrize(
    ("line", "pointer", "message"),
    [
        ("{", "", "not JSON"),
        ("[]", "", "must be a JSON object"),
        ("\udcff", "", "not UTF-8"),
        ("1" * 5000, "", "too many digits"),
        ("[" * 100_000, "", "nested too deep"),
        (json.dumps({}), "/group_id", "is missing"),
        (json.dumps(row(completion=None)), "/completion", "is missing"),
        (json.dumps(row(rollout_id=1.5)), "/rollout_id", "must be a string"),
        (json.dumps(row(rollout_id=True)), "/rollout_id", "must be a string"),
        (json.dumps(row(rollout_id="x" * 1025)), "/rollout_id", "must be a string"),
    ],
    ids=range(10),
)
def test_a_bad_row_says_what_is_wrong(tmp_path: Path, line: str, pointer: str, message: str) -> None:
    rows = read(write(tmp_path / "a.jsonl", row(), line, row()))
    assert [found.problem is None for found in rows] == [True, False, True]
    problem = rows[1].problem
    assert problem is not None
    assert problem.pointer == pointer
    assert message in problem.message
    assert len(rows[1].digest) == 64


def test_the_digest_of_what_is_no_json_is_of_its_bytes(tmp_path: Path) -> None:
    (found,) = read(write(tmp_path / "a.jsonl", "{"))
    assert found.digest == hashlib.sha256(b"{\n").hexdigest()


def test_a_row_that_is_too_long_is_bad_and_the_next_one_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dumps, "MAX_ROW_BYTES", 200)
    rows = read(write(tmp_path / "a.jsonl", row(completion="x" * 5_000_000), row()))
    assert [found.number for found in rows] == [1, 2]
    assert rows[0].problem is not None
    assert "longer than 200 bytes" in rows[0].problem.message
    assert rows[1].problem is None


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_compressed_dumps_read_the_same(tmp_path: Path, suffix: str) -> None:
    plain = write(tmp_path / "plain.jsonl", *(row(rollout_id=str(number), completion="x" * number * 97) for number in range(300)))
    path = tmp_path / f"b{suffix}"
    path.write_bytes(packed(plain.read_bytes(), suffix))
    assert [found.digest for found in read(path)] == [found.digest for found in read(plain)]
    assert read(path)[-1].position == path.stat().st_size


def packed(data: bytes, suffix: str) -> bytes:
    if suffix == ".jsonl.gz":
        return gzip.compress(data)
    compressor = zstandard.ZstdCompressor()
    middle = len(data) // 2  # two frames, as appending tools write them
    return data if suffix == ".jsonl" else compressor.compress(data[:middle]) + compressor.compress(data[middle:])


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
def test_a_damaged_dump_gives_what_stands_before_the_damage(tmp_path: Path, suffix: str) -> None:
    plain = write(tmp_path / "plain.jsonl", *(row(completion=hashlib.sha256(bytes([number])).hexdigest() * 99) for number in range(99)))
    path = tmp_path / f"b{suffix}"
    path.write_bytes(packed(plain.read_bytes(), suffix)[:-20])
    given: list[Row] = []
    with pytest.raises(DumpError, match=r"cannot be read after line"):
        given.extend(iter_into(given, path))
    assert len(given) >= 40
    assert all(found.problem is None for found in given)


def iter_into(given: list[Row], path: Path) -> list[Row]:
    for found in open_dump(str(path)).rows():
        given.append(found)
    return []


def test_folders_and_patterns(tmp_path: Path) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)
    for name in ("x/b.jsonl", "x/y/a.jsonl", "x/a.ledger.jsonl", "x/notes.txt"):
        write(tmp_path / name, row())
    assert [found.source for found in read(tmp_path / "x")] == ["b.jsonl", "y/a.jsonl"]
    assert [found.source for found in read(tmp_path / "x" / "*.jsonl")] == ["b.jsonl"]
    assert [found.source for found in read(tmp_path / "**" / "*.jsonl")] == ["x/b.jsonl", "x/y/a.jsonl"]
    assert read(tmp_path / "x")[-1].position == open_dump(str(tmp_path / "x")).size


@pytest.mark.parametrize("name", ["nothing.jsonl", "x", "*.jsonl", "notes.txt"])
def test_no_dump(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").mkdir()
    write(tmp_path / "notes.txt", row())
    with pytest.raises(DumpError):
        open_dump(str(tmp_path / name))


def test_fields_are_mapped(tmp_path: Path) -> None:
    theirs = {"uid": 3, "n": 0, "kind": "math", "response": "c", "reward_model": {"ground_truth": "1"}, "a.b": "fr", "language": "python"}
    renames = (
        "group_id=uid",
        "rollout_id=n",
        "task=kind",
        "completion=response",
        "reference.answer=reward_model.ground_truth",
        "prompt=no.such",
    )
    (found,) = read(write(tmp_path / "a.jsonl", theirs), *renames)
    assert found.fields == {"group_id": "3", "rollout_id": "0", "task": "math", "completion": "c", "reference": {"answer": "1"}}
    (found,) = read(write(tmp_path / "a.jsonl", theirs), *renames, "language=a.b")
    assert found.fields["language"] == "fr"
    assert found.digest == canonical_digest(theirs)


def test_a_mapping_into_a_reference_keeps_the_rest_of_it(tmp_path: Path) -> None:
    (found,) = read(write(tmp_path / "a.jsonl", row(reference={"choices": ["x"]}, gold="A")), "reference.answer=gold")
    assert found.fields["reference"] == {"choices": ["x"], "answer": "A"}


@pytest.mark.parametrize("written", ["completion", "=x", "completion=", "reference.=x", "reward=x"])
def test_a_wrong_mapping_is_refused(written: str) -> None:
    with pytest.raises(DumpError, match="--map"):
        Rename.parse(written)


def lay(*fields: dict[str, Any]) -> list[Row]:
    return [Row("a", place, "0" * 64, 100, 0, row(**some)) for place, some in enumerate(fields, start=1)]


def shape(found: list[Batch]) -> list[tuple[list[int], bool]]:
    return [([each.number for each in batch.rows], batch.group is not None) for batch in found]


def test_consecutive_rows_of_a_group_become_one() -> None:
    rows = lay(
        {"rollout_id": "same"},
        {"rollout_id": "same", "completion": "d"},
        {"group_id": "h"},
        {"reference": {"answer": "2"}},
        {"prompt": "p"},
    )
    found = list(batches(rows, read_group))
    assert shape(found) == [([1, 2], True), ([3], True), ([4], True), ([5], True)]
    assert found[0].group is not None
    assert [(rollout.rollout_id, rollout.completion) for rollout in found[0].group.rollouts] == [("0", "c"), ("1", "d")]


def test_a_bad_row_takes_no_other_with_it() -> None:
    found = list(batches(lay({}, {"completion": 5}, {}), read_group))
    assert shape(found) == [([1], True), ([2], False), ([3], True)]
    assert found[1].rows[0].problem == dumps.Problem("/completion", "must be a string")


def test_a_bad_reference_shape_makes_each_row_bad() -> None:
    found = list(batches(lay({"reference": {"bad": 1}}, {"reference": {"bad": 1}}), read_group))
    assert shape(found) == [([1], False), ([2], False)]
    assert found[0].rows[0].problem == dumps.Problem("/reference/bad", "must not be")


def test_batches_are_bounded() -> None:
    assert [len(batch.rows) for batch in batches(lay(*[{}] * 150), read_group)] == [64, 64, 22]
    big = [Row("a", number, "0" * 64, 3 << 20, 0, row()) for number in range(1, 4)]
    assert [len(batch.rows) for batch in batches(big, read_group)] == [1, 1, 1]


@given(st.lists(st.tuples(st.sampled_from("gh"), st.sampled_from(["c", 5]), st.booleans()), max_size=80))
def test_every_row_is_in_exactly_one_batch(kinds: list[tuple[str, Any, bool]]) -> None:
    rows = [
        Row("a", number, "0" * 64, 1, 0, row(group_id=group_id, completion=completion), dumps.Problem("", "bad") if bad else None)
        for number, (group_id, completion, bad) in enumerate(kinds)
    ]
    found = list(batches(rows, read_group))
    assert sorted(each.number for batch in found for each in batch.rows) == list(range(len(rows)))
    assert all(batch.group is None or len(batch.group.rollouts) == len(batch.rows) for batch in found)
    assert all((batch.group is None) == any(each.problem for each in batch.rows) for batch in found)


def test_find_row_and_read_alone() -> None:
    rows = lay({"rollout_id": "0"}, {"rollout_id": "1", "completion": "one"}, {"rollout_id": "2", "completion": 5})
    assert find_row(rows, 2, None, None).number == 2
    found = find_row(rows, None, "g", "1")
    assert read_alone(found.fields, read_group).rollouts == (Rollout("1", "one"),)
    with pytest.raises(RequestError, match="/completion: must be a string"):
        read_alone(find_row(rows, 3, None, None).fields, read_group)
    with pytest.raises(DumpError, match="no such row"):
        find_row(rows, 4, None, None)
    with pytest.raises(DumpError, match="line 1: the row not JSON"):
        find_row([Row("a", 1, "", 1, 0, {}, dumps.Problem("", "not JSON"))], 1, None, None)


@given(st.dictionaries(st.text(st.characters(exclude_categories=())), st.text(st.characters(exclude_categories=()))))
def test_the_digest_does_not_depend_on_the_order_of_keys(value: dict[str, str]) -> None:
    assert canonical_digest(value) == canonical_digest(dict(reversed(value.items())))
