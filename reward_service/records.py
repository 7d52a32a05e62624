"""The nouns of grading: frozen records without behaviour, and the closed vocabularies of the wire."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
JsonObject = Mapping[str, Json]


class Outcome(enum.StrEnum):
    """What a rollout turned out to be; `unscored` alone has no reward."""

    CORRECT = "correct"
    INCORRECT = "incorrect"
    FORMAT_VIOLATION = "format_violation"
    UNSCORED = "unscored"


class Violation(enum.StrEnum):
    """Why the format gate failed, in the order in which several at once are reported (MAGISTRAL.md, format gate)."""

    NO_OPENING_TAG = "no_opening_tag"
    TEXT_BEFORE_TAG = "text_before_tag"
    NO_CLOSING_TAG = "no_closing_tag"
    REPEATED_TAG = "repeated_tag"
    NO_BOXED_ANSWER = "no_boxed_answer"
    NO_CODE_BLOCK = "no_code_block"


class Reason(enum.StrEnum):
    """Why a rollout is `unscored`: never anything that its completion did."""

    BAD_REFERENCE = "bad_reference"
    LANGUAGE_UNAVAILABLE = "language_unavailable"
    DEADLINE = "deadline"
    OVERLOADED = "overloaded"
    CANCELLED = "cancelled"
    SANDBOX_UNAVAILABLE = "sandbox_unavailable"
    WORKER_LOST = "worker_lost"


class TestStatus(enum.StrEnum):
    """What became of one test case of a program."""

    __test__ = False  # not a test class, whatever its name

    ACCEPTED = "accepted"
    WRONG_ANSWER = "wrong_answer"
    RUNTIME_ERROR = "runtime_error"
    TIME_LIMIT_EXCEEDED = "time_limit_exceeded"
    MEMORY_LIMIT_EXCEEDED = "memory_limit_exceeded"
    OUTPUT_LIMIT_EXCEEDED = "output_limit_exceeded"
    POLICY_VIOLATION = "policy_violation"
    COMPILE_ERROR = "compile_error"
    LANGUAGE_NOT_ALLOWED = "language_not_allowed"
    NOT_RUN = "not_run"


class AnswerForm(enum.StrEnum):
    """What the answer section must hold for the gate: a box (math, choice) or a fenced code block (code)."""

    BOX = "box"
    CODE_BLOCK = "code_block"


class DetailLevel(enum.StrEnum):
    """How much a grade explains: `brief` for trainers, `full` for people."""

    BRIEF = "brief"
    FULL = "full"


# ---- what a request brings -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MathReference:
    """The dataset's answers in LaTeX or plain text; equal to any one of them is correct."""

    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChoiceReference:
    """The right choice, as its letter or as its own text, and the texts of the choices in order (may be empty)."""

    answer: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProgramTest:
    """One test case of a stdin/stdout program."""

    stdin: str
    stdout: str


@dataclass(frozen=True, slots=True)
class FloatTolerance:
    """Bounds of the `float` checker: |got - expected| <= abs or <= rel * |expected|."""

    abs: float = 1e-6
    rel: float = 1e-6


class CheckerName(enum.StrEnum):
    """The checkers that need no parameters."""

    TOKENS = "tokens"
    EXACT = "exact"
    LINES = "lines"


class CheckerProtocol(enum.StrEnum):
    """How a checker program is called, and which of its exit codes means right."""

    KATTIS = "kattis"  # `input answer feedback_dir args < output`: 42 right, 43 wrong
    TESTLIB = "testlib"  # `input output answer args`: 0 right, 1 or 2 wrong


class ProgramChecker(NamedTuple):
    """A checker that is a program: `main` is the file to compile, `files` are (name, text) of all of them by name.

    A tuple and no dataclass, so that MessagePack can tell it from a FloatTolerance.
    """

    language: str
    protocol: CheckerProtocol
    main: str
    files: tuple[tuple[str, str], ...]
    arguments: tuple[str, ...] = ()


