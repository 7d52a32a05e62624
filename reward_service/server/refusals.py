"""What a refused request is told: JSON pointers to the fields and what is wrong with them, bounded in number and size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from reward_service.errors import RequestError

MAX_ERRORS = 20
MAX_POINTER_CHARACTERS = 400
MAX_TOKEN_CHARACTERS = 200
TASK_DEPTH = 2  # pydantic's location of anything in a group: "groups", index, the task's name, ...
TAG = "\0"

MESSAGES: Mapping[str, str] = {
    "extra_forbidden": "unknown field",
    "missing": "is missing",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dict_type": "must be an object",
    "list_type": "must be an array",
    "too_short": "must not be empty",
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "float_type": "must be a number",
    "int_from_float": "must be an integer",
    "finite_number": "must be a finite number",
    "literal_error": "must be {expected}",
    "greater_than": "must be greater than {gt:.10g}",
    "greater_than_equal": "must be at least {ge:.10g}",
    "less_than_equal": "must be at most {le:.10g}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "too_long": "must have at most {max_length} entries",
    "string_pattern_mismatch": "has a wrong form: it must match {pattern}",
    "string_unicode": "must be text without lone surrogates",
    "none_required": "must be null",
}
TOO_LARGE = "too_large"  # an error of ours: of a field that alone is too much
TAG_ERRORS = ("union_tag_invalid", "union_tag_not_found")


class Refusal(RequestError):
    """A request that is wrong in several places; the first one stands in `pointer` and `message`."""

    def __init__(self, errors: Sequence[tuple[str, str]], status: int = 422) -> None:
        super().__init__(*errors[0], status)
        self.errors = tuple(errors[:MAX_ERRORS])


class UnknownTestSets(Refusal):
    """The request names test sets that are not here (424): upload the `missing` ones, then send it again."""

    def __init__(self, pointers: Sequence[str], missing: Sequence[str]) -> None:
        super().__init__([(pointer, "no such test set is here: upload it") for pointer in pointers], 424)
        self.missing = tuple(missing)


def refusal_of(error: RequestError) -> tuple[tuple[str, str], ...]:
    """All (pointer, message) pairs of a refusal, at least one."""
    return error.errors if isinstance(error, Refusal) else ((error.pointer, error.message),)


def error_body(errors: Sequence[tuple[str, str]]) -> dict[str, object]:
    """The body of a refusal: `error` is the first; `errors` lists all where there are several."""
    listed = [{"pointer": pointer, "message": message} for pointer, message in errors]
    return {"error": listed[0], "errors": listed} if len(listed) > 1 else {"error": listed[0]}


def body_of(error: RequestError) -> dict[str, object]:
    """The body of the answer to a refused request."""
    body = error_body(refusal_of(error))
    return {**body, "missing": error.missing} if isinstance(error, UnknownTestSets) else body


def refused_by(error: ValidationError, tasks: Iterable[str]) -> Refusal:
    """The refusal that says what pydantic found, without any input in it."""
    details = error.errors(include_url=False, include_input=False)
    status = 413 if details[0]["type"] == TOO_LARGE else 422
    return Refusal([_entry(detail, tasks) for detail in details[:MAX_ERRORS]], status)


def pointer_of(location: Sequence[str | int]) -> str:
    """JSON pointer (RFC 6901) of a pydantic location in a request's body, without the tags of unions."""
    kept = [
        token
        for depth, token in enumerate(location)
        if not (isinstance(token, str) and token.startswith(TAG)) and not (depth == TASK_DEPTH and location[0] == "groups")
    ]
    return json_pointer(kept)


def json_pointer(tokens: Iterable[str | int]) -> str:
    """JSON pointer (RFC 6901) of keys and indices, cut off where it is too long."""
    return "".join(f"/{_escaped(token)}" for token in tokens)[:MAX_POINTER_CHARACTERS]


def _escaped(token: str | int) -> str:
    return str(token)[:MAX_TOKEN_CHARACTERS].replace("~", "~0").replace("/", "~1")


def _entry(detail: ErrorDetails, tasks: Iterable[str]) -> tuple[str, str]:
    pointer = pointer_of(detail["loc"])
    if detail["type"] in TAG_ERRORS:
        return f"{pointer}/task", f"must be one of {', '.join(tasks)}"
    template = MESSAGES.get(detail["type"])  # its names are those of constraints: no context that holds input is ever printed
    return pointer, detail["msg"] if template is None else template.format_map(detail.get("ctx", {}))
