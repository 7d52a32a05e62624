"""Function tests and assert programs of the task `code`: what is called, and who compares.

Example: `{"function": "solve", "tests": [{"args": [3], "expected": 6}]}`, or `{"asserts": "assert solve(3) == 6"}`. Neither an expected
value nor an assert is ever in a box with a candidate: results are compared on this side, and asserts run in a box of their own, from
which calls cross to the candidate's box and values back (`reward_service/boxed`, docs/code-tests.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.resources
import importlib.util
import json
import marshal
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace

from reward_service.effects import Effects
from reward_service.errors import BadReference
from reward_service.records import CheckerName, CodeReference, FloatTolerance, Json, ProgramTest, TestStatus
from reward_service.scoring.programs import harness
from reward_service.scoring.programs.harness import Driver
from reward_service.scoring.programs.literals import Malformed, Mismatch, Value, compare_value, read_value, shown
from reward_service.scoring.programs.testcases import encode_text
from reward_service.verifiers.code_findings import STATUSES, TestFinding, is_lasting, program_seed
from reward_service.verifiers.code_keys import Keys, keys_of
from reward_service.verifiers.conversation import Ending, converse
from sandbox.interface import Job, Limits, RunResult, Session, Status, TestInput

LANGUAGE = "python"  # whose values and asserts these are
RESULT_BYTES = 1 << 20  # of a result, or 16 for each character of the expected one, whichever is more
FRAME_BYTES = 65_536  # beside the result: why a program does not compile
TALK_BYTES = 1 << 26  # that a box may send in one conversation
ASSERTS_CPU_S = 10.0  # the asserts' box has at least these, whatever the candidate's limits are
ASSERTS_MEMORY_BYTES = 1 << 29
MAX_DEPTH = 200  # of an expected value: deeper results do not cross
LARGE_CHARACTERS = 65_536  # of JSON that is not read on the event loop
DEFAULT_TOLERANCE = FloatTolerance(1e-9, 1e-9)  # rounding in another order, and nothing else
EXACT = FloatTolerance(0.0, 0.0)

# A program that ended by itself, without an answer, has failed like one that an exception ended.
_STATUSES: Mapping[Status, TestStatus] = {**STATUSES, Status.FINISHED: TestStatus.RUNTIME_ERROR}


@functools.cache
def driver_text(driver: Driver) -> str:
    """The text of a driver."""
    folder = importlib.resources.files("reward_service.boxed")
    return harness.driver_text(driver, {name: folder.joinpath(f"{name}.py").read_text(encoding="utf-8") for name in driver.modules})


@functools.cache
def driver_files(driver: Driver) -> Mapping[str, bytes]:
    """The files of a driver in a box: code for interpreters of this one's version, and text for others."""
    text = driver_text(driver)
    code = marshal.dumps(compile(text, harness.DRIVER, "exec", optimize=2))
    return {f"{harness.DRIVER}.pyc": importlib.util.MAGIC_NUMBER + bytes(12) + code, f"{harness.DRIVER}.txt": text.encode()}


# ---- function tests --------------------------------------------------------------------------------------------------


