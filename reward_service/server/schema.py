"""Wire models of the native API and their conversion to records: what a request may say, and where it is wrong."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from reward_service.scoring.language_codes import model_label
from reward_service.scoring.programs.harness import is_entry_point
from reward_service.server.bounds import Bounds
from reward_service.server.checker_schema import CheckerModel, CheckerSpec
from reward_service.server.wire import TAG, Wire, bounds_in, one_of

MAX_ID_CHARACTERS = 1024
MAX_ANSWERS = 256
MAX_CHOICES = 256
MAX_LANGUAGES = 32
MAX_ARGUMENTS = 256
MAX_TOKENS = 1_000_000_000
MAX_DRAW = 1_000_000
MIN_CPU_S = 0.01
MIN_MEMORY_BYTES = 1 << 20
TESTSET_PATTERN = r"^sha256:[0-9a-f]{64}$"


def _above(maximum: float) -> PydanticCustomError:
    return PydanticCustomError("above_maximum", "above this server's maximum of {maximum}", {"maximum": f"{maximum:g}"})


def _within_cpu(value: float, info: ValidationInfo) -> float:
    if value > bounds_in(info).max_cpu_s:
        raise _above(bounds_in(info).max_cpu_s)
    return value


def _within_compile(value: float, info: ValidationInfo) -> float:
    if value > bounds_in(info).max_compile_s:
        raise _above(bounds_in(info).max_compile_s)
    return value


def _within_memory(value: int, info: ValidationInfo) -> int:
    if value > bounds_in(info).max_memory_bytes:
        raise PydanticCustomError(
            "above_maximum", "above this server's maximum of {maximum} bytes", {"maximum": bounds_in(info).max_memory_bytes}
        )
    return value


def _within_deadline(value: float, info: ValidationInfo) -> float:
    if value > bounds_in(info).max_deadline_s:
        raise _above(bounds_in(info).max_deadline_s)
    return value


def _known_language(code: str) -> str:
    """The label by which the language model knows it: another one would cost every rollout the language term."""
    label = model_label(code)
    if label is None:
        raise PydanticCustomError("unknown_language", "must be the ISO 639 code of a language that the model lid.176 knows")
    return label


def _test_text(value: object) -> str:
    """A string as it is: tests may carry undecodable bytes as lone surrogates, which pydantic's own strings may not."""
    if isinstance(value, str):
        return value
    raise PydanticCustomError("string_type", "must be a string")


def _scheme_spec(value: object) -> str | dict[str, Any]:
    if isinstance(value, str | dict):
        return value
    raise PydanticCustomError("scheme_type", "must be a scheme's name or an object")


TestText = Annotated[str, PlainValidator(_test_text), WithJsonSchema({"type": "string"})]
Identifier = Annotated[str, Field(max_length=MAX_ID_CHARACTERS)]
SchemeSpec = Annotated[
    str | dict[str, Any], PlainValidator(_scheme_spec), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object"}]})
]


class LimitsModel(Wire):
    """What one program may use; the maxima are settings of the server."""

    cpu_s: Annotated[float, Field(ge=MIN_CPU_S), AfterValidator(_within_cpu)] = 4.0
    memory_bytes: Annotated[int, Field(ge=MIN_MEMORY_BYTES), AfterValidator(_within_memory)] = 314_572_800
    compile_s: Annotated[float, Field(ge=MIN_CPU_S), AfterValidator(_within_compile)] = 10.0


class TestModel(Wire):
    """One test case of a program that reads standard input and writes standard output."""

    __test__ = False

    stdin: TestText
    stdout: TestText


class CallModel(Wire):
    """One call of a function: its arguments and what it returns, or what an argument holds after it."""

    args: Annotated[list[Any], Field(max_length=MAX_ARGUMENTS)]
    expected: Any
    argument: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _argument_is_there(self) -> Self:
        if self.argument is not None and self.argument >= len(self.args):
            raise PydanticCustomError("no_argument", "`argument` must be the place of one of `args`, counted from 0")
        return self


def _test_kind(value: object) -> str:
    return TAG + ("call" if isinstance(value, dict) and ("args" in value or "expected" in value) else "program")


AnyTest = Annotated[Annotated[TestModel, Tag(TAG + "program")] | Annotated[CallModel, Tag(TAG + "call")], Discriminator(_test_kind)]


def _function_name(value: str) -> str:
    if not is_entry_point(value):
        raise PydanticCustomError("function_name", "must be a name such as `solve`, `Solution.solve` or `Solution().solve`")
    return value


FunctionName = Annotated[str, AfterValidator(_function_name)]


