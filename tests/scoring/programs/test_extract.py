from __future__ import annotations

import ast
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service.records import CodeBlock
from reward_service.scoring.programs.extract import first_code_block, without_idle_space

PIECES = [
    "```",
    "````",
    "`",
    "~~~",
    "\n",
    "\n",
    "\r\n",
    "\r",
    "python",
    "c++",
    "{x}",
    " ",
    "   ",
    "\t",
    "> ",
    "\\",
    "x",
    "é",
    "\x0c",
    "\u2028",
    "\ud800",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=30).map("".join) | st.text(st.characters())
LANGUAGE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+#._-"
MEGABYTE = 1_000_000


def fence(line: str) -> tuple[int, int, str] | None:
    """Indentation, number of backticks and rest of a line that begins with a fence."""
    indent = len(line) - len(line.lstrip(" "))
    rest = line[indent:].lstrip("`")
    ticks = len(line) - indent - len(rest)
    return (indent, ticks, rest) if indent <= 3 and ticks >= 3 else None


def dedented(line: str, indent: int) -> str:
    return line[min(indent, len(line) - len(line.lstrip(" "))) :]


def slow_first_code_block(text: str) -> CodeBlock | None:
    """Line by line, by the letter of the rules."""
    lines = iter(text.replace("\r\n", "\n").split("\n"))
    for line in lines:
        opening = fence(line)
        if opening is None or "`" in opening[2]:
            continue
        indent, ticks, info = opening
        body: list[str] = []
        for inner in lines:
            closing = fence(inner)
            if closing is not None and closing[1] >= ticks and not closing[2].strip():
                break
            body.append(dedented(inner, indent) + "\n")
        else:
            return None
        word = (info.split() or [""])[0]
        if word and all(character in LANGUAGE for character in word):
            return CodeBlock(word, "".join(body))
    return None


@given(TEXTS)
def test_the_slow_reading_finds_the_same(text: str) -> None:
    assert first_code_block(text) == slow_first_code_block(text)


@given(
    st.lists(
        st.sampled_from(["```", "````", "```python", " ```c", "``` x y", "    ```", "```a`b", "x", "   x", "", "> ```", "`````\t"]),
        max_size=12,
    )
)
def test_the_slow_reading_finds_the_same_in_lines(lines: list[str]) -> None:
    text = "\n".join(lines)
    assert first_code_block(text) == slow_first_code_block(text)


@given(TEXTS)
def test_crlf_is_lf(text: str) -> None:
    if "\r" not in text:
        assert first_code_block(text.replace("\n", "\r\n")) == first_code_block(text)


@given(
    st.text(st.characters(exclude_characters="\r")),
    st.sampled_from(["python", "C++", "c#", "x.y_z-9"]),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_a_fenced_source_comes_out_again(source: str, language: str, indent: int, closing_indent: int) -> None:
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", source)), default=0))
    lines = [f"{ticks}{language}", *source.split("\n")]
    text = "\n".join(" " * indent + line for line in lines) + "\n" + " " * closing_indent + ticks
    assert first_code_block(f"before\n{text}\nafter") == CodeBlock(language, source + "\n")


@given(TEXTS, TEXTS)
def test_what_follows_the_first_block_does_not_matter(text: str, after: str) -> None:
    block = first_code_block(text)
    if block is not None:
        assert first_code_block(text + "\n" + after) == block


def filled(piece: str) -> str:
    return piece * (MEGABYTE // len(piece))


BLOCK = CodeBlock("python", "1\n")
LAST = "```python\n1\n```\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("`" * MEGABYTE, None, id="only backticks"),
        pytest.param("`" * MEGABYTE + "x`\n" + LAST, BLOCK, id="backticks that are no fence"),
        pytest.param(filled("```\n```\n") + LAST, BLOCK, id="bare blocks"),
        pytest.param("```\n" * 99_999 + LAST, None, id="bare blocks out of step"),
        pytest.param(filled("```\n````\n") + LAST, BLOCK, id="alternating lengths"),
        pytest.param(filled("```{p}\n```\n") + LAST, BLOCK, id="blocks without a language"),
        pytest.param(filled("```a`\n") + LAST, BLOCK, id="inline fences"),
        pytest.param("\n" * MEGABYTE + LAST, BLOCK, id="empty lines"),
        pytest.param(" " * MEGABYTE + "\n" + LAST, BLOCK, id="spaces"),
        pytest.param("```" + " " * MEGABYTE + "\n```\n" + LAST, BLOCK, id="a blank info string"),
        pytest.param("```a\n```" + " " * MEGABYTE + "x", None, id="white space after what is no closing fence"),
        pytest.param("````\n" + filled("```\n"), None, id="fences that are too short to close"),
        pytest.param("\n".join("`" * n for n in range(1400, 2, -1)), None, id="ever shorter fences"),
        pytest.param("`" * 1000 + "\n" + ("`" * 999 + "\n") * 1000, None, id="fences one too short"),
        pytest.param("   ```python\n" + " \n" * 500_000 + "```", CodeBlock("python", "\n" * 500_000), id="indentation"),
    ],
)
def test_a_megabyte_of_anything_ends(text: str, expected: CodeBlock | None) -> None:
    assert first_code_block(text) == expected


# ---- white space that no compiler looks at ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "settled"),
    [
        ("x = 1  \n\n\n", "x = 1\n"),
        ("x = 1", "x = 1\n"),
        ("if x:\t\n    y\n", "if x:\n    y\n"),
        ("x = '''a  \nb'''  \n\n", "x = '''a  \nb'''  \n"),
        ('x = """a  \nb"""\n', 'x = """a  \nb"""\n'),
        ('auto s = R"(a  \n)";  \n\n', 'auto s = R"(a  \n)";  \n'),
        ("x = 1 + \\\n    2  \n", "x = 1 + \\\n    2  \n"),
        ("x = 'a \\\n  b'  \n", "x = 'a \\\n  b'  \n"),
        ("x = 1 \\  \n+ 2  \n", "x = 1 \\  \n+ 2  \n"),
        ("x = 1 \\\n\n", "x = 1 \\\n\n"),
        ("print('a\\tb')  \n", "print('a\\tb')\n"),
        ("\n\nx\n", "\n\nx\n"),
        ("", "\n"),
    ],
)
def test_white_space_that_no_compiler_looks_at(source: str, settled: str) -> None:
    assert without_idle_space(source) == settled


LINES = st.sampled_from(
    ["x = 1", "if x:", "    y = 2", "s = 'a'", "'''", '"""t"""', "z = 'q\\", "w = \\", "# c", "", "f'{x}'", "(", ")", 'b = R"\'"']
)


@pytest.mark.filterwarnings("ignore")  # of escapes in what the parser is given
@given(st.lists(st.tuples(LINES, st.sampled_from(["", " ", "\t ", "\f"])), max_size=8).map(lambda parts: "\n".join(map("".join, parts))))
def test_a_program_means_the_same_without_it(source: str) -> None:
    settled = without_idle_space(source)
    assert without_idle_space(settled) == settled
    try:
        meaning = ast.dump(ast.parse(source))
    except SyntaxError:
        with pytest.raises(SyntaxError):
            ast.parse(settled)
        return
    assert ast.dump(ast.parse(settled)) == meaning