class FunctionTests:
    """The drawn tests of a function: one call in a fresh box each."""

    def __init__(
        self,
        reference: CodeReference,
        drawn: tuple[int, ...],
        keys: Keys,
        expected: tuple[Json, ...],
        effects: Effects,
    ) -> None:
        self._reference, self._expected, self._effects = reference, expected, effects
        self.drawn, self.keys, self.conditions = drawn, keys.tests, keys.conditions
        self._tests = tuple(reference.tests[index] for index in drawn)
        self._inputs: tuple[TestInput, ...] = ()
        self._tolerance = _tolerance(reference)

    @classmethod
    async def prepare(cls, reference: CodeReference, drawn: tuple[int, ...], effects: Effects) -> FunctionTests:
        """Read the expected values and try the prelude.

        Raises:
            BadReference: the prelude fails, or an expected value is nested too deep to be answered.
            NotScored: ours.
        """
        assert reference.function is not None
        expected = tuple([await _read_json(reference.tests[index].stdout) for index in drawn])
        if any(_too_deep(value) for value in expected):
            raise BadReference("an expected value is nested too deep")
        if reference.prelude:
            await _try_alone(reference.prelude, "", reference.function, reference, effects)
        return cls(reference, drawn, await keys_of(reference, drawn), expected, effects)

    async def run(
        self, language: str, source: str, choose: Callable[[], Sequence[int]], *, started: bool, stop: bool
    ) -> AsyncGenerator[TestFinding, None]:
        """See `DrawnTests`."""
        reference = self._reference
        assert reference.function is not None
        if not self._inputs:
            self._inputs = tuple(TestInput(encode_text(test.stdin), _result_bytes(test) + FRAME_BYTES) for test in self._tests)
        limit = max(map(_result_bytes, self._tests))
        program = harness.call_program(driver_text(Driver.CALL), reference.prelude, source, reference.function, limit)
        limits = reference.limits
        job = Job(LANGUAGE, program, self._inputs, Limits(limits.cpu_s, limits.memory_bytes, limits.compile_s), program_seed(source))
        async with contextlib.aclosing(self._effects.sandbox.run(job, started=started, choose=choose)) as results:
            async for result in results:
                finding = await self._find(result)
                yield replace(finding, lasting=is_lasting(result, limits.cpu_s))
                if finding.index is None:
                    return

    async def _find(self, result: RunResult) -> TestFinding:
        answer = replace(result, stdout=b"")
        if result.index is None:
            return TestFinding(None, TestStatus.COMPILE_ERROR, answer)
        index = self.drawn[result.index]
        if result.stdout[:1] == b"S":
            return TestFinding(index, TestStatus.COMPILE_ERROR, replace(answer, stderr=result.stdout[1:4097]))
        if result.status is not Status.FINISHED or not result.stdout:
            return TestFinding(index, _STATUSES[result.status], answer)
        try:
            value = await _read_answer(result.stdout)
        except Malformed as malformed:
            return TestFinding(index, TestStatus.WRONG_ANSWER, answer, message=f"no answer: {malformed}")
        comparison = compare_value(value, self._expected[result.index], self._tolerance)
        while True:
            try:
                next(comparison)
            except StopIteration as done:
                mismatch: Mismatch | None = done.value
                break
            await asyncio.sleep(0)
        status = TestStatus.ACCEPTED if mismatch is None else TestStatus.WRONG_ANSWER
        answer = replace(answer, stdout=shown(value, value.root).encode("utf-8", "backslashreplace"))
        return TestFinding(index, status, answer, mismatch)


def _tolerance(reference: CodeReference) -> FloatTolerance:
    if isinstance(reference.checker, FloatTolerance):
        return reference.checker
    return EXACT if reference.checker is CheckerName.EXACT else DEFAULT_TOLERANCE


def _result_bytes(test: ProgramTest) -> int:
    return max(RESULT_BYTES, 16 * len(test.stdout))


async def _read_json(text: str) -> Json:
    if len(text) > LARGE_CHARACTERS:
        value: Json = await asyncio.to_thread(json.loads, text)
        return value
    value = json.loads(text)
    return value


def _too_deep(value: Json) -> bool:
    level: list[Json] = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [inner for item in level if isinstance(item, list | dict) for inner in (item.values() if isinstance(item, dict) else item)]
        if not level:
            return False
    return True


async def _read_answer(data: bytes) -> Value:
    if data[:1] != b"R":
        raise Malformed("no result")
    reading = read_value(data[1:])
    while True:
        try:
            next(reading)
        except StopIteration as done:
            value: Value = done.value
            return value
        await asyncio.sleep(0)


# ---- assert programs -------------------------------------------------------------------------------------------------


