from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service.errors import RequestError
from reward_service.records import (
    CheckerName,
    ChoiceReference,
    CodeReference,
    DetailLevel,
    FloatTolerance,
    MathReference,
    ProgramLimits,
    ProgramTest,
)
from reward_service.scoring.programs.testcases import digest_test_set
from reward_service.server.refusals import MAX_ERRORS, error_body, refusal_of
from reward_service.server.requests import read_request
from reward_service.server.schema import TASKS
from reward_service.server.service import bounds_of
from reward_service.settings import Settings
from reward_service.verifiers import VERIFIERS

CASES = Path(__file__).parents[1] / "cases"
BOUNDS = bounds_of(Settings())


def rows(name: str) -> list[Any]:
    return [pytest.param(row, id=row["id"]) for row in map(json.loads, (CASES / name).read_text().splitlines())]


def read(body: object, bounds: Any = BOUNDS) -> Any:
    return read_request(json.dumps(body).encode(), bounds)


def body(**group: Any) -> dict[str, Any]:
    default = {"group_id": "a", "task": "math", "reference": {"answer": "1"}, "rollouts": [{"rollout_id": "0", "completion": "x"}]}
    return {"scheme": "correctness-only", "groups": [{**default, **group}]}


@pytest.mark.parametrize("row", rows("refusals.jsonl"))
def test_refused_with_the_pointer_to_the_field(row: Any) -> None:
    with pytest.raises(RequestError) as refused:
        read(row["body"])
    assert (refused.value.status, refused.value.pointer) == (row["status"], row["pointer"])


@pytest.mark.parametrize("row", rows("refusals.jsonl"))
def test_a_pointer_leads_to_the_field_or_to_where_it_is_missing(row: Any) -> None:
    with pytest.raises(RequestError) as refused:
        read(row["body"])
    value = row["body"]
    tokens = [token.replace("~1", "/").replace("~0", "~") for token in refused.value.pointer.split("/")[1:]]
    for token in tokens[:-1]:
        value = value[int(token)] if isinstance(value, list) else value[token]
    assert isinstance(value, list | dict)


@pytest.mark.parametrize("row", rows("bodies.jsonl"))
def test_text_that_states_no_request_is_refused(row: Any) -> None:
    with pytest.raises(RequestError) as refused:
        read_request(row["body"].encode(), BOUNDS)
    assert refused.value.status == row["status"]


def test_a_request_id_comes_with_the_digest_of_the_body() -> None:
    plain = json.dumps({"groups": []}).encode()
    named = json.dumps({"groups": [], "request_id": "run7/step120/rank3", "priority": "eval"}).encode()
    assert (read_request(plain, BOUNDS).request_id, read_request(plain, BOUNDS).digest) == (None, "")
    request = read_request(named, BOUNDS)
    assert (request.request_id, request.priority) == ("run7/step120/rank3", "eval")
    assert request.digest == hashlib.sha256(named).hexdigest()


def test_several_errors_are_listed_and_bounded() -> None:
    many = body(rollouts=[{"rollout_id": "same", "completion": "x"} for _ in range(100)])
    with pytest.raises(RequestError) as refused:
        read(many)
    errors = refusal_of(refused.value)
    assert len(errors) == MAX_ERRORS
    assert error_body(errors)["error"] == {"pointer": errors[0][0], "message": errors[0][1]}


def test_one_error_is_no_list() -> None:
    assert error_body([("/a", "b")]) == {"error": {"pointer": "/a", "message": "b"}}


def test_no_message_holds_what_was_sent() -> None:
    secret = "s3cr3t" * 50
    for wrong in (
        body(task=secret),
        body(prompt={"x": secret}),
        body(reference=secret),
        {"groups": [], "detail": secret},
        {"groups": secret},
    ):
        with pytest.raises(RequestError) as refused:
            read(wrong)
        assert secret not in str(refused.value)


def test_pointers_of_huge_keys_are_bounded() -> None:
    with pytest.raises(RequestError) as refused:
        read({"groups": [], "k" * 10_000: 1})
    assert len(refused.value.pointer) <= 400


def test_no_groups_is_a_request() -> None:
    request = read({"groups": []})
    assert (request.groups, request.scheme.name, request.detail, request.deadline_s) == ((), "magistral", DetailLevel.BRIEF, 600.0)


