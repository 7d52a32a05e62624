"""One program of a group on its drawn tests: nothing run twice, nothing run in vain, and the grade the same as if all were run.

What a program does in a test depends on the program, the test, the limits and the tool chain, so that a verdict holds wherever these
come again: for another rollout, another group, another step. The switches are `effects.Economy`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from reward_service.effects import Effects
from reward_service.records import DetailLevel, TestStatus
from reward_service.verifiers.code_findings import EXCERPT_CHARACTERS, DrawnTests, TestFinding
from reward_service.verifiers.code_keys import digest_of
from sandbox.interface import RunResult, Status

NOTHING = RunResult(None, Status.FINISHED)


@dataclass(slots=True)
class _Known:
    """What is known of one program, by the keys of tests; `compile_error` stands for all of them."""

    findings: dict[bytes, TestFinding] = field(default_factory=dict)
    compile_error: TestFinding | None = None


class ProgramRun:
    """One program's way through the drawn tests."""

    def __init__(self, tests: DrawnTests, language: str, source: str, effects: Effects, detail: DetailLevel, *, share: bool) -> None:
        self._tests, self._language, self._source, self._detail = tests, language, source, detail
        self._memory, self._economy = effects.memory, effects.economy
        self._stop_early = effects.economy.stop_early and not share
        self._program = digest_of(effects.memory.tool_chain, language, source, detail.value, tests.conditions)
        self._job = digest_of(self._program, str(self._stop_early), *tests.keys)
        self._places = {key: place for place, key in reversed([*enumerate(tests.keys)])}
        self._known = _Known()
        self._mine: asyncio.Future[object] | None = None
        self._theirs: asyncio.Future[object] | None = None

    async def findings(self) -> list[TestFinding]:
        """A finding for each drawn test that decides something, in the order of the tests; a single one where it does not compile.

        Raises:
            NotScored: ours.
        """
        theirs: asyncio.Future[object] | None = None
        while not self._recall():
            await self._run(started=theirs is not None)  # its turn had come: the deadline bounds waiting for that, and nothing else
            theirs, self._theirs = self._theirs, None
            if theirs is None:
                break
            await asyncio.wait({theirs})
            self._take_over(theirs)
        return self._found()

    def _found(self) -> list[TestFinding]:
        if self._known.compile_error is not None:
            return [self._known.compile_error]
        findings = self._known.findings
        known = [(findings[key], index) for key, index in zip(self._tests.keys, self._tests.drawn, strict=True) if key in findings]
        broken = [replace(finding, index=None) for finding, _ in known if finding.status is TestStatus.COMPILE_ERROR]
        return [replace(finding, index=index) for finding, index in known if finding.status is not TestStatus.COMPILE_ERROR] + broken[:1]

    async def _run(self, *, started: bool) -> None:
        try:
            results = self._tests.run(self._language, self._source, self._choose, started=started, stop=self._stop_early)
            async with contextlib.aclosing(results) as findings:
                async for finding in findings:
                    self._note(finding)
                    if self._decided():
                        return
        finally:
            if self._mine is not None:
                del self._memory.under_way[self._job]
                self._mine.set_result(self._known)
                self._mine = None

    def _choose(self) -> Sequence[int]:
        """The places of the tests to run, now that it is this program's turn; none where it is known, or runs already."""
        if self._recall():
            return ()
        if self._mine is None and self._economy.join:
            self._theirs = self._memory.under_way.get(self._job)
            if self._theirs is not None:
                return ()
            self._mine = self._memory.under_way[self._job] = asyncio.get_running_loop().create_future()
        missing = [place for key, place in self._places.items() if key not in self._known.findings]
        if not (self._economy.failed_first and self._stop_early):
            return sorted(missing)
        return sorted(missing, key=lambda place: (-self._memory.failures(self._tests.keys[place]), place))

    def _decided(self) -> bool:
        known = self._known
        if known.compile_error is not None or len(known.findings) == len(self._places):
            return True
        return self._stop_early and any(finding.status is not TestStatus.ACCEPTED for finding in known.findings.values())

    # ---- what was found before ---------------------------------------------------------------------------------------

    def _recall(self) -> bool:
        """Look up what is remembered; whether that decides."""
        if not self._decided():
            self._known.compile_error = self._remembered(self._program)
            for key in self._places:
                if key not in self._known.findings and (finding := self._remembered(digest_of(self._program, key))):
                    self._known.findings[key] = finding
        return self._decided()

    def _remembered(self, key: bytes) -> TestFinding | None:
        found = self._memory.recall(key)
        if isinstance(found, TestStatus):
            return TestFinding(None, found, NOTHING)
        return found if isinstance(found, TestFinding) else None

    def _take_over(self, done: asyncio.Future[object]) -> None:
        """What the same program's run came to; nothing where it was stopped."""
        known = done.result()
        assert isinstance(known, _Known)
        self._known.compile_error = known.compile_error
        self._known.findings.update(known.findings)

    def _note(self, finding: TestFinding) -> None:
        finding = _slim(finding, self._detail)
        if finding.index is None:
            self._known.compile_error = finding
            if finding.lasting:
                self._keep(self._program, finding)
            return
        key = self._tests.keys[self._tests.drawn.index(finding.index)]
        self._known.findings[key] = finding
        if finding.status is not TestStatus.ACCEPTED:
            self._memory.count_failure(key)
        if finding.lasting:
            self._keep(digest_of(self._program, key), finding)

    def _keep(self, key: bytes, finding: TestFinding) -> None:
        if self._detail is DetailLevel.BRIEF:
            self._memory.keep(key, finding.status, 0)
        else:
            size = sum(len(result.stdout) + len(result.stderr) for result in (finding.result, finding.check) if result)
            self._memory.keep(key, finding, 2_000 + size + len(finding.message))


def _slim(finding: TestFinding, detail: DetailLevel) -> TestFinding:
    """The finding without what no detail shows."""
    if detail is DetailLevel.BRIEF:
        return replace(finding, result=NOTHING, difference=None, check=None, message="")
    check = None if finding.check is None else _cut(finding.check)
    return replace(finding, result=_cut(finding.result), check=check, message=finding.message[:EXCERPT_CHARACTERS])


def _cut(result: RunResult) -> RunResult:
    return replace(result, stdout=result.stdout[:EXCERPT_CHARACTERS], stderr=result.stderr[:EXCERPT_CHARACTERS])
