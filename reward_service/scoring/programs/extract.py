"""Find the program to run: the first fenced code block of an answer that names a language."""

from __future__ import annotations

import re

from reward_service.records import CodeBlock

# One match is one fenced block from its opening line on; `body` is its last group unless it is never closed. No input makes the engine
# go back by more than it went forward, so that a text of n characters takes O(n): runs of one character class are possessive, and the
# body is a lazy run of single characters. (Possessive groups are avoided: they are broken before Python 3.11.5, cpython issue 106052.)
# White space at the end of a line is whatever Unicode calls so, except LF.
_WORD = r"[A-Za-z0-9+#._-]++"
_WHITE = r"[^\S\n]*+"
_BLOCK = re.compile(
    r"^(?P<indent> {0,3}+)(?P<ticks>`{3,}+)(?P<info>[^`\n]*+)$"
    rf"(?:\n(?P<body>[\s\S]*?)^ {{0,3}}+(?P=ticks)`*+{_WHITE}$|)",
    re.MULTILINE,
)
_OPENING_WITH_LANGUAGE = re.compile(rf"^ {{0,3}}+`{{3,}}+{_WHITE}{_WORD}(?:[^\S\n][^`\n]*+)?$", re.MULTILINE)
_LANGUAGE = re.compile(_WORD)


def first_code_block(answer: str) -> CodeBlock | None:
    """The first closed block with a language specification, known or not, or None (MAGISTRAL.md, format gate, fences).

    A fence is three or more backticks at the start of a line, after up to three spaces that are also taken off each line of the body;
    at least as many, alone on a line, close it. Blocks without a language are passed over; an unclosed one ends the search, since
    all that follows lies inside it. The answer's first character starts a line. Line ends are LF and CRLF; a CR alone is none.
    Linear in the answer's length.

    Example: "```Python\\nprint(1)\\n```" is `CodeBlock("Python", "print(1)\\n")`.
    """
    text = answer.replace("\r\n", "\n")
    if "```" not in text or not _OPENING_WITH_LANGUAGE.search(text):  # quicker than walking over blocks in vain
        return None
    for block in _BLOCK.finditer(text):
        if block.lastgroup != "body":
            return None
        info = block["info"]
        if info and (language := _language(info)):
            return CodeBlock(language, _without_indent(block["body"], len(block["indent"])))
    return None


def _language(info: str) -> str | None:
    """The first word of an info string where it is made of a language name's characters alone."""
    words = info.split(maxsplit=1)
    return words[0] if words and _LANGUAGE.fullmatch(words[0]) else None


def _without_indent(body: str, spaces: int) -> str:
    """The body with up to `spaces` spaces taken off the start of each line."""
    return re.sub(rf"\n {{1,{spaces}}}+", "\n", "\n" + body)[1:] if spaces else body


def without_idle_space(source: str) -> str:
    """The program without white space that no compiler looks at, so that two programs that differ in nothing else are one.

    White space at ends of lines goes where no string or continued line can reach over one; blank lines at the end always do.
    """
    lines = [line.rstrip(" \t") for line in source.split("\n")]
    if any(mark in source for mark in ('"""', "'''", 'R"')) or any(line.endswith("\\") for line in lines):
        text = source.rstrip("\n")
        return source if text.endswith("\\") else text + "\n"
    return "\n".join(lines).rstrip("\n") + "\n"