def test_records_of_every_task() -> None:
    math, choice = read(body()).groups[0], read(body(task="choice", reference={"answer": "C", "choices": ["x", "y"]})).groups[0]
    assert math.reference == MathReference(("1",))
    assert read(body(reference={"answers": ["1", "2"]})).groups[0].reference == MathReference(("1", "2"))
    assert choice.reference == ChoiceReference("C", ("x", "y"))
    tests = (ProgramTest("a", "b"),)
    code = {
        "tests": [{"stdin": "a", "stdout": "b"}],
        "checker": {"float": {"abs": 1}},
        "limits": {"cpu_s": 2, "memory_bytes": 1 << 26},
        "languages": ["C++"],
        "draw": None,
    }
    assert read(body(task="code", reference=code)).groups[0].reference == CodeReference(
        tests=tests,
        checker=FloatTolerance(1.0, 1e-6),
        limits=ProgramLimits(2.0, 1 << 26, 10.0),
        languages=("C++",),
        draw=None,
        digest=digest_test_set(tests, FloatTolerance(1.0, 1e-6)),
    )


def test_records_of_calls_and_asserts() -> None:
    stated = {
        "function": "Solution.solve",
        "tests": [{"args": [{"b": 1, "a": 2**70}, "é"], "expected": None}, {"args": [], "expected": 1.0, "argument": None}],
        "checker": "exact",
        "prelude": "import math",
    }
    calls = read(body(task="code", reference=stated)).groups[0].reference
    assert (calls.function, calls.prelude, calls.checker, calls.asserts) == ("Solution.solve", "import math", CheckerName.EXACT, None)
    assert [json.loads(test.stdin) for test in calls.tests] == [{"args": [{"b": 1, "a": 2**70}, "é"]}, {"args": []}]
    assert list(json.loads(calls.tests[0].stdin)["args"][0]) == ["b", "a"]  # a dict is iterated in its order
    assert [test.stdout for test in calls.tests] == ["null", "1.0"]
    asserts = read(body(task="code", reference={"asserts": "assert f()", "entry_point": "f"})).groups[0].reference
    assert (asserts.asserts, asserts.entry_point, asserts.prelude, asserts.tests) == ("assert f()", "f", "", ())


def test_the_digest_of_calls_and_asserts_is_of_the_canonical_form() -> None:
    call = {"args": [{"b": 1, "a": "é"}], "expected": [1.5]}
    for stated in ({"function": "f", "tests": [call]}, {"asserts": "assert f()", "prelude": "x = 'é'"}):
        canonical = json.dumps(stated, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        assert read(body(task="code", reference=stated)).groups[0].reference.digest == hashlib.sha256(canonical).hexdigest()


def test_the_draw_is_the_references_else_the_schemes() -> None:
    code = {"tests": [{"stdin": "a", "stdout": "b"}]}
    groups = body(task="code", reference=code)["groups"]
    assert read({"scheme": {"base": "correctness-only", "draw": 7}, "groups": groups}).groups[0].reference.draw == 7
    assert read(body(task="code", reference={**code, "draw": 3})).groups[0].reference.draw == 3
    assert read(body(task="code", reference={**code, "draw": None})).groups[0].reference.draw is None
    assert read(body(task="code", reference=code)).groups[0].reference.checker is CheckerName.TOKENS


def test_of_chat_messages_the_users_words_count() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Was ist"}, {"type": "image", "url": "x"}, {"type": "text", "text": "zwei?"}],
            "id": 7,
        },
        {"role": "assistant", "content": None, "tool_calls": [{"x": [1]}]},
        {"role": "user", "content": "Bitte kurz."},
    ]
    assert read(body(prompt=messages)).groups[0].prompt == "Was ist\nzwei?\n\nBitte kurz."
    assert read(body(prompt="as it is")).groups[0].prompt == "as it is"


def test_a_stated_language_stands_in_for_the_prompt() -> None:
    request = read({**body(language="fr"), "scheme": "magistral-literal"})
    assert (request.groups[0].prompt, request.groups[0].language) == (None, "fr")


def test_a_stated_language_is_read_as_the_model_calls_it() -> None:
    for code, label in (("fra", "fr"), ("pt-BR", "pt"), ("cmn", "zh"), ("nob", "no")):
        assert read({**body(language=code), "scheme": "magistral"}).groups[0].language == label


def test_a_prompt_without_text_is_fine_where_nobody_reads_it() -> None:
    assert read(body(prompt=[])).groups[0].prompt == ""
    assert read({**body(prompt="", language="fr"), "scheme": "magistral"}).groups[0].language == "fr"


