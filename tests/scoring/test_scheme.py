from __future__ import annotations

import dataclasses
import itertools
import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service.errors import RequestError
from reward_service.records import FormatFinding, Outcome, Terms, Verdict, Violation
from reward_service.scoring import scheme as module
from reward_service.scoring.scheme import SCHEMES, Scheme, Weights, compose, resolve_scheme

TABLE = Path(__file__).parents[1] / "cases" / "schemes.jsonl"
ROWS: list[dict[str, Any]] = [json.loads(line) for line in TABLE.read_text().splitlines()]
FOUND = FormatFinding(None, "42")
NOTHING = FormatFinding(None, None)
ZERO = Terms(format=0.0, correctness=0.0, length=0.0, language=0.0)
SHARES = st.floats(0, 1) | st.sampled_from([0.0, 1.0, -0.0, math.nextafter(1, 0), 5e-324, 1 / 3, 0.95])
WEIGHTS = st.floats(0, 100) | st.sampled_from([0.0, 0.1, 0.9, 1.0, 100.0, 1e-13])


def composed(
    scheme: Scheme, share: float | None = 1.0, same: bool = True, tokens: int | None = None
) -> tuple[Outcome, float, float, Terms]:
    verdict = None if share is None else Verdict(share, {})
    return compose(scheme, NOTHING if share is None else FOUND, verdict, same, tokens)


def printed_sum(terms: Terms) -> Decimal:
    return sum((Decimal(repr(term)) for term in dataclasses.astuple(terms)), Decimal(0))


# ---- what a request says


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_the_table(row: dict[str, Any]) -> None:
    if row["refused_at"] is None:
        scheme = resolve_scheme(row["spec"])
        spec = row["spec"] if isinstance(row["spec"], dict) else {"base": row["spec"]}
        base = SCHEMES[spec["base"]]
        assert scheme.name == base.name
        for key, value in spec.items():
            if key == "weights":
                assert scheme.weights == dataclasses.replace(base.weights, **value), row["why"]
            elif key != "base":
                assert getattr(scheme, key) == (tuple(value) if isinstance(value, list) else value), row["why"]
        untouched = [field.name for field in dataclasses.fields(Scheme) if field.name not in spec]
        assert all(getattr(scheme, name) == getattr(base, name) for name in untouched)
    else:
        with pytest.raises(RequestError) as refused:
            resolve_scheme(row["spec"])
        assert (refused.value.pointer, refused.value.status) == (row["refused_at"], 422), row["why"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("key", ["format", "correctness", "language", "length"])
def test_weights_are_finite(key: str, value: float) -> None:
    with pytest.raises(RequestError, match=f"/weights/{key}"):
        resolve_scheme({"base": "magistral", "weights": {key: value}})


@pytest.mark.parametrize("key", ["l_max", "l_cache", "draw", "seed", "gate", "correctness", "language_rule", "tags", "weights"])
def test_nan_is_no_value_of_any_key(key: str) -> None:
    with pytest.raises(RequestError, match=f"^/{key}"):
        resolve_scheme({"base": "magistral", key: math.nan})


KEYS = st.sampled_from([field.name for field in dataclasses.fields(Scheme)]) | st.text(st.characters())
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["all", "fraction", "literal"])
VALUES = LEAVES | st.lists(LEAVES, max_size=3) | st.dictionaries(st.sampled_from(["format", "length", "x"]), LEAVES, max_size=2)


@given(st.dictionaries(KEYS, VALUES, max_size=3))
def test_whatever_is_sent_is_a_valid_scheme_or_a_refusal_that_names_a_key(spec: dict[str, object]) -> None:
    refusal = None
    try:
        scheme = resolve_scheme({"base": "magistral", **spec})
    except RequestError as error:
        refusal = error
    if refusal is None:
        assert resolve_scheme({"base": "magistral", **spec}).digest == scheme.digest
        assert scheme.l_max is None or 0 <= scheme.l_cache <= scheme.l_max
    else:
        assert refusal.pointer.split("/")[1].replace("~1", "/").replace("~0", "~") in {*spec, "base"}


def test_the_declared_schemes() -> None:
    assert list(SCHEMES) == [scheme.name for scheme in SCHEMES.values()] == ["magistral", "magistral-literal", "correctness-only"]
    assert SCHEMES["magistral"] == Scheme(
        name="magistral",
        weights=Weights(format=0.1, correctness=0.9, language=0.1, length=0.1),
        tags=("<think>", "</think>"),
        prompt_opened_tag=False,
        leading_whitespace=False,
        l_max=None,
        l_cache=4096,
        correctness="all",
        language_rule="refined",
        gate=True,
        draw=20,
        seed=0,
    )
    assert dataclasses.replace(SCHEMES["magistral-literal"], name="magistral", language_rule="refined") == SCHEMES["magistral"]
    only = SCHEMES["correctness-only"]
    assert (only.weights, only.gate, only.language_rule) == (Weights(0.0, 1.0, 0.0, 0.0), False, None)


