"""Loads a candidate's program in its box: the prelude first, then the program, in one module that is not `__main__`."""

from __future__ import annotations

import linecache
import os
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

MODULE = "solution"
PATH = "/box/program/main.py"
OWN_FRAMES = 20  # of ours below the program's, so that it may recurse as deep as a bare run


def load_program(prelude: str, program: str, refuse: Callable[[bytes], None]) -> tuple[dict[str, Any], dict[str, type], dict[str, Any]]:
    """(names of the program, classes of the prelude, names of the prelude as it left them).

    What does not load ends the process; `refuse` is told `S` and why of a syntax error.

    The program is compiled before anything runs, so that a syntax error is known to be one.
    """
    sys.setrecursionlimit(sys.getrecursionlimit() + OWN_FRAMES)
    try:
        code = compile(program, PATH, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError) as error:
        refuse(b"S" + _told(error).encode("utf-8", "replace"))
        os._exit(1)
    module = types.ModuleType(MODULE)
    module.__dict__["__file__"] = PATH
    linecache.cache[PATH] = (len(program), None, program.splitlines(True), PATH)  # for `inspect.getsource`
    sys.modules[MODULE] = module
    names = module.__dict__
    try:
        exec(compile(prelude, "<prelude>", "exec", dont_inherit=True), names)
        classes = {name: item for name, item in names.items() if isinstance(item, type) and item.__module__ == MODULE}
        before = dict(names)
        exec(code, names)
    except BaseException as error:  # noqa: BLE001 - whatever a program raises ends it
        end_with(error)
    return names, classes, before


def end_with(error: BaseException) -> None:
    """End the process as an interpreter does where nobody catches an exception."""
    if isinstance(error, MemoryError):
        os.write(2, b"MemoryError\n")
    elif not isinstance(error, SystemExit):
        try:
            error.__traceback__ = error.__traceback__.tb_next if error.__traceback__ else None
            traceback.print_exception(error)  # the interpreter's own hook would show lines of the file of this name in the box
        except BaseException:  # noqa: BLE001 - an exception that cannot even be shown
            os._exit(1)
    os._exit(1)


def find(names: dict[str, Any], path: str) -> Any:
    """What a path like `solve`, `Solution.solve` or `Solution().solve` names, classes on the way instantiated. Raises what that raises."""
    first, *rest = path.replace("()", "").split(".")
    if first not in names:
        raise NameError(f"name {first!r} is not defined")
    found = names[first]
    for name in rest:
        found = getattr(found() if isinstance(found, type) else found, name)
    return found() if not rest and path.endswith("()") else found


def _told(error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} (line {error.lineno})"
    return f"{type(error).__name__}: {error}"
