"""Wire models of checkers: by name, with a tolerance, or as a program."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from reward_service.server.wire import TAG, Wire, one_of
from sandbox.interface import FILE_NAME, MAX_ARGUMENT_BYTES, MAX_ARGUMENTS, MAX_FILES, MAX_FILES_BYTES, PROGRAM_FILES


class FloatModel(Wire):
    """Tolerances of the `float` checker: |got - expected| <= abs or <= rel * |expected|."""

    abs: Annotated[float, Field(ge=0)] = 1e-6
    rel: Annotated[float, Field(ge=0)] = 1e-6


def _few(files: object) -> object:
    """Refuse many before pydantic looks at each."""
    if isinstance(files, dict) and len(files) > MAX_FILES:
        raise PydanticCustomError("too_long", "must have at most {max_length} entries", {"max_length": MAX_FILES})
    return files


class ProgramModel(Wire):
    """A checker that is a program, in one of the two usual protocols; `main` names the file to compile among `files`."""

    language: Annotated[str, Field(min_length=1, max_length=64)]
    protocol: Literal["kattis", "testlib"]
    main: Annotated[str, Field(min_length=1, max_length=64)]
    files: Annotated[dict[str, str], Field(min_length=1, max_length=MAX_FILES), BeforeValidator(_few)]
    args: Annotated[list[str], Field(max_length=MAX_ARGUMENTS - 3, fail_fast=True)] = Field(
        default_factory=list
    )  # the protocols have three of their own

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.main not in self.files:
            raise PydanticCustomError("main_missing", "`main` must be one of `files`")
        if not all(FILE_NAME.fullmatch(name) for name in self.files):
            raise PydanticCustomError("file_name", "a file's name is up to 64 of the characters A-Z a-z 0-9 . _ + -, not led by . or -")
        if PROGRAM_FILES & (self.files.keys() - {self.main}):
            raise PydanticCustomError("file_name", "a file beside `main` may not be called main, main.py or main.cpp")
        if sum(len(text.encode()) for text in self.files.values()) > MAX_FILES_BYTES:
            raise PydanticCustomError("files_size", "`files` may have {maximum} bytes together", {"maximum": MAX_FILES_BYTES})
        if any("\0" in text or len(text.encode()) > MAX_ARGUMENT_BYTES for text in self.args):
            raise PydanticCustomError("argument", "`args` are up to {maximum} bytes each, without NUL", {"maximum": MAX_ARGUMENT_BYTES})
        return self


class CheckerModel(Wire):
    """A checker with parameters."""

    float: FloatModel | None = None
    program: ProgramModel | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        one_of(float=self.float, program=self.program)
        return self


def _checker_kind(value: object) -> str:
    return TAG + ("object" if isinstance(value, dict) else "name")


CheckerSpec = Annotated[
    Annotated[Literal["tokens", "exact", "lines"], Tag(TAG + "name")] | Annotated[CheckerModel, Tag(TAG + "object")],
    Discriminator(_checker_kind),
]
