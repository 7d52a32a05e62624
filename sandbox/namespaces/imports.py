"""What a program will import, imported once in its cell and not in each of its tests."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

_IMPORT = re.compile(r"^[ \t]*(?:from|import)[ \t]+([A-Za-z_][A-Za-z0-9_]*(?:[ \t]*,[ \t]*[A-Za-z_][A-Za-z0-9_]*)*)", re.MULTILINE)


def import_named(source: bytes, *, apart_from: Iterable[str]) -> None:
    """Import the standard and runtime modules that the program names, once, before its tests are forked.

    Those that files beside the program hide (`apart_from`: their names) are left to the tests; all are where others may import those.
    """
    hidden = {name.partition(".")[0] for name in apart_from}
    if hidden & sys.stdlib_module_names:
        return
    names: set[str] = set()
    for match in _IMPORT.finditer(source.decode("utf-8", "replace")):
        names.update(part.strip() for part in match.group(1).split(","))
    for name in sorted((names & _IMPORTABLE) - hidden):
        if name not in sys.modules:
            try:
                __import__(name)
            except ImportError:
                continue  # not in this runtime: the program will say so itself


_IMPORTABLE = frozenset(
    (
        "abc", "argparse", "array", "ast", "base64", "binascii", "bisect", "calendar", "cmath", "collections", "contextlib", "copy",
        "csv", "dataclasses", "datetime", "decimal", "difflib", "enum", "fractions", "functools", "gc", "getpass", "glob", "hashlib",
        "heapq", "html", "inspect", "io", "itertools", "json", "keyword", "logging", "math", "numbers", "operator", "os", "pathlib",
        "pickle", "platform", "pprint", "queue", "random", "re", "sched", "secrets", "select", "shlex", "shutil", "signal", "socket",
        "sortedcontainers", "statistics", "string", "struct", "subprocess", "sys", "tempfile", "textwrap", "threading", "time", "timeit",
        "traceback", "types", "typing", "unicodedata", "unittest", "urllib", "uuid", "warnings", "weakref", "zlib", "numpy", "scipy",
        "pandas", "sympy", "networkx",
    )
)  # fmt: skip
