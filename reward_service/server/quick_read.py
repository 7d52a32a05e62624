"""The usual request read in one pass: parsed and checked by a compiled decoder, a fifth of the time that telling what is wrong takes.

Whatever is not plainly right is left to `requests.read_strictly`, which decides and explains; so is everything of the code task.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from reward_service.errors import RequestError
from reward_service.records import ChoiceReference, Group, MathReference, Rollout
from reward_service.scoring.scheme import Scheme, resolve_scheme
from reward_service.server.bounds import Bounds
from reward_service.server.schema import MAX_ANSWERS, MAX_CHOICES, MAX_ID_CHARACTERS, MAX_TOKENS

Identifier = Annotated[str, Meta(max_length=MAX_ID_CHARACTERS)]
# A field that may be left out says so: how many keys there were is what tells that none stood twice.
OptionalText = str | None | UnsetType


class _Rollout(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    rollout_id: Identifier
    completion: str
    completion_tokens: Annotated[int, Meta(ge=0, le=MAX_TOKENS)] | UnsetType | None = UNSET


class _MathReference(msgspec.Struct, forbid_unknown_fields=True):
    answer: OptionalText = UNSET
    answers: Annotated[list[str], Meta(min_length=1, max_length=MAX_ANSWERS)] | UnsetType | None = UNSET


class _ChoiceReference(msgspec.Struct, forbid_unknown_fields=True):
    answer: str
    choices: Annotated[list[str], Meta(max_length=MAX_CHOICES)] | UnsetType = UNSET


class _Group(msgspec.Struct, forbid_unknown_fields=True, tag_field="task"):
    group_id: Identifier
    rollouts: Annotated[list[_Rollout], Meta(min_length=1)]
    prompt: OptionalText = UNSET
    language: UnsetType | None = UNSET


class _MathGroup(_Group, tag="math", kw_only=True):
    reference: _MathReference


class _ChoiceGroup(_Group, tag="choice", kw_only=True):
    reference: _ChoiceReference


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    groups: list[_MathGroup | _ChoiceGroup]
    scheme: str | UnsetType = UNSET
    detail: Literal["brief", "full"] | UnsetType = UNSET
    priority: Literal["train", "eval", "offline"] | UnsetType = UNSET
    deadline_s: Annotated[float, Meta(gt=0)] | UnsetType | None = UNSET
    request_id: Annotated[str, Meta(min_length=1, max_length=MAX_ID_CHARACTERS)] | UnsetType | None = UNSET


@dataclass(frozen=True, slots=True)
class Found:
    """What a body states; what it leaves out has its default."""

    groups: tuple[Group, ...]
    scheme: Scheme
    detail: str
    deadline_s: float
    priority: str
    request_id: str | None


_decode = msgspec.json.Decoder(_Body).decode


class _LookCloser(Exception):
    """Something is not plainly right."""


def read_quickly(data: bytes, bounds: Bounds) -> Found | None:
    """What the body states, or None where that takes a closer look. Linear in its size."""
    if data.count(b",") + data.count(b"[") + data.count(b"{") > bounds.max_values:
        return None
    try:
        body = _decode(data)
        scheme = resolve_scheme("magistral" if body.scheme is UNSET else body.scheme)
        return _found(body, scheme, bounds, _strings_in(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, RequestError, _LookCloser):
        return None


def _found(body: _Body, scheme: Scheme, bounds: Bounds, strings: int) -> Found:
    """What the body states, if it takes so many strings to state it, each key once. Raises _LookCloser."""
    deadline_s = body.deadline_s if isinstance(body.deadline_s, float) else bounds.default_deadline_s
    if not math.isfinite(deadline_s) or deadline_s > bounds.max_deadline_s or len(body.groups) > bounds.max_rollouts:
        raise _LookCloser
    strings -= 1 + 2 * ((body.scheme is not UNSET) + (body.detail is not UNSET) + (body.priority is not UNSET))
    strings -= (body.deadline_s is not UNSET) + _optional(body.request_id)
    groups: dict[str, Group] = {}
    rollouts_left = bounds.max_rollouts
    for group in body.groups:
        rollouts, keys = _rollouts(group.rollouts, scheme, bounds.max_completion_characters)
        rollouts_left -= len(rollouts)
        reference, in_reference = _reference(group)
        strings -= 6 + _optional(group.prompt) + (group.language is not UNSET) + keys + in_reference
        prompt = group.prompt if isinstance(group.prompt, str) else None
        if scheme.needs_prompt and (prompt is None or not prompt.strip()):
            raise _LookCloser
        groups[group.group_id] = Group(group.group_id, group.__struct_config__.tag, reference, rollouts, prompt)  # type: ignore[arg-type]
    if strings or rollouts_left < 0 or len(groups) < len(body.groups):
        raise _LookCloser
    return Found(
        tuple(groups.values()),
        scheme,
        "brief" if body.detail is UNSET else body.detail,
        deadline_s,
        "train" if body.priority is UNSET else body.priority,
        body.request_id if isinstance(body.request_id, str) else None,
    )


def _rollouts(stated: Sequence[_Rollout], scheme: Scheme, longest: int) -> tuple[tuple[Rollout, ...], int]:
    """A group's rollouts, and how many strings state them. Raises _LookCloser."""
    found: dict[str, Rollout] = {}
    strings = 4 * len(stated)
    needs_tokens = scheme.needs_tokens
    for rollout in stated:
        tokens = rollout.completion_tokens
        if tokens is UNSET:
            tokens = None
        else:
            strings += 1
        if (tokens is None and needs_tokens) or len(rollout.completion) > longest:
            raise _LookCloser
        found[rollout.rollout_id] = Rollout(rollout.rollout_id, rollout.completion, tokens)
    if len(found) < len(stated):
        raise _LookCloser
    return tuple(found.values()), strings


def _reference(group: _MathGroup | _ChoiceGroup) -> tuple[MathReference | ChoiceReference, int]:
    """A group's reference, and how many strings state it. Raises _LookCloser."""
    if isinstance(group, _ChoiceGroup):
        choices = group.reference.choices
        return ChoiceReference(group.reference.answer, () if choices is UNSET else tuple(choices)), 2 + _listed(choices)
    answer, answers = group.reference.answer, group.reference.answers
    if isinstance(answer, str) == isinstance(answers, list):
        raise _LookCloser
    return MathReference(tuple(answers) if isinstance(answers, list) else (answer or "",)), _optional(answer) + _listed(answers)


def _strings_in(data: bytes) -> int:
    r"""How many strings JSON text holds; -1 where counting its quotation marks does not tell, as with one that ends in `\\`."""
    marks = data.count(b'"')
    escaped = data.count(b'\\"')
    return -1 if escaped and b'\\\\"' in data else (marks - escaped) // 2


def _optional(text: str | UnsetType | None) -> int:
    """The strings of a field that may be left out or null."""
    return 0 if text is UNSET else 1 if text is None else 2


def _listed(texts: list[str] | UnsetType | None) -> int:
    """The strings of a list that may be left out or null."""
    return 0 if texts is UNSET else 1 if texts is None else 1 + len(texts)