def test_what_a_request_must_bring() -> None:
    needs = {name: (scheme.needs_tokens, scheme.needs_prompt) for name, scheme in SCHEMES.items()}
    assert needs == {"magistral": (False, True), "magistral-literal": (False, True), "correctness-only": (False, False)}
    assert resolve_scheme({"base": "magistral", "l_max": 8192}).needs_tokens
    assert not resolve_scheme({"base": "magistral", "language_rule": None}).needs_prompt
    assert not resolve_scheme({"base": "magistral", "weights": {"language": 0}}).needs_prompt


# ---- the digest


def test_the_digest_covers_every_key() -> None:
    changes: list[dict[str, object]] = [
        {"weights": {"format": 0.2}},
        {"weights": {"correctness": 1}},
        {"weights": {"language": 0}},
        {"weights": {"length": 0.2}},
        {"tags": ["[THINK]", "[/THINK]"]},
        {"prompt_opened_tag": True},
        {"leading_whitespace": True},
        {"l_max": 20480},
        {"l_cache": 1024},
        {"correctness": "fraction"},
        {"language_rule": None},
        {"gate": False},
        {"draw": None},
        {"seed": 1},
    ]
    schemes = [resolve_scheme({"base": "magistral", **change}) for change in [{}, *changes]]
    digests = {scheme.digest for scheme in schemes}
    assert len(digests) == len(schemes)
    assert all(len(digest) == 64 and set(digest) <= set("0123456789abcdef") for digest in digests)
    assert {key for change in changes for key in change} == {field.name for field in dataclasses.fields(Scheme)} - {"name"}


def test_the_digest_is_of_what_decides() -> None:
    magistral = SCHEMES["magistral"]
    assert resolve_scheme({"base": "magistral", "weights": {"format": 0.1}, "seed": 0}).digest == magistral.digest
    assert resolve_scheme({"base": "correctness-only", "weights": {"correctness": 1}}).digest == SCHEMES["correctness-only"].digest
    assert dataclasses.replace(magistral, name="other").digest == magistral.digest


def test_the_digest_says_which_language_rule_stands_behind_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    before = SCHEMES["magistral"].digest
    literal = SCHEMES["magistral-literal"].digest
    assert before != literal
    monkeypatch.setattr(module, "LANGUAGE_RULE_VERSIONS", {"literal": "literal-1", "refined": "refined-next"})
    assert SCHEMES["magistral"].digest not in (before, literal)
    assert SCHEMES["magistral-literal"].digest == literal


def test_the_digest_changes_with_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {scheme.digest for scheme in SCHEMES.values()}
    monkeypatch.setattr(module, "RULES_VERSION", module.RULES_VERSION + 1)
    assert before.isdisjoint(scheme.digest for scheme in SCHEMES.values())


# ---- compose


@pytest.mark.parametrize("violation", Violation)
@pytest.mark.parametrize("correctness", ["all", "fraction"])
def test_a_failed_gate_is_zero_whatever_else_is_known(violation: Violation, correctness: str) -> None:
    scheme = resolve_scheme({"base": "magistral", "l_max": 8192, "correctness": correctness})
    for verdict, same, tokens in itertools.product((None, Verdict(1.0, {})), (False, True), (None, 1, 10**6)):
        outcome = compose(scheme, FormatFinding(violation, None), verdict, same, tokens)
        assert outcome == (Outcome.FORMAT_VIOLATION, 0.0, 0.0, ZERO)


@pytest.mark.parametrize("name", ["magistral", "magistral-literal"])
@pytest.mark.parametrize(
    ("share", "same", "tokens", "reward"),
    [
        (1.0, True, 1, 1.1),
        (1.0, False, 1, 1.0),
        (0.0, True, 1, 0.2),
        (0.0, False, 1, 0.1),
        (1.0, True, 18432, 1.05),
        (1.0, False, 18432, 0.95),
        (0.0, True, 18432, 0.15),
        (0.0, False, 18432, 0.05),
        (1.0, True, 20481, 1.0),
        (1.0, False, 20481, 0.9),
        (0.0, True, 20481, 0.1),
        (0.0, False, 20481, 0.0),
    ],
)
def test_the_published_rewards(name: str, share: float, same: bool, tokens: int, reward: float) -> None:
    scheme = resolve_scheme({"base": name, "l_max": 20480})
    outcome, got, correctness, terms = composed(scheme, share, same, tokens)
    assert repr(got) == repr(reward)
    assert (outcome, correctness) == ((Outcome.CORRECT, 1.0) if share else (Outcome.INCORRECT, 0.0))
    assert printed_sum(terms) == Decimal(repr(reward))
    assert (terms.format, terms.correctness, terms.language) == (0.1, 0.9 * share, 0.1 if same else 0.0)


