"""Programs that attack function tests and asserts: none passes, none is unscored, and most of them pass where nothing keeps them apart."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from reward_service.records import CodeBlock, CodeReference, DetailLevel, ProgramLimits, ProgramTest, Verdict
from reward_service.verifiers.base import GroupContext
from reward_service.verifiers.code import CodeVerifier
from sandbox.interface import Job, Limits, Sandbox, TestInput
from tests.effects_for_tests import DirectSandbox, effects

pytestmark = [pytest.mark.attacks, pytest.mark.isolation, pytest.mark.asyncio(loop_scope="session")]

# What a careless runner executes in one process with the program: exit code 0, or a printed PASS, is a pass.
ASSERTS = """
import math
def check(candidate):
    assert candidate(2) == 4
    assert candidate(3) == 9
    assert abs(candidate(4) - 16) < 1e-6
    assert math.isclose(candidate(5), 25.0)
    assert [candidate(i) for i in range(3)] == [0, 1, 4]
    assert sorted([candidate(7), candidate(6)]) == [36, 49]
check(solve)
"""
CALLS = ((2, 4), (3, 9), (4, 16))
# Programs that pass without squaring anything; those with `control` pass in the careless runner, the others say what they aim at in ours.
CHEATS = [json.loads(line) for line in (Path(__file__).parents[1] / "cases" / "call_attacks.jsonl").read_text().splitlines()]
LIMITS = ProgramLimits(cpu_s=0.3, memory_bytes=100 << 20)
REFERENCES = {
    "asserts": CodeReference((), limits=LIMITS, asserts=ASSERTS),
    "calls": CodeReference(
        tuple(ProgramTest(json.dumps({"args": [given]}), json.dumps(expected)) for given, expected in CALLS),
        limits=LIMITS,
        function="solve",
    ),
}
HONEST = "def solve(n):\n    return n * n\n"


async def judged(sandbox: Sandbox, reference: CodeReference, program: str) -> Verdict:
    context = GroupContext("g", 0, False, DetailLevel.FULL)
    judge = await CodeVerifier().prepare(reference, context, effects(DirectSandbox(sandbox)))
    return await judge(CodeBlock("python", program))


@pytest.mark.parametrize("kind", sorted(REFERENCES))
async def test_the_honest_program_passes(sandbox: Sandbox, kind: str) -> None:
    assert (await judged(sandbox, REFERENCES[kind], HONEST)).correctness == 1.0


@pytest.mark.parametrize("kind", sorted(REFERENCES))
@pytest.mark.parametrize("cheat", [pytest.param(cheat, id=cheat["id"]) for cheat in CHEATS])
async def test_no_cheat_passes_and_each_has_a_verdict(sandbox: Sandbox, cheat: Any, kind: str) -> None:
    verdict = await judged(sandbox, REFERENCES[kind], cheat["program"])
    assert verdict.correctness < 1.0
    assert verdict.brief["first_failure"] is not None


@pytest.mark.parametrize("cheat", [pytest.param(cheat, id=cheat["id"]) for cheat in CHEATS if cheat["control"]])
async def test_it_passes_where_asserts_run_with_it(sandbox: Sandbox, cheat: Any) -> None:
    job = Job("python", cheat["program"] + f"\n{ASSERTS}\nprint('PASS')\n", (TestInput(b""),), Limits(cpu_s=1.0))
    async with contextlib.aclosing(sandbox.run(job)) as results:
        result = await anext(results)
    assert result.exit_code == 0 or b"PASS" in result.stdout


SECRETIVE = """
SECRET = 3141
def helper(x):
    return x + 1
class Box:
    hidden = 3141
    _hidden = 3141
    def __init__(self):
        self.shown = 7
        self.function = helper
    def get(self):
        return 1
def endless():
    secret = SECRET
    while True:
        yield 1
assert solve(helper, Box(), endless(), lambda x, y=SECRET: x) == 3141
"""
PRYING = {
    "globals": "lambda *a: [getattr(x, '__globals__')['SECRET'] for x in a][0]",
    "defaults": "lambda f, b, g, h: h.__defaults__[0]",
    "code": "lambda f, b, g, h: h.__code__.co_consts",
    "closure": "lambda f, b, g, h: b.get.__func__.__globals__['SECRET']",
    "class": "lambda f, b, g, h: b.__class__._hidden",
    "private": "lambda f, b, g, h: b._hidden",
    "dict": "lambda f, b, g, h: b.__init__.__globals__['SECRET']",
    "frame": "lambda f, b, g, h: g.gi_frame.f_globals['SECRET']",
    "function-of-object": "lambda f, b, g, h: b.function.__globals__['SECRET']",
    "set": "lambda f, b, g, h: setattr(b, '__class__', dict) or b.shown",
    "reduce": "lambda f, b, g, h: b.__reduce_ex__(2)[0].__globals__",
}
ASKING = """
import gc
def solve(*passed):
    peer = next(o for o in gc.get_objects() if type(o).__name__ == 'Peer')
    for number in range(-4, 40):
        for act, args in ({acts}):
            try:
                found = peer.ask(act, number, args, {{}})
            except Exception:
                continue
            if found == 3141 or (isinstance(found, (list, tuple)) and 3141 in found):
                return 3141
            if isinstance(found, dict) and 'SECRET' in found:
                return found['SECRET']
    return -1
"""
ACTS = ", ".join(
    f"('{act}', {args!r})"
    for act, args in (
        ("get", ("__globals__",)), ("get", ("__defaults__",)), ("get", ("__dict__",)), ("get", ("_hidden",)), ("get", ("gi_frame",)),
        ("item", ("SECRET",)), ("names", ("SECRET",)), ("repr", ()), ("str", ()), ("get", ("func_globals",)), ("get", ("f_globals",)),
        ("set", ("shown", 3141)), ("put", ("x", 1)), ("eval", ("SECRET",)), ("__getattribute__", ("__globals__",)), ("len", ()),
    )
)  # fmt: skip


@pytest.mark.parametrize("name", [*PRYING, "by-hand"])
async def test_nothing_leads_from_what_is_passed_to_the_asserts(sandbox: Sandbox, name: str) -> None:
    program = ASKING.format(acts=ACTS) if name == "by-hand" else f"solve = {PRYING[name]}\n"
    verdict = await judged(sandbox, CodeReference((), limits=LIMITS, asserts=SECRETIVE), program)
    assert verdict.correctness == 0.0


async def test_what_is_passed_may_be_used(sandbox: Sandbox) -> None:
    """The asserts that pry fails on can be satisfied: whatever the rows above get, it is not for want of a way to answer."""
    honest = (
        "def solve(f, b, g, h):\n    assert (f(1), b.shown, b.get(), b.hidden, next(g), h(5)) == (2, 7, 1, 3141, 1, 5)\n    return 3141\n"
    )
    assert (await judged(sandbox, CodeReference((), limits=LIMITS, asserts=SECRETIVE), honest)).correctness == 1.0