LONG = "x" * 1025
MESSAGES = [
    ({"groups": [], "detail": "most"}, "must be 'brief' or 'full'"),
    ({"groups": [], "deadline_s": 0}, "must be greater than 0"),
    ({"groups": [], "deadline_s": "1"}, "must be a number"),
    (body(group_id=LONG), "must have at most 1024 characters"),
    (body(language="english"), "has a wrong form: it must match ^[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*$"),
    (body(language="xx"), "must be the ISO 639 code of a language that the model lid.176 knows"),
    (body(rollouts=[]), "must not be empty"),
    (body(rollouts=[{"rollout_id": "0", "completion": "", "completion_tokens": -1}]), "must be at least 0"),
    (body(rollouts=[{"rollout_id": "0", "completion": "", "completion_tokens": 1.5}]), "must be an integer"),
    (body(rollouts=[{"rollout_id": "0", "completion": "", "completion_tokens": 2_000_000_000}]), "must be at most 1000000000"),
    (body(task="choice", reference={"answer": "A", "choices": ["x"] * 257}), "must have at most 256 entries"),
    (body(task="code", reference={"tests": [{"stdin": "", "stdout": ""}], "languages": [""]}), "must not be empty"),
    (body(task="code", reference={"tests": [{"stdin": "", "stdout": ""}], "draw": 0}), "must be at least 1"),
    (body(task="code", reference={"tests": [{"stdin": "", "stdout": ""}], "checker": "fuzzy"}), "must be 'tokens', 'exact' or 'lines'"),
]


@pytest.mark.parametrize(("value", "message"), MESSAGES)
def test_messages_are_in_the_projects_words(value: Any, message: str) -> None:
    with pytest.raises(RequestError) as refused:
        read(value)
    assert refused.value.message == message


@pytest.mark.parametrize("row", rows("refusals.jsonl"))
def test_no_refusal_is_in_the_librarys_words(row: Any) -> None:
    with pytest.raises(RequestError) as refused:
        read(row["body"])
    for _, message in refusal_of(refused.value):
        assert not message.startswith(("Input should", "Value error", "String should", "List should")), message


def test_too_many_rollouts_are_refused_before_they_are_read() -> None:
    bounds = bounds_of(Settings(max_rollouts=3))
    with pytest.raises(RequestError) as refused:
        read(body(rollouts=[5, 5, 5, 5]), bounds)
    assert refused.value.status == 413


def test_too_many_tests_are_refused() -> None:
    bounds = bounds_of(Settings(max_tests=2))
    with pytest.raises(RequestError, match="more than 2 tests"):
        read(body(task="code", reference={"tests": [{"stdin": "", "stdout": ""}] * 3}), bounds)


def test_lone_surrogates_in_a_completion_become_replacement_characters() -> None:
    raw = json.dumps(body(rollouts=[{"rollout_id": "0", "completion": "a\ud800b \U0001f600"}])).encode()
    assert b"\\ud800" in raw
    assert read_request(raw, BOUNDS).groups[0].rollouts[0].completion == "a\ufffdb \U0001f600"


def test_lone_surrogates_in_a_test_stay() -> None:
    reference = {"tests": [{"stdin": "\udcff", "stdout": "x"}]}
    assert read(body(task="code", reference=reference)).groups[0].reference.tests[0].stdin == "\udcff"


def test_every_verifier_has_a_wire_form() -> None:
    assert set(TASKS) == set(VERIFIERS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)
NAMES = ("scheme", "groups", "detail", "deadline_s", "priority", "request_id")
GROUP_NAMES = ("group_id", "task", "reference", "rollouts", "prompt", "language")


@given(st.dictionaries(st.sampled_from(NAMES), JSON | st.lists(st.dictionaries(st.sampled_from(GROUP_NAMES), JSON | st.just("code")))))
def test_any_json_is_read_or_refused(value: dict[str, Any]) -> None:
    statuses = []
    try:
        read(value)
    except RequestError as refused:
        statuses.append(refused.status)
    assert statuses in ([], [400], [413], [422])


@given(st.binary(max_size=200) | st.text(alphabet='{}[]",:0123456789eE+-.\\utrufalsn', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(RequestError) as refused:
        read_request(data, BOUNDS)
    assert refused.value.status in (400, 422)
