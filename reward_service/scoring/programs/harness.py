"""What the boxes of function tests and assert programs run: drivers of ours around the texts of a completion and a data set.

The candidate's box gets the prelude, the program and a driver that answers calls; asserts and expected values are only ever in the
program of another box, or compared on this side. Texts of others stand in string literals, and are compiled inside of the box.
"""

from __future__ import annotations

import enum
import keyword
import re
from collections.abc import Mapping

DRIVER = "boxed_driver"  # the module's name, and its files' in the box: .pyc and .txt


class Driver(enum.Enum):
    """A driver: which modules of `reward_service.boxed` it consists of, in the order in which they need one another, what it imports."""

    CALL = (("values", "loading", "calls"), "")
    CANDIDATE = (
        ("channel", "values", "reading", "remotes", "mirrors", "sides", "loading", "candidate"),
        "collections, io, operator, os, random, re, struct, sys, types, typing",
    )
    ASSERTS = (
        ("channel", "values", "reading", "remotes", "mirrors", "sides", "asserts"),
        "ast, collections, io, operator, os, random, re, struct, sys, types, typing",
    )

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of its modules."""
        return tuple(self.value[0])


_OWN_IMPORT = re.compile(r"^from (?:__future__|reward_service\.boxed\.\w+) import .*\n", re.MULTILINE)
_ENTRY_POINT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\(\))?(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
# The first line has the sandbox import what the driver needs once for all tests.
_PROGRAM = """import {imports}
try:
    from {driver} import {function}
except ImportError:
    with open(f"{{sys.path[0]}}/{driver}.txt", encoding="utf-8") as text:
        exec(compile(text.read(), "{driver}", "exec"))
{function}({arguments})
"""


def is_entry_point(path: str) -> bool:
    """Whether a text names a function as references do: `solve`, `Solution.solve` or `Solution().solve`."""
    names = path.replace("()", "").split(".")
    return len(path) <= 200 and _ENTRY_POINT.fullmatch(path) is not None and not any(map(keyword.iskeyword, names))


def driver_text(driver: Driver, texts: Mapping[str, str]) -> str:
    """The one module that a driver is, of the texts of its modules."""
    body = "\n".join(_OWN_IMPORT.sub("", texts[name]) for name in driver.modules)
    return f"from __future__ import annotations\n{body}"


def call_program(driver: str, prelude: str, program: str, path: str, result_bytes: int) -> str:
    """The program of a function test's box: reads `{"args": [...]}` and answers with the result.

    The driver's text is part of it: the sandbox compiles it once, and runs it in 20 tests. (Imported it costs a test 1.5 ms.)
    """
    return f"{driver}\nrun_call({_literals(prelude, program, path, result_bytes)})\n"


def candidate_program(prelude: str, program: str) -> str:
    """The program of a candidate's box in an assert program.

    This driver and the next stand beside their programs as compiled code, since compiling them takes longer than most candidates run,
    and as text, for an interpreter of another version.
    """
    return _program(Driver.CANDIDATE, "serve_candidate", prelude, program)


def asserts_program(nonce: str, prelude: str, asserts: str, entry_point: str) -> str:
    """The program of the asserts' box, which sends `V`, the nonce and the verdict last."""
    return _program(Driver.ASSERTS, "run_asserts", nonce, prelude, asserts, entry_point)


def preparation_program(prelude: str, asserts: str, entry_point: str) -> str:
    """The program that tries asserts and prelude alone and prints `ok`, or what is wrong with them."""
    return _program(Driver.ASSERTS, "prepare_asserts", prelude, asserts, entry_point)


def _program(driver: Driver, function: str, *arguments: str) -> str:
    return _PROGRAM.format(imports=driver.value[1], driver=DRIVER, function=function, arguments=_literals(*arguments))


def _literals(*arguments: str | int) -> str:
    return ", ".join(str(argument) if isinstance(argument, int) else quoted(argument) for argument in arguments)


def quoted(text: str) -> str:
    """A literal that means exactly `text`, its lines as lines: the sandbox looks for imports at their starts, and warms these up."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\r", "\\r").replace("\0", "\\x00")
    return "'''" + escaped.encode("utf-8", "backslashreplace").decode("utf-8") + "'''"
