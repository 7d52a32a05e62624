from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service.scoring.equivalence.extract import last_boxed

PIECES = [
    "\\boxed{",
    "\\boxed {",
    "\\boxed\n{",
    "\\boxed\n\n{",
    "\\boxed",
    "boxed{",
    "{",
    "}",
    "}",
    "}",
    "\\",
    "\\{",
    "\\}",
    "x",
    " ",
    "\n",
    "é",
    "漢",
    "\0",
    "\ud800",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=30).map("".join) | st.text(st.characters())
BALANCED = st.recursive(
    st.sampled_from(["1", "x", " ", "\\{", "\\}", "\\\\", "é"]),
    lambda inner: st.lists(inner, max_size=3).map("".join) | inner.map("{{{}}}".format) | inner.map("\\boxed{{{}}}".format),
    max_leaves=12,
)
MEGABYTE = 1_000_000


def brace_of_box(text: str, at: int) -> int | None:
    """The index of the opening brace if a box's command stands at `at`: white space without an empty line may precede it."""
    if not text.startswith("\\boxed", at):
        return None
    brace = at + len("\\boxed")
    while brace < len(text) and text[brace] in " \t\r\n\f\v":
        brace += 1
    return brace if text[brace : brace + 1] == "{" and text[at:brace].count("\n") <= 1 else None


def closing(text: str, opened: int) -> int | None:
    depth, at = 0, opened
    while at < len(text):
        depth += (text[at] == "{") - (text[at] == "}")
        if depth == 0:
            return at
        at += 2 if text[at] == "\\" else 1
    return None


def boxes(text: str) -> list[tuple[int, str | None, int]]:
    """Start, content (None: unclosed) and end of each outermost box, read character by character."""
    found: list[tuple[int, str | None, int]] = []
    at = 0
    while at < len(text):
        opened = brace_of_box(text, at)
        if opened is None:
            at += 2 if text[at] == "\\" else 1
            continue
        closed = closing(text, opened)
        found.append((at, None, len(text)) if closed is None else (at, text[opened + 1 : closed], closed + 1))
        at = found[-1][2]
    return found


def slow_last_boxed(text: str) -> str | None:
    found = boxes(text)
    if not found or found[-1][1] is None:
        return None
    content = found[-1][1]
    inner = boxes(content)
    if len(inner) == 1 and inner[0][1] is not None and not (content[: inner[0][0]] + content[inner[0][2] :]).strip(" \t\r\n\f\v"):
        return slow_last_boxed(content)
    stripped = content.strip()
    if (len(stripped) - len(stripped.rstrip("\\"))) % 2:
        stripped += " "
    return stripped or None


@given(TEXTS)
def test_the_slow_reading_finds_the_same(text: str) -> None:
    assert last_boxed(text) == slow_last_boxed(text)


@given(BALANCED, TEXTS)
def test_the_slow_reading_finds_the_same_in_balanced_texts(text: str, before: str) -> None:
    assert last_boxed(text) == slow_last_boxed(text)
    assert last_boxed(before + text) == slow_last_boxed(before + text)


@given(BALANCED.filter(lambda content: content.strip() and "\\boxed" not in content), st.integers(0, 5))
def test_a_boxed_content_comes_out_again_however_often_it_is_boxed(content: str, times: int) -> None:
    text = f"\\boxed{{{content}}}"
    for _ in range(times):
        text = f"\\boxed{{ {text}\n}}"
    assert last_boxed(f"so \\boxed{{0}} or {text}.") == content.strip()


@given(BALANCED, st.text(st.characters(exclude_characters="\\{}")))
def test_text_around_changes_nothing(text: str, around: str) -> None:
    assert last_boxed(f"{around} {text}{around}") == last_boxed(text)


@given(TEXTS)
def test_an_unclosed_or_empty_box_at_the_end_is_never_saved(text: str) -> None:
    assert last_boxed(text + " \\boxed{") is None
    if last_boxed(text) is not None:
        assert last_boxed(text + " \\boxed{ }") is None


def filled(piece: str) -> str:
    return piece * (MEGABYTE // len(piece))


DEEP = MEGABYTE // len("\\boxed{}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(filled("\\boxed{"), None, id="only openings"),
        pytest.param(filled("\\boxed "), None, id="only commands"),
        pytest.param("\\boxed" + " " * MEGABYTE, None, id="white space"),
        pytest.param(filled("\\boxed\n\n"), None, id="empty lines"),
        pytest.param("\\boxed{" + "{" * MEGABYTE, None, id="only braces"),
        pytest.param("\\boxed{" + "{" * MEGABYTE + "}", None, id="almost only opening braces"),
        pytest.param("\\boxed{1" + "}" * MEGABYTE, "1", id="only closing braces"),
        pytest.param("\\" * MEGABYTE + "\\boxed{1}", "1", id="an even run of backslashes"),
        pytest.param("\\" * (MEGABYTE + 1) + "\\boxed{1}", None, id="an odd run of backslashes"),
        pytest.param("\\boxed{" + "\\" * MEGABYTE + "}", "\\" * MEGABYTE, id="backslashes inside"),
        pytest.param(filled("\\boxed{1}"), "1", id="box after box"),
        pytest.param("{" + filled("\\boxed {}") + "\\boxed{2}", "2", id="box after box in a group left open"),
        pytest.param("\\boxed{" * DEEP + "1" + "}" * DEEP, "1", id="box in box"),
        pytest.param("\\boxed{" * DEEP + "}" * DEEP, None, id="nothing in box in box"),
        pytest.param("\\boxed{" * DEEP + "1" + "}" * (DEEP - 1), None, id="box in box, one left open"),
        pytest.param("\\boxed{" * 9999 + "1" + "}+" * 9998 + "}", "\\boxed{" * 9998 + "1" + "}+" * 9998, id="box in box with more in it"),
        pytest.param("\\boxed{" + "{" * 400_000 + "1" + "}" * 400_000 + "}", "{" * 400_000 + "1" + "}" * 400_000, id="brace in brace"),
        pytest.param("\\boxed{" + "{}" * 400_000 + "}", "{}" * 400_000, id="pair after pair"),
    ],
)
def test_a_megabyte_of_anything_ends(text: str, expected: str | None) -> None:
    assert last_boxed(text) == expected