class AssertProgram:
    """Asserts of a data set that call a candidate's functions: one test, never drawn."""

    drawn = (0,)

    def __init__(self, reference: CodeReference, keys: Keys, effects: Effects) -> None:
        self._reference, self._effects = reference, effects
        self.keys, self.conditions = keys.tests, keys.conditions

    @classmethod
    async def prepare(cls, reference: CodeReference, effects: Effects) -> AssertProgram:
        """Parse the asserts and run their prelude, alone.

        Raises:
            BadReference: these do not parse, the prelude fails, the asserts import what is not here, or call nothing of a candidate's.
            NotScored: ours.
        """
        assert reference.asserts is not None
        await _try_alone(reference.prelude, reference.asserts, reference.entry_point, reference, effects)
        return cls(reference, await keys_of(reference, cls.drawn), effects)

    async def run(
        self, language: str, source: str, choose: Callable[[], Sequence[int]], *, started: bool, stop: bool
    ) -> AsyncGenerator[TestFinding, None]:
        """See `DrawnTests`. A stop by the wall clock may be the machine's doing: tried once more, alone and with more patience."""
        ending = await self._talk(source, choose, started=started)
        if ending is not None and ending.late:
            ending = await self._talk(source, choose, started=True, alone=True)
        if ending is None:
            return
        result = replace(ending.result, index=0, stdout=b"")
        lasting = not ending.late and is_lasting(result, self._reference.limits.cpu_s)
        if ending.passed:
            yield TestFinding(0, TestStatus.ACCEPTED, result)
        elif ending.status is TestStatus.COMPILE_ERROR:
            yield TestFinding(0, ending.status, replace(result, stderr=ending.message.encode()))
        else:
            yield TestFinding(0, ending.status or _STATUSES[result.status], result, message=ending.message, lasting=lasting)

    async def _talk(self, source: str, choose: Callable[[], Sequence[int]], *, started: bool, alone: bool = False) -> Ending | None:
        reference, nonce = self._reference, secrets.token_hex(16)
        assert reference.asserts is not None
        theirs = harness.candidate_program(reference.prelude, source)
        ours = harness.asserts_program(nonce, reference.prelude, reference.asserts, reference.entry_point)
        own = _asserts_limits(reference)
        limits = reference.limits
        patience = 2 if alone else 1
        candidate_s, asserts_s = patience * (2 * limits.cpu_s + 2), patience * (2 * own.cpu_s + 2)
        net_s = candidate_s + asserts_s + 2  # theirs, should ours fail: both boxes live as long as the conversation
        bounds = Limits(limits.cpu_s, limits.memory_bytes, limits.compile_s, wall_s=net_s)
        jobs = (
            _talker(theirs, bounds, program_seed(source), Driver.CANDIDATE, alone),
            _talker(ours, replace(own, wall_s=net_s + 2), _seed_of(reference), Driver.ASSERTS, alone),
        )

        async def conversation(candidate: Session | RunResult, asserts: Session | RunResult) -> Ending:
            return await converse(candidate, asserts, nonce, candidate_s, asserts_s)

        return await self._effects.sandbox.talk(conversation, *jobs, started=started, wanted=lambda: bool(choose()))


def _talker(program: str, limits: Limits, seed: int, driver: Driver, alone: bool) -> Job:
    return Job(LANGUAGE, program, (TestInput(b"", TALK_BYTES),), limits, seed, driver_files(driver), alone=alone)


def _asserts_limits(reference: CodeReference) -> Limits:
    limits = reference.limits
    return Limits(max(limits.cpu_s, ASSERTS_CPU_S), max(limits.memory_bytes, ASSERTS_MEMORY_BYTES), max(limits.compile_s, ASSERTS_CPU_S))


def _seed_of(reference: CodeReference) -> int:
    """Random numbers of the asserts are the same for every program."""
    return program_seed(reference.asserts or "")


async def _try_alone(prelude: str, asserts: str, entry_point: str, reference: CodeReference, effects: Effects) -> None:
    program = harness.preparation_program(prelude, asserts, entry_point)
    job = Job(LANGUAGE, program, (TestInput(b""),), _asserts_limits(reference), _seed_of(reference), driver_files(Driver.ASSERTS))
    async with contextlib.aclosing(effects.sandbox.run(job)) as results:
        result = await anext(results)
    if result.status is not Status.FINISHED:
        raise BadReference(f"the prelude or the asserts cannot be prepared: {result.status.value}")
    if result.stdout != b"ok":
        said = result.stdout[:400].decode("utf-8", "replace")
        raise BadReference(f"the prelude or the asserts cannot be used: {said or 'they end the process'}")
