"""The published description of the API: FastAPI's own, with the request's schema, since the route reads its body itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from reward_service.server.schema import TESTSET_PATTERN, GradeBody, TestSetModel

REFERENCE = "#/components/schemas/{model}"
EXAMPLE: dict[str, Any] = {
    "scheme": "magistral-literal",
    "groups": [
        {
            "group_id": "step12/p7",
            "prompt": "What is half of one?",
            "task": "math",
            "reference": {"answer": "\\frac{1}{2}"},
            "rollouts": [
                {
                    "rollout_id": "0",
                    "completion": "<think>\nHalf of one is one half.\n</think>\nThe answer is $\\boxed{0.5}$.",
                    "completion_tokens": 19,
                }
            ],
        }
    ],
}
GRADE_EXTRA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": REFERENCE.format(model="GradeBody")}, "example": EXAMPLE}},
    }
}
TEST_SET_EXTRA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": REFERENCE.format(model="TestSetModel")},
                "example": {"tests": [{"stdin": "3\n", "stdout": "6\n"}]},
            }
        },
    }
}
MISSING_EXTRA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["testsets"],
                    "additionalProperties": False,
                    "properties": {"testsets": {"type": "array", "items": {"type": "string", "pattern": TESTSET_PATTERN}}},
                }
            }
        },
    }
}
DESCRIPTION = "Grades completions of language models. Whatever infrastructure does is `unscored`, never a reward of 0."


def describe(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """The function that FastAPI calls for the description; computed once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
            _, definitions = models_json_schema([(GradeBody, "validation"), (TestSetModel, "validation")], ref_template=REFERENCE)
            schemas = found.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(definitions["$defs"])
            app.openapi_schema = found
        return app.openapi_schema

    return openapi
