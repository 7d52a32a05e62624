"""Schemes: the declared rules by which findings become a reward, their validation, and `compose`, which applies one.

docs/schemes.md lists every key with its default, range and source.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal

from reward_service.errors import RequestError
from reward_service.records import FormatFinding, Outcome, Terms, Verdict
from reward_service.scoring.length import overlong_penalty

CorrectnessRule = Literal["all", "fraction"]
LanguageRule = Literal["refined", "literal"]

RULES_VERSION = 1  # of the split, the gate, both extractions, the length term and compose: raise it with any change of a reward
LANGUAGE_RULE_VERSIONS: Mapping[str, str] = {"literal": "literal-1", "refined": "refined-3"}  # what decides under each name today

MAX_WEIGHT = 100.0
MAX_TAG_LENGTH = 64
MAX_TOKENS = 100_000_000
MAX_DRAW = 1_000_000
MAX_SEED = 2**63 - 1
_DECIMALS = 12  # of every number in a grade; with MAX_WEIGHT a reward has at most 15 digits, which a float prints unchanged


@dataclass(frozen=True, slots=True)
class Weights:
    """What each term is worth; each in [0, 100]. Those of arXiv 2506.10910v1, section 2.2, unless stated."""

    format: float = 0.1
    correctness: float = 0.9
    language: float = 0.1
    length: float = 0.1


@dataclass(frozen=True, slots=True)
class Scheme:
    """A declared rule, valid as it stands when it comes from `resolve_scheme`. The defaults are those of `magistral`.

    `l_max` (tokens) None: no length term. `language_rule` None: no language term. `gate` False: no violation and no format term.
    `draw`: tests drawn per group where the reference does not say, None for all. `name` is that of the scheme it builds on.
    """

    name: str
    weights: Weights = Weights()
    tags: tuple[str, str] = ("<think>", "</think>")
    prompt_opened_tag: bool = False
    leading_whitespace: bool = False
    l_max: int | None = None
    l_cache: int = 4096
    correctness: CorrectnessRule = "all"
    language_rule: LanguageRule | None = "refined"
    gate: bool = True
    draw: int | None = 20
    seed: int = 0

    @property
    def digest(self) -> str:
        """sha256 (hex) of everything that decides a reward; the name does not, the version of the rules does."""
        decides = asdict(self)
        del decides["name"]
        decides["language_rule"] = self.language_rule and LANGUAGE_RULE_VERSIONS[self.language_rule]
        decides["rules"] = RULES_VERSION
        canonical = json.dumps(decides, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def needs_tokens(self) -> bool:
        """Whether every rollout must bring `completion_tokens`."""
        return self.l_max is not None

    @property
    def needs_prompt(self) -> bool:
        """Whether every group must bring a `prompt`: the language term compares with it."""
        return self.language_rule is not None and self.weights.language > 0


SCHEMES: dict[str, Scheme] = {
    "magistral": Scheme("magistral"),
    "magistral-literal": Scheme("magistral-literal", language_rule="literal"),
    "correctness-only": Scheme(
        "correctness-only", weights=Weights(format=0.0, correctness=1.0, language=0.0, length=0.0), language_rule=None, gate=False
    ),
}


def compose(
    scheme: Scheme, finding: FormatFinding, verdict: Verdict | None, same_language: bool, tokens: int | None
) -> tuple[Outcome, float, float, Terms]:
    """Outcome, reward, correctness in [0, 1], and the four terms, whose sum, as printed, is the reward (arXiv 2506.10910v1, 2.2).

    `verdict` is None where there was nothing to judge: a violation, or no final answer with the gate off. Correctness is 1.0 exactly
    for a correct outcome; under "all" any verdict below 1 counts 0.0. Numbers have at most 12 decimal places and are never -0.0.

    Raises:
        ValueError: the caller's fault: an answer without a verdict, a verdict outside [0, 1], a length term without `tokens`.
    """
    if scheme.gate and finding.violation is not None:
        return Outcome.FORMAT_VIOLATION, 0.0, 0.0, Terms(format=0.0, correctness=0.0, length=0.0, language=0.0)
    correctness = _correctness(scheme, finding, verdict)
    weights = scheme.weights
    terms = Terms(
        format=_number(weights.format) if scheme.gate else 0.0,
        correctness=_number(weights.correctness * correctness),
        length=_number(weights.length * _length_share(scheme, tokens)),
        language=_number(weights.language) if scheme.language_rule is not None and same_language else 0.0,
    )
    reward = _number(math.fsum((terms.format, terms.correctness, terms.length, terms.language)))
    return Outcome.CORRECT if correctness == 1.0 else Outcome.INCORRECT, reward, correctness, terms


def _correctness(scheme: Scheme, finding: FormatFinding, verdict: Verdict | None) -> float:
    """What the verdict counts for; nothing but a full 1.0 comes out as 1.0."""
    if verdict is None:
        if finding.final_answer is not None or scheme.gate:
            raise ValueError("a final answer without a verdict")
        return 0.0
    share = verdict.correctness
    if not 0.0 <= share <= 1.0:
        raise ValueError("a verdict's correctness lies in [0, 1]")
    if share == 1.0:
        return 1.0
    return min(_number(share), 1.0 - 10.0**-_DECIMALS) if scheme.correctness == "fraction" else 0.0


def _length_share(scheme: Scheme, tokens: int | None) -> float:
    """The share of the length weight that is lost, in [-1, 0]."""
    if scheme.l_max is None:
        return 0.0
    if tokens is None:
        raise ValueError("a length term needs the number of tokens")
    return overlong_penalty(tokens, scheme.l_max - scheme.l_cache, scheme.l_max)


def _number(value: float) -> float:
    """The value as a grade states it; adding 0.0 makes a plain zero of -0.0."""
    return round(value, _DECIMALS) + 0.0


# ---- what a request says ---------------------------------------------------------------------------------------------

_KEYS = ("base", *(field.name for field in fields(Scheme) if field.name != "name"))
_WEIGHT_KEYS = tuple(field.name for field in fields(Weights))


def resolve_scheme(spec: str | Mapping[str, object]) -> Scheme:
    """The scheme of that name, or the one named by `base` with the other keys in place of its own.

    Raises:
        RequestError: the request's fault; its pointer is relative to the scheme (`/l_max`, and "" for the scheme itself).
    """
    if isinstance(spec, str):
        return _named(spec, "")
    if not isinstance(spec, Mapping):
        raise RequestError("", "wanted: the name of a scheme, or an object with `base` and overrides")
    _refuse_unknown(spec, _KEYS, "")
    if "base" not in spec:
        raise RequestError("/base", f"missing; one of {_listed(SCHEMES)}")
    base = _named(spec["base"], "/base")
    l_max = _whole_or_null(spec, "l_max", base.l_max, 1, MAX_TOKENS)
    l_cache = _whole(spec, "l_cache", base.l_cache, 0, MAX_TOKENS)
    if l_max is not None and l_cache > l_max:
        raise RequestError("/l_cache" if "l_cache" in spec else "/l_max", f"l_cache ({l_cache}) must not be above l_max ({l_max})")
    return Scheme(
        name=base.name,
        weights=_weights(spec["weights"], base.weights) if "weights" in spec else base.weights,
        tags=_tags(spec["tags"]) if "tags" in spec else base.tags,
        prompt_opened_tag=_flag(spec, "prompt_opened_tag", base.prompt_opened_tag),
        leading_whitespace=_flag(spec, "leading_whitespace", base.leading_whitespace),
        l_max=l_max,
        l_cache=l_cache,
        correctness=_correctness_rule(spec, base.correctness),
        language_rule=_language_rule(spec, base.language_rule),
        gate=_flag(spec, "gate", base.gate),
        draw=_whole_or_null(spec, "draw", base.draw, 1, MAX_DRAW),
        seed=_whole(spec, "seed", base.seed, 0, MAX_SEED),
    )


def _named(name: object, pointer: str) -> Scheme:
    if not isinstance(name, str) or name not in SCHEMES:
        raise RequestError(pointer, f"unknown scheme; one of {_listed(SCHEMES)}")
    return SCHEMES[name]


def _refuse_unknown(given: Mapping[str, object], known: Iterable[str], pointer: str) -> None:
    for key in given:
        if key not in known:
            raise RequestError(f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}", f"unknown field; one of {_listed(known)}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _weights(given: object, base: Weights) -> Weights:
    """The base's weights with those given in place of its own."""
    if not isinstance(given, Mapping):
        raise RequestError("/weights", f"wanted: an object with any of {_listed(_WEIGHT_KEYS)}")
    _refuse_unknown(given, _WEIGHT_KEYS, "/weights")
    return Weights(
        format=_weight(given, "format", base.format),
        correctness=_weight(given, "correctness", base.correctness),
        language=_weight(given, "language", base.language),
        length=_weight(given, "length", base.length),
    )


