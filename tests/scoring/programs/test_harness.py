"""The programs of boxes: whole, with the texts of others in literals, and no name twice."""

from __future__ import annotations

import ast
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service.scoring.programs import harness
from reward_service.scoring.programs.harness import Driver
from reward_service.verifiers.programs_by_call import driver_files, driver_text

HOSTILE = "'''\"\"\"\\\n\\'''; import os\0\r\n\ud800)#"
PROGRAMS = {
    "call": lambda text: harness.call_program(driver_text(Driver.CALL), text, text, "f", 5),
    "candidate": lambda text: harness.candidate_program(text, text),
    "asserts": lambda text: harness.asserts_program("nonce", text, text, "f"),
    "preparation": lambda text: harness.preparation_program(text, text, "f"),
}


@given(st.text(st.characters()))
def test_a_literal_means_its_text(text: str) -> None:
    assert ast.literal_eval(harness.quoted(text)) == text


def test_lines_stay_lines_so_that_imports_are_found() -> None:
    assert "\nimport numpy\n" in harness.quoted("x = 1\nimport numpy\n")


@pytest.mark.parametrize("name", PROGRAMS)
def test_texts_of_others_are_literals(name: str) -> None:
    tree = ast.parse(PROGRAMS[name](HOSTILE))
    call = tree.body[-1]
    assert isinstance(call, ast.Expr)
    assert isinstance(call.value, ast.Call)
    assert [arg.value for arg in call.value.args if isinstance(arg, ast.Constant)].count(HOSTILE) == 2
    assert len(tree.body) == len(ast.parse(PROGRAMS[name]("")).body)


@pytest.mark.parametrize("driver", Driver)
def test_a_driver_is_whole_and_defines_no_name_twice(driver: Driver) -> None:
    text = driver_files(driver)[f"{harness.DRIVER}.txt"].decode()
    tree = ast.parse(text)
    assert "reward_service" not in [str(node.module).partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    defined = Counter(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef))
    defined.update(
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    )
    assert [each for each, count in defined.items() if count > 1] == []


@pytest.mark.parametrize(
    ("path", "known"),
    [("solve", True), ("_f1", True), ("Solution.solve", True), ("Solution().solve", True), ("a.b.c", True), ("f()", True), ("", False),
     ("1f", False), ("f(1)", False), ("f or g", False), ("a..b", False), ("a.b()", False), ("f\n", False), ("é", False),
     ("a" * 201, False), ("class", False), ("Solution.import", False)],
)  # fmt: skip
def test_names_of_functions(path: str, known: bool) -> None:
    assert harness.is_entry_point(path) is known