def test_without_l_max_there_is_no_length_term() -> None:
    assert composed(SCHEMES["magistral"], tokens=10**9)[3] == Terms(format=0.1, correctness=0.9, length=0.0, language=0.1)


def test_a_penalty_that_weighs_nothing_is_a_plain_zero() -> None:
    scheme = resolve_scheme({"base": "magistral", "weights": {"length": 0, "format": -0.0}, "l_max": 8192})
    assert repr(composed(scheme, tokens=10**6)[3]) == "Terms(format=0.0, correctness=0.9, length=0.0, language=0.1)"


def test_without_a_language_rule_there_is_no_language_term() -> None:
    assert composed(resolve_scheme({"base": "magistral", "language_rule": None}))[3].language == 0.0


def test_without_a_gate_there_is_no_format_term_and_no_violation() -> None:
    scheme = resolve_scheme({"base": "magistral", "gate": False})
    outcome, reward, _, terms = compose(scheme, FormatFinding(Violation.NO_OPENING_TAG, "42"), Verdict(1.0, {}), True, None)
    assert (outcome, reward, terms) == (Outcome.CORRECT, 1.0, Terms(format=0.0, correctness=0.9, length=0.0, language=0.1))


@pytest.mark.parametrize(("share", "reward"), [(1.0, 1.0), (0.0, 0.0), (0.95, 0.0), (None, 0.0)])
def test_correctness_only(share: float | None, reward: float) -> None:
    outcome, got, correctness, terms = composed(SCHEMES["correctness-only"], share, same=False)
    assert (got, correctness, terms) == (reward, reward, Terms(format=0.0, correctness=reward, length=0.0, language=0.0))
    assert outcome is (Outcome.CORRECT if share == 1.0 else Outcome.INCORRECT)


@pytest.mark.parametrize(("passed", "reward"), [(0, 0.2), (1, 0.245), (10, 0.65), (19, 1.055), (20, 1.1)])
def test_the_fraction_of_tests(passed: int, reward: float) -> None:
    fraction, whole = (resolve_scheme({"base": "magistral", "correctness": rule}) for rule in ("fraction", "all"))
    outcome, got, correctness, _ = composed(fraction, passed / 20)
    assert (repr(got), correctness) == (repr(reward), passed / 20)
    assert outcome is (Outcome.CORRECT if passed == 20 else Outcome.INCORRECT)
    assert composed(whole, passed / 20)[:3] == ((Outcome.CORRECT, 1.1, 1.0) if passed == 20 else (Outcome.INCORRECT, 0.2, 0.0))


@given(
    SHARES, st.booleans(), st.integers(0, 10**6), st.sampled_from(["all", "fraction"]), st.booleans(), WEIGHTS, WEIGHTS, WEIGHTS, WEIGHTS
)
def test_reward_is_the_sum_of_its_terms_as_printed(
    share: float, same: bool, tokens: int, rule: str, gate: bool, form: float, correct: float, language: float, length: float
) -> None:
    weights = {"format": form, "correctness": correct, "language": language, "length": length}
    scheme = resolve_scheme({"base": "magistral", "weights": weights, "l_max": 500_000, "correctness": rule, "gate": gate})
    outcome, reward, correctness, terms = composed(scheme, share, same, tokens)
    assert Decimal(repr(reward)) == printed_sum(terms)
    assert all(math.copysign(1, number) == 1 or number < 0 for number in (reward, correctness, *dataclasses.astuple(terms)))
    assert (outcome is Outcome.CORRECT) == (correctness == 1.0) == (share == 1.0)
    assert abs(correctness - (share if rule == "fraction" else share == 1.0)) <= 1e-12
    assert abs(terms.correctness - scheme.weights.correctness * correctness) <= 1e-12


@pytest.mark.parametrize("share", [math.nan, -0.1, 1.1, math.inf])
def test_a_verdict_outside_its_range_is_no_reward(share: float) -> None:
    with pytest.raises(ValueError, match="correctness"):
        composed(SCHEMES["magistral"], share)


@pytest.mark.parametrize("name", SCHEMES)
def test_an_answer_without_a_verdict_is_no_reward(name: str) -> None:
    with pytest.raises(ValueError, match="verdict"):
        compose(SCHEMES[name], FOUND, None, True, None)


def test_a_length_term_without_tokens_is_no_reward() -> None:
    with pytest.raises(ValueError, match="tokens"):
        composed(resolve_scheme({"base": "magistral", "l_max": 8192}))