OutputChecker = CheckerName | FloatTolerance  # decided on this side, without a program
Checker = OutputChecker | ProgramChecker


@dataclass(frozen=True, slots=True)
class ProgramLimits:
    """What one program may use: CPU seconds of the job tree per test, peak bytes of the job tree, CPU seconds to compile."""

    cpu_s: float = 4.0
    memory_bytes: int = 314_572_800
    compile_s: float = 10.0


ALL_TESTS = None  # CodeReference.draw: run every test


@dataclass(frozen=True, slots=True)
class CodeReference:
    """Hidden tests and how to run them. `languages` None: what the server's setting allows. `draw` None: all tests.

    Without `function` and `asserts` the tests are a program's. With `function` they are its calls: a test's `stdin` is JSON of
    `{"args": [...]}` (and `"argument"`, the place of the argument that holds the answer after the call), its `stdout` JSON of what is
    expected. With `asserts` there are no other tests. `prelude` is source that functions and asserts need on both sides.
    `testset` names the uploaded test set that stands for the tests and checker; whoever holds test sets puts these in its place.
    """

    tests: tuple[ProgramTest, ...]
    checker: Checker = CheckerName.TOKENS
    limits: ProgramLimits = field(default_factory=ProgramLimits)
    languages: tuple[str, ...] | None = None
    draw: int | None = ALL_TESTS
    digest: str = ""  # sha256 of the test set's canonical form; what the draw depends on
    testset: str | None = None  # "sha256:..." while its tests are not here
    function: str | None = None
    asserts: str | None = None
    entry_point: str = ""
    prelude: str = ""


Reference = MathReference | ChoiceReference | CodeReference


@dataclass(frozen=True, slots=True)
class Rollout:
    """One sampled completion."""

    rollout_id: str
    completion: str
    completion_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """All rollouts of one prompt; the reference is stated once. `language` is the wanted language, stated outright."""

    group_id: str
    task: str
    reference: Reference
    rollouts: tuple[Rollout, ...]
    prompt: str | None = None
    language: str | None = None


# ---- what grading finds ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Completion:
    """A completion split once by the scheme's tags; `violation` names what is wrong with the tags.

    Without a closing tag `thinking` is "" and `answer` is the whole completion (what `correctness-only` grades).
    """

    thinking: str
    answer: str
    violation: Violation | None = None


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """A fenced code block: its language specification as written, and its body with LF line ends."""

    language: str
    source: str


FinalAnswer = str | CodeBlock  # content of the box, or the code block


@dataclass(frozen=True, slots=True)
class FormatFinding:
    """What the gate found: a violation, or the final answer (with the gate off both may be None: nothing to grade)."""

    violation: Violation | None
    final_answer: FinalAnswer | None


@dataclass(frozen=True, slots=True)
class LanguageFinding:
    """Whether problem, thinking and answer share a language, and what was seen (for `detail` full)."""

    consistent: bool
    detail: JsonObject


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verifier's finding about one final answer. `correctness` in [0, 1]; `brief` and `full` go into the grade's detail."""

    correctness: float
    brief: JsonObject
    full: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Terms:
    """The four terms of a reward, already weighted; all of them present for every rollout."""

    format: float
    correctness: float
    length: float
    language: float


@dataclass(frozen=True, slots=True)
class Grade:
    """One rollout's grade. `reward`, `correctness` and `terms` are None exactly when the outcome is `unscored`."""

    group_id: str
    rollout_id: str
    outcome: Outcome
    reward: float | None
    correctness: float | None
    terms: Terms | None
    detail: JsonObject


@dataclass(frozen=True, slots=True)
class GroupSummary:
    """Statistics of a group: mean and population standard deviation over the scored rollouts, None where undefined."""

    group_id: str
    rollouts: int
    scored: int
    reward_mean: float | None
    reward_std: float | None
    zero_advantage: bool | None
