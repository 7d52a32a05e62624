"""What the boxes of function tests and assert programs run: drivers of ours around the texts of a completion and a data set.

The candidate's box gets the prelude, the program and a driver that answers calls; asserts and expected values are only ever in the
program of another box, or compared on this side. Texts of others stand in string literals, and are compiled inside of the box.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# Which modules of `reward_service.boxed` a driver consists of, in the order in which they need one another.
_CALL = ("values", "loading", "calls")
_PEER = ("channel", "values", "reading", "remotes", "sides")
_CANDIDATE = (*_PEER, "loading", "candidate")
_ASSERTS = (*_PEER, "asserts")
MODULES = tuple(dict.fromkeys((*_CALL, *_CANDIDATE, *_ASSERTS)))

_OWN_IMPORT = re.compile(r"^from (?:__future__|reward_service\.boxed\.\w+) import .*\n", re.MULTILINE)
_ENTRY_POINT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\(\))?(?:\.[A-Za-z_][A-Za-z0-9_]*)*")

Texts = Mapping[str, str]


def is_entry_point(path: str) -> bool:
    """Whether a text names a function as references do: `solve`, `Solution.solve` or `Solution().solve`."""
    return len(path) <= 200 and _ENTRY_POINT.fullmatch(path) is not None


def call_program(texts: Texts, prelude: str, program: str, path: str, result_bytes: int) -> str:
    """The program of a function test's box: reads `{"args": [...]}` and answers with the result."""
    return _assembled(texts, _CALL, "run_call", prelude, program, path, result_bytes)


def candidate_program(texts: Texts, prelude: str, program: str) -> str:
    """The program of a candidate's box in an assert program."""
    return _assembled(texts, _CANDIDATE, "serve_candidate", prelude, program)


def asserts_program(texts: Texts, nonce: str, prelude: str, asserts: str, entry_point: str) -> str:
    """The program of the asserts' box, which sends `V`, the nonce and the verdict last."""
    return _assembled(texts, _ASSERTS, "run_asserts", nonce, prelude, asserts, entry_point)


def preparation_program(texts: Texts, prelude: str, asserts: str, entry_point: str) -> str:
    """The program that tries asserts and prelude alone and prints `ok`, or what is wrong with them."""
    return _assembled(texts, _ASSERTS, "prepare_asserts", prelude, asserts, entry_point)


def _assembled(texts: Texts, modules: tuple[str, ...], function: str, *arguments: str | int) -> str:
    body = "\n".join(_OWN_IMPORT.sub("", texts[name]) for name in modules)
    literals = ", ".join(str(argument) if isinstance(argument, int) else quoted(argument) for argument in arguments)
    return f"from __future__ import annotations\n{body}\n{function}({literals})\n"


def quoted(text: str) -> str:
    """A literal that means exactly `text`, its lines as lines: the sandbox looks for imports at their starts, and warms these up."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\r", "\\r").replace("\0", "\\0")
    return "'''" + escaped.encode("utf-8", "backslashreplace").decode("utf-8") + "'''"