def _weight(given: Mapping[str, object], key: str, base: float) -> float:
    value = given.get(key, base)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_WEIGHT:  # NaN is in no range
        raise RequestError(f"/weights/{key}", f"wanted: a number from 0 to {MAX_WEIGHT:g}")
    return _number(float(value))


def _tags(given: object) -> tuple[str, str]:
    """Two tags that no text can be read as both of."""
    if not isinstance(given, list | tuple) or len(given) != 2:
        raise RequestError("/tags", "wanted: a list of the opening and the closing tag")
    for index, tag in enumerate(given):
        if not isinstance(tag, str) or not 0 < len(tag) <= MAX_TAG_LENGTH or not tag.isprintable() or tag != tag.strip():
            message = f"wanted: 1 to {MAX_TAG_LENGTH} printable characters without white space at either end"
            raise RequestError(f"/tags/{index}", message)
    opening, closing = given
    if opening in closing or closing in opening:
        raise RequestError("/tags", "the tags must differ, and neither may be part of the other")
    if _overlap(opening, closing) or _overlap(closing, opening):
        raise RequestError("/tags", "neither tag may begin with what the other one ends with")
    return opening, closing


def _overlap(left: str, right: str) -> bool:
    return any(left.endswith(right[:length]) for length in range(1, len(right)))


def _flag(spec: Mapping[str, object], key: str, base: bool) -> bool:
    value = spec.get(key, base)
    if not isinstance(value, bool):
        raise RequestError(f"/{key}", "wanted: true or false")
    return value


def _whole(spec: Mapping[str, object], key: str, base: int, least: int, most: int) -> int:
    value = spec.get(key, base)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise RequestError(f"/{key}", f"wanted: a whole number from {least} to {most}")
    return value


def _whole_or_null(spec: Mapping[str, object], key: str, base: int | None, least: int, most: int) -> int | None:
    value = spec.get(key, base)
    return None if value is None else _whole({key: value}, key, least, least, most)


def _correctness_rule(spec: Mapping[str, object], base: CorrectnessRule) -> CorrectnessRule:
    value = spec.get("correctness", base)
    if value == "all":
        return "all"
    if value == "fraction":
        return "fraction"
    raise RequestError("/correctness", "wanted: `all` or `fraction`")


def _language_rule(spec: Mapping[str, object], base: LanguageRule | None) -> LanguageRule | None:
    value = spec.get("language_rule", base)
    if value is None:
        return None
    if value == "refined":
        return "refined"
    if value == "literal":
        return "literal"
    raise RequestError("/language_rule", "wanted: `refined`, `literal` or null")