class MathReferenceModel(Wire):
    """The dataset's answer, or several of which any one is right."""

    answer: str | None = None
    answers: Annotated[list[str], Field(min_length=1, max_length=MAX_ANSWERS, fail_fast=True)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        one_of(answer=self.answer, answers=self.answers)
        return self


class ChoiceReferenceModel(Wire):
    """The right choice, as its letter or its own text, and the choices in order."""

    answer: str
    choices: Annotated[list[str], Field(max_length=MAX_CHOICES, fail_fast=True)] = Field(default_factory=list)


class TestContentModel(Wire):
    """Hidden tests of a program: what a reference states inline, and a test set is."""

    __test__ = False

    function: FunctionName | None = None
    asserts: str | None = None
    entry_point: FunctionName | None = None
    prelude: str | None = None
    tests: Annotated[list[AnyTest], Field(min_length=1, fail_fast=True)] | None = None
    checker: CheckerSpec = "tokens"

    def check_tests(self, bounds: Bounds) -> None:
        """Refuse what is no test set: what is wrong with its fields together."""
        if self.asserts is not None:
            _none_of(self, "asserts", "tests", "function", "checker")
            return
        if self.tests is None:
            raise PydanticCustomError("missing_tests", "needs `tests` or `asserts`")
        kind = TestModel if self.function is None else CallModel
        if self.function is None:
            _none_of(self, "tests", "entry_point", "prelude")
        elif self.checker not in ("tokens", "exact") and not (isinstance(self.checker, CheckerModel) and self.checker.float):
            raise PydanticCustomError("checker_kind", "the `checker` of a function is `tokens`, `exact` or `float`")
        if not all(isinstance(test, kind) for test in self.tests):
            raise PydanticCustomError(
                "test_kind", "with `function` all `tests` have `args` and `expected`, without it `stdin` and `stdout`"
            )
        if len(self.tests) > bounds.max_tests:
            raise PydanticCustomError("above_maximum", "more than {maximum} tests", {"maximum": bounds.max_tests})


def _none_of(content: TestContentModel, kind: str, *names: str) -> None:
    stated = [name for name in names if name in content.model_fields_set and getattr(content, name) is not None]
    if stated:
        raise PydanticCustomError("not_with", "`{name}` does not go with `{kind}` alone", {"name": stated[0], "kind": kind})


class TestSetModel(TestContentModel):
    """The body of `PUT /v1/testsets/{sha256}`."""

    @model_validator(mode="after")
    def _has_tests(self, info: ValidationInfo) -> Self:
        self.check_tests(bounds_in(info))
        return self


class CodeReferenceModel(TestContentModel):
    """Hidden tests of a program, inline or by the digest of a test set, and how to run it."""

    testset: Annotated[str, Field(pattern=TESTSET_PATTERN)] | None = None
    limits: LimitsModel = LimitsModel.model_construct()
    languages: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(min_length=1, max_length=MAX_LANGUAGES, fail_fast=True)]
        | None
    ) = None
    draw: Annotated[int, Field(ge=1, le=MAX_DRAW)] | None = None

    @model_validator(mode="after")
    def _has_tests(self, info: ValidationInfo) -> Self:
        if self.testset is None:
            self.check_tests(bounds_in(info))
            return self
        doubled = sorted(self.model_fields_set & TestContentModel.model_fields.keys())
        if doubled:
            raise PydanticCustomError("both", "`{name}` is stated by the test set that `testset` names", {"name": doubled[0]})
        return self


class PartModel(BaseModel):
    """A part of a chat message; parts without text count as empty."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, hide_input_in_errors=True)

    text: str | None = None


def _content_kind(value: object) -> str:
    return TAG + ("parts" if isinstance(value, list) else "nothing" if value is None else "text")


class MessageModel(BaseModel):
    """A chat message; other keys than these are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, hide_input_in_errors=True)

    role: str
    content: Annotated[
        Annotated[str, Tag(TAG + "text")]
        | Annotated[list[PartModel], Field(fail_fast=True), Tag(TAG + "parts")]
        | Annotated[None, Tag(TAG + "nothing")],
        Discriminator(_content_kind),
    ] = None


def _prompt_kind(value: object) -> str:
    return TAG + ("messages" if isinstance(value, list) else "nothing" if value is None else "text")


PromptSpec = Annotated[
    Annotated[str, Tag(TAG + "text")]
    | Annotated[list[MessageModel], Field(fail_fast=True), Tag(TAG + "messages")]
    | Annotated[None, Tag(TAG + "nothing")],
    Discriminator(_prompt_kind),
]


def _within_length(value: str, info: ValidationInfo) -> str:
    maximum = bounds_in(info).max_completion_characters
    if len(value) > maximum:
        raise PydanticCustomError("too_large", "has more than this server's maximum of {maximum} characters", {"maximum": maximum})
    return value


class RolloutModel(Wire):
    """One sampled completion, and how many tokens it has (needed by schemes with a length term)."""

    rollout_id: Identifier
    completion: Annotated[str, AfterValidator(_within_length)]
    completion_tokens: Annotated[int, Field(ge=0, le=MAX_TOKENS)] | None = None


class GroupModel(Wire):
    """All rollouts of one prompt."""

    group_id: Identifier
    rollouts: Annotated[list[RolloutModel], Field(min_length=1, fail_fast=True)]
    prompt: PromptSpec = None
    language: (
        Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*$", max_length=35), AfterValidator(_known_language)] | None
    ) = None


class MathGroupModel(GroupModel):
    """A group of the task `math`."""

    task: Literal["math"]
    reference: MathReferenceModel


class ChoiceGroupModel(GroupModel):
    """A group of the task `choice`."""

    task: Literal["choice"]
    reference: ChoiceReferenceModel


class CodeGroupModel(GroupModel):
    """A group of the task `code`."""

    task: Literal["code"]
    reference: CodeReferenceModel


AnyGroupModel = MathGroupModel | ChoiceGroupModel | CodeGroupModel
TASKS = ("math", "choice", "code")


class GradeBody(Wire):
    """The body of `POST /v1/grade`."""

    groups: Annotated[list[Annotated[AnyGroupModel, Discriminator("task")]], Field(fail_fast=True)]  # the first wrong group is enough
    scheme: SchemeSpec = "magistral"
    detail: Literal["brief", "full"] = "brief"
    priority: Literal["train", "eval", "offline"] = "train"
    deadline_s: Annotated[float, Field(gt=0), AfterValidator(_within_deadline)] | None = None
    request_id: Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARACTERS)] | None = None
