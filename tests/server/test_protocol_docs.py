"""docs/protocol.md against the code: its examples are real."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from reward_service.errors import RequestError
from reward_service.pipeline import summarize
from reward_service.records import Grade, Outcome, Reason, Terms, TestStatus, Violation
from reward_service.server.answers import AnswerModel
from reward_service.server.refusals import error_body, refusal_of
from reward_service.server.requests import read_request
from reward_service.server.routes import REFUSED
from reward_service.server.schema import CodeReferenceModel, GradeBody, GroupModel
from reward_service.server.service import bounds_of
from reward_service.settings import Settings

TEXT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
BOUNDS = bounds_of(Settings())


def blocks(kind: str) -> list[str]:
    found = re.findall(rf"```json {kind}\n(.*?)\n```\n", TEXT, re.DOTALL)
    assert found, kind
    return found


def test_the_answer_belongs_to_the_request() -> None:
    request = read_request(blocks("request")[0].encode(), BOUNDS)
    answer = json.loads(blocks("answer")[0])
    AnswerModel.model_validate(answer)
    asked = [(group.group_id, rollout.rollout_id) for group in request.groups for rollout in group.rollouts]
    assert [(grade["group_id"], grade["rollout_id"]) for grade in answer["grades"]] == asked
    assert answer["scheme"] == {"name": request.scheme.name, "digest": request.scheme.digest}


def test_the_answers_numbers_fit() -> None:
    request = read_request(blocks("request")[0].encode(), BOUNDS)
    answer = json.loads(blocks("answer")[0])
    for grade in answer["grades"]:
        assert grade["reward"] == pytest.approx(sum(grade["terms"].values()))
    grades = [Grade(**{**grade, "outcome": Outcome(grade["outcome"]), "terms": Terms(**grade["terms"])}) for grade in answer["grades"]]
    for stated, computed in zip(answer["groups"], summarize(request.groups, grades), strict=True):
        assert stated["reward_mean"] == pytest.approx(computed.reward_mean)
        assert stated["reward_std"] == pytest.approx(computed.reward_std)
        assert (stated["rollouts"], stated["scored"], stated["zero_advantage"]) == (
            computed.rollouts,
            computed.scored,
            computed.zero_advantage,
        )


@pytest.mark.parametrize("block", blocks("refusal"))
def test_refusals_are_what_the_service_says(block: str) -> None:
    example = json.loads(block)
    with pytest.raises(RequestError) as refused:
        read_request(json.dumps(example["body"]).encode(), BOUNDS)
    assert error_body(refusal_of(refused.value)) == example["answer"]


def test_the_streams_example_is_a_stream() -> None:
    lines: list[Any] = [json.loads(line) for line in re.findall(r"^\{\"type\".*$", TEXT, re.MULTILINE)]
    assert [line["type"] for line in lines] == ["grade", "heartbeat", "end"]


@pytest.mark.parametrize("words", [Outcome, Violation, Reason, TestStatus])
def test_vocabularies_are_complete(words: Any) -> None:
    assert not [word.value for word in words if f"`{word.value}`" not in TEXT]


def test_fields_and_statuses_are_complete() -> None:
    fields = [name for model in (GradeBody, GroupModel, CodeReferenceModel) for name in model.model_fields]
    assert not [name for name in fields if f"`{name}`" not in TEXT and f'"{name}"' not in TEXT]
    assert not [status for status in REFUSED if f"\n| {status} |" not in TEXT]
    assert get_args(GradeBody.model_fields["detail"].annotation) == ("brief", "full")
