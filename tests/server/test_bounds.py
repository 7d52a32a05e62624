"""Bodies that are small on the wire and much to read: refused before anything is made of their parts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from reward_service.errors import RequestError
from reward_service.server import refusals, schema
from reward_service.server.requests import read_request, read_test_set
from reward_service.server.service import bounds_of
from reward_service.settings import Settings

BOUNDS = bounds_of(Settings())
MANY = 10_000
JUNK = {f"k{number}": 0 for number in range(MANY)}
TEST = {"stdin": "", "stdout": ""}
ROLLOUT = {"rollout_id": "0", "completion": ""}


def group(task: str = "code", **fields: Any) -> dict[str, Any]:
    reference = {"code": {"tests": [TEST]}, "math": {"answer": "1"}, "choice": {"answer": "A"}}[task]
    return {"groups": [{"group_id": "a", "task": task, "reference": reference, "rollouts": [ROLLOUT], **fields}]}


def program(**fields: Any) -> dict[str, Any]:
    stated = {"language": "cpp", "protocol": "kattis", "main": "a.cpp", "files": {"a.cpp": ""}, **fields}
    return group(reference={"tests": [TEST], "checker": {"program": stated}})


AT = "/groups/0"
HOSTILE = {
    "body": ({"groups": [], **JUNK}, "/k0"),
    "group": (group(**JUNK), f"{AT}/k0"),
    "rollout": (group(rollouts=[{**ROLLOUT, **JUNK}] * 3), f"{AT}/rollouts/0/k0"),
    "reference": (group("math", reference={"answer": "1", **JUNK}), f"{AT}/reference/k0"),
    "limits": (group(reference={"tests": [TEST], "limits": JUNK}), f"{AT}/reference/limits/k0"),
    "test": (group(reference={"tests": [{**TEST, **JUNK}] * 3}), f"{AT}/reference/tests/0/k0"),
    "checker": (group(reference={"tests": [TEST], "checker": JUNK}), f"{AT}/reference/checker/k0"),
    "languages": (group(reference={"tests": [TEST], "languages": [0] * MANY}), f"{AT}/reference/languages/0"),
    "answers": (group("math", reference={"answers": [0] * MANY}), f"{AT}/reference/answers/0"),
    "choices": (group("choice", reference={"answer": "A", "choices": [0] * MANY}), f"{AT}/reference/choices/0"),
    "messages": (group(prompt=[0] * MANY), f"{AT}/prompt/0"),
    "parts": (group(prompt=[{"role": "user", "content": [0] * MANY}]), f"{AT}/prompt/0/content/0"),
    "files": (program(files=JUNK), f"{AT}/reference/checker/program/files"),
    "args": (program(args=[0] * MANY), f"{AT}/reference/checker/program/args/0"),
    "scheme": ({"scheme": {"base": "magistral", **JUNK}, "groups": []}, "/scheme/k0"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_much_that_is_wrong_costs_no_more_than_a_little(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body, pointer = HOSTILE[name]
    found: list[int] = []

    def counted(error: ValidationError, tasks: Any) -> refusals.Refusal:
        found.append(error.error_count())
        return refusals.refused_by(error, tasks)

    monkeypatch.setattr("reward_service.server.requests.refused_by", counted)
    with pytest.raises(RequestError) as refused:
        read_request(json.dumps(body).encode(), BOUNDS)
    assert refused.value.status == 422
    assert pointer in [stated for stated, _ in refusals.refusal_of(refused.value)]
    assert sum(found) <= 2 * refusals.MAX_ERRORS


def test_a_test_set_with_much_that_is_wrong_is_refused_at_once() -> None:
    with pytest.raises(RequestError) as refused:
        read_test_set(json.dumps({"tests": [TEST], **JUNK}).encode(), BOUNDS)
    assert refused.value.pointer == "/k0"


def test_every_array_of_the_wire_ends_at_its_first_wrong_item() -> None:
    """So that a field added later cannot make an error object of each of a million items."""
    for model in (schema.GradeBody, schema.TestSetModel):
        assert issubclass(model, BaseModel)
        lists = [part for part in parts(TypeAdapter(model).core_schema) if part.get("type") == "list"]
        assert lists
        assert not [part for part in lists if part["items_schema"]["type"] != "any" and not part.get("fail_fast")]


def parts(value: Any) -> Iterator[dict[str, Any]]:
    """The parts of a pydantic core schema."""
    if isinstance(value, dict):
        yield value
        for key, item in value.items():
            if key != "metadata":
                yield from parts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from parts(item)


@pytest.mark.parametrize("text", ["[[],[],", "[{},{},", "[0,0,", '["ab","cd",', '[{"a":0},{"b":1},'])
def test_values_beyond_the_bound_are_refused_before_they_are_built(text: str) -> None:
    bounds = bounds_of(Settings(max_values=1000))
    body = '{"groups":[' + text * 1000
    with pytest.raises(RequestError) as refused:
        read_request(body.encode(), bounds)
    assert (refused.value.status, refused.value.message) == (413, "the body holds more than 1000 values")


def test_a_completion_that_no_model_writes_is_named() -> None:
    bounds = replace(BOUNDS, max_completion_characters=5000)
    rollouts = [{"rollout_id": str(k), "completion": "x" * (5000 + k)} for k in range(2)]
    with pytest.raises(RequestError) as refused:
        read_request(json.dumps(group("math", rollouts=rollouts)).encode(), bounds)
    assert (refused.value.status, refused.value.pointer) == (413, "/groups/0/rollouts/1/completion")
    assert "5000" in refused.value.message
