"""JSON text of a body: what is refused, where, and that nothing is built of too much."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service.errors import RequestError
from reward_service.server.json_text import read_json

ENOUGH = 1_000_000
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(alphabet='[]{},":\\\u4e2da\n'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet='[]{},":\\a'), inner),
)


def refusal(text: str, max_values: int = ENOUGH) -> RequestError:
    with pytest.raises(RequestError) as refused:
        read_json(text.encode(), max_values)
    return refused.value


@pytest.mark.parametrize(
    ("text", "pointer", "message"),
    [
        ('{"a":[0,{"b":NaN}]}', "/a/1/b", "NaN is not JSON"),
        ('{"a":{"x":[],"y":{}},"b":[-Infinity]}', "/b/0", "-Infinity is not JSON"),
        ('{"a/b~c":1e999}', "/a~1b~0c", "a number out of range"),
        ('{"a":[[1,2],[3,' + "9" * 5000 + "]]}", "/a/1/1", "a number of too many digits"),
        ('{"a":[{"b":1,"c":2,"b":3}]}', "/a/0/b", "the key 'b' stands twice in one object"),
        ('{"a":{"b":1,"b":NaN},"c":NaN}', "/a/b", "the key 'b' stands twice in one object"),
        ('{"\\ud800":NaN}', "/\ufffd", "NaN is not JSON"),
        ('{"":NaN}', "/", "NaN is not JSON"),
        ("NaN", "", "NaN is not JSON"),
        ("[" * 400 + "NaN" + "]" * 400, ("/0" * 400)[:400], "NaN is not JSON"),
    ],
)
def test_what_may_not_stand_in_json_is_named(text: str, pointer: str, message: str) -> None:
    found = refusal(text)
    assert (found.status, found.pointer, found.message) == (400, pointer, message)


def test_what_is_no_json_at_all_is_told_by_its_character() -> None:
    assert refusal('{"a":NaN,}').message.endswith("(character 9)")


def count(value: Any) -> int:
    """Values in a value, itself included; keys do not count."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(count(item) for item in inner)


@given(JSON)
def test_values_are_counted_and_not_what_stands_in_strings(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    found = count(value)
    assert read_json(text.encode(), 2 * found) == value, "an opening bracket counts beside the comma before it"
    if found > 2:
        assert refusal(text, (found - 1) // 2).status == 413


def test_strings_are_told_from_what_stands_between_in_runs() -> None:
    text = json.dumps(['[,"{\\' * 3] * 5000)
    assert len(read_json(text.encode(), 5001)) == 5000  # type: ignore[arg-type]
    assert refusal(text, 4999).status == 413


@pytest.mark.parametrize("tail", ["", '"', '"\\', '"abc', '"[[[[', "]"])
def test_text_that_is_cut_off_is_counted_too(tail: str) -> None:
    assert refusal('["a","b",' * 2000 + tail, 100).status == 413
    assert refusal('["a' + tail, 100).status == 400


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ('{"a": [1, "x", {"b": "c", "groups": ' + "[" * 2000, "/a/2/groups" + "/0" * 297),
        ('{"": "", "say \\"[{\\"": {"x": [' + '{"k": 1, "y": ' * 2000, '/say "[{"/x/0' + "/y" * 297),
        ("[" * 100_000 + "]" * 100_000, "/0" * 300),
        ('[{"a": []}, "]", ' + "[" * 3000, "/2" + "/0" * 299),
        ('{"x": ["\\ud800", ' * 450 + "1" + "]}" * 450, "/x/1" * 150),
    ],
)
def test_what_is_nested_too_deep_is_named(text: str, pointer: str) -> None:
    with pytest.raises(RequestError) as refused:
        read_json(text.encode(), 10**7)
    assert (refused.value.status, refused.value.message) == (422, "nested too deep")
    assert refused.value.pointer == pointer[:400]
