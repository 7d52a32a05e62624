"""What is read quickly is what is read strictly; and the usual request is read quickly."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reward_service.errors import RequestError
from reward_service.server.quick_read import read_quickly
from reward_service.server.requests import read_request, read_strictly
from reward_service.server.service import bounds_of
from reward_service.settings import Settings

BOUNDS = replace(
    bounds_of(Settings()), max_values=60, max_rollouts=4, max_completion_characters=12, max_deadline_s=100.0, default_deadline_s=50.0
)
REFUSED = [json.loads(line) for line in (Path(__file__).parents[1] / "cases" / "refusals.jsonl").read_text().splitlines()]

TEXTS = st.sampled_from(("", "a", 'say "a"', "\\", "end\\\\", '\\"', "é\u2028", "😀", "\ud800", "x" * 13, " ", "0")) | st.text(max_size=6)
IDS = st.sampled_from(("0", "1", "a", "i" * 1025)) | st.text(max_size=2)
NUMBERS = st.sampled_from((0, 1, 5.0, 1.5, -1, 10**9, 10**9 + 1, 10**30, 99, 100, 101, True))
ANYTHING = TEXTS | NUMBERS | st.none() | st.lists(TEXTS, max_size=2) | st.dictionaries(TEXTS, TEXTS, max_size=1)


def objects(required: dict[str, Any], optional: dict[str, Any]) -> Any:
    """Objects of these fields; some lack one, have one of another type, or one that nobody knows."""
    right = st.fixed_dictionaries(required, optional=optional)
    names = st.sampled_from((*required, *optional, "unknown"))
    wrong = st.tuples(right, names, ANYTHING | st.just(...)).map(
        lambda drawn: {**drawn[0], drawn[1]: drawn[2]} if drawn[2] is not ... else {k: v for k, v in drawn[0].items() if k != drawn[1]}
    )
    return st.integers(0, 9).flatmap(lambda number: wrong if number == 0 else right)


ROLLOUTS = objects({"rollout_id": IDS, "completion": TEXTS}, {"completion_tokens": NUMBERS | st.none()})
REFERENCES = (
    objects({}, {"answer": TEXTS | st.none(), "answers": st.lists(TEXTS, max_size=3) | st.none()})
    | objects({"answer": TEXTS}, {})
    | objects({"answer": TEXTS}, {"choices": st.lists(TEXTS, max_size=3)})
)
GROUPS = objects(
    {
        "group_id": IDS,
        "task": st.sampled_from(("math", "math", "choice", "code", "poetry")),
        "reference": REFERENCES,
        "rollouts": st.lists(ROLLOUTS, max_size=3),
    },
    {"prompt": TEXTS | st.none() | st.just([{"role": "user", "content": "a"}]), "language": st.sampled_from((None, "fr", "x!"))},
)
BODIES = objects(
    {"groups": st.lists(GROUPS, max_size=3)},
    {
        "scheme": st.sampled_from(("correctness-only", "magistral", "none", {"base": "magistral", "l_max": 10})),
        "detail": st.sampled_from(("brief", "full", "none")),
        "priority": st.sampled_from(("train", "eval", "offline", "none")),
        "deadline_s": NUMBERS | st.none(),
        "request_id": TEXTS | st.none(),
    },
)


def written(value: Any, twice: int) -> bytes:
    """As JSON; `twice` counts down to the object whose first key is written twice."""
    left = [twice]

    def write(item: Any) -> str:
        if isinstance(item, dict):
            left[0] -= 1
            pairs = list(item.items())
            if left[0] == 0:
                pairs = [*pairs, *pairs[:1]]
            return "{" + ",".join(f"{json.dumps(key)}: {write(field)}" for key, field in pairs) + "}"
        return "[" + ",".join(map(write, item)) + "]" if isinstance(item, list) else json.dumps(item)

    return write(value).encode()


def usual(**fields: Any) -> dict[str, Any]:
    rollouts = [{"rollout_id": str(k), "completion": f'"{k}"\n\\boxed', "completion_tokens": k} for k in range(2)]
    groups = [
        {"group_id": "a", "task": "math", "reference": {"answer": "1"}, "rollouts": rollouts[:1], "prompt": "Why?"},
        {"group_id": "b", "task": "choice", "reference": {"answer": "A", "choices": ["x", "y"]}, "rollouts": rollouts, "prompt": "Why?"},
        {"group_id": "c", "task": "math", "reference": {"answers": ["1", "2"]}, "rollouts": rollouts[1:], "prompt": "Why?"},
    ]
    return {"groups": groups, **fields}


@given(body=BODIES, twice=st.integers(-10, 9))
@example(body=usual(), twice=0)
@example(body=usual(), twice=1)
@example(body=usual(), twice=3)
def test_the_same_or_nothing(body: Any, twice: int) -> None:
    data = written(body, twice)
    found = read_quickly(data, BOUNDS)
    if found is not None:
        strict = read_strictly(data, BOUNDS)
        assert read_request(data, BOUNDS) == strict
        assert (found.groups, found.scheme, found.deadline_s) == (strict.groups, strict.scheme, strict.deadline_s)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"scheme": "correctness-only"},
        {"detail": "full", "priority": "eval", "deadline_s": 5},
        {"request_id": "run7"},
        {"deadline_s": None},
    ],
)
def test_the_usual_request_is_read_quickly(fields: dict[str, Any]) -> None:
    data = json.dumps(usual(**fields)).encode()
    assert read_quickly(data, BOUNDS) is not None
    assert read_request(data, BOUNDS) == read_strictly(data, BOUNDS)


@pytest.mark.parametrize("row", [pytest.param(row, id=row["id"]) for row in REFUSED])
def test_what_is_refused_is_not_read_quickly(row: Any) -> None:
    data = json.dumps(row["body"]).encode()
    with pytest.raises(RequestError):
        read_strictly(data, bounds_of(Settings()))
    assert read_quickly(data, bounds_of(Settings())) is None


@pytest.mark.parametrize("text", ['"a":1,"a":1', '"x":NaN', '"scheme":"magistral","scheme":"magistral"', '"deadline_s":1e999'])
def test_what_two_readers_could_read_differently(text: str) -> None:
    data = json.dumps(usual())[:-1] + "," + text + "}"
    assert read_quickly(data.encode(), BOUNDS) is None
    assert read_quickly(b"\xef\xbb\xbf" + json.dumps(usual()).encode(), BOUNDS) is None
    assert read_quickly(json.dumps(usual()).encode("utf-16"), BOUNDS) is None
