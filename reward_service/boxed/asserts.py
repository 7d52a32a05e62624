"""The driver of the box that runs a data set's asserts. The candidate's program is in another box; here are only stand-ins for its names.

It ends with one frame: `V`, the nonce of this run, and `P` (passed), `W` (an assert failed) or `R` (an exception), then why. Whatever else
happens to this process is no pass.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import os
import symtable
import sys
import types
from collections.abc import Iterator
from typing import Any

from reward_service.boxed.channel import Channel
from reward_service.boxed.remotes import is_theirs
from reward_service.boxed.sides import Peer

WHY_CHARACTERS = 400
ALIASES = {"np": "numpy", "pd": "pandas"}
CANDIDATE_MODULE = "solution"  # data sets that import the program import it by this name
# A program's prints, its environment, its modules, its source and its coroutines are in another process.
OUT_OF_REACH = frozenset("asyncio redirect_stdout redirect_stderr patch getsource getsourcelines currentframe _getframe settrace".split())
STREAMS = frozenset("stdin stdout stderr".split())
WELL_KNOWN = ("math", "collections", "itertools", "functools", "copy", "heapq", "bisect", "typing")


class Failed(Exception):
    """The asserts as such fail, before or after what they assert."""


class Program:
    """The asserts and their prelude, parsed. Raises SyntaxError, ValueError."""

    def __init__(self, prelude: str, asserts: str, entry_point: str) -> None:
        self.entry_point = entry_point
        self.prelude = compile(prelude, "<prelude>", "exec", dont_inherit=True)
        self.tree = ast.parse(asserts, "<asserts>")
        self.code = compile(asserts, "<asserts>", "exec", dont_inherit=True)
        self._table = symtable.symtable(asserts, "<asserts>", "exec")
        self.module = types.ModuleType("__main__")
        self.names = self.module.__dict__
        self.classes: dict[str, type] = {}

    @property
    def root(self) -> str:
        """The name that the entry point begins with, or nothing."""
        return self.entry_point.replace("()", "").partition(".")[0]

    def run_prelude(self) -> None:
        """Run it. Raises whatever it raises."""
        sys.modules["__main__"] = self.module
        exec(self.prelude, self.names)
        self.classes = {name: item for name, item in self.names.items() if isinstance(item, type) and item.__module__ == "__main__"}

    def foreign_names(self) -> list[str]:
        """Names that the asserts use and neither they, the prelude nor Python define: the candidate's. The entry point always is."""
        own = {symbol.get_name() for symbol in self._table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
        used = {name for table in _tables(self._table) for name in _globals_of(table)}
        found = sorted(name for name in used - own if name not in self.names and not hasattr(builtins, name))
        missing = [self.root] if self.root and self.root not in found else []
        return ([name for name in found if not self._supply(name)] + missing) or self._redefined(own)

    def _redefined(self, own: set[str]) -> list[str]:
        """Where nothing else can be the candidate's: the only function of Python's that the asserts call, as MBPP's `sum(10, 15) == 6`."""
        calls = {node.func.id for node in ast.walk(self.tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)} - own
        found = [name for name in calls if name not in self.names and isinstance(getattr(builtins, name, None), types.BuiltinFunctionType)]
        return found if len(found) == 1 and not _imports_candidate(self.tree) else []

    def _supply(self, name: str) -> bool:
        """Give the asserts what they forgot to import, so that the candidate's own is never asked."""
        if name == self.root:
            return False
        called = any(
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name for node in ast.walk(self.tree)
        )
        module = ALIASES.get(name, name)
        if not called and (name in ALIASES or name in sys.stdlib_module_names) and importlib.util.find_spec(module):
            self.names[name] = importlib.import_module(module)
            return True
        for known in WELL_KNOWN if self.entry_point or not called else ():
            if name in getattr(importlib.import_module(known), "__all__", dir(importlib.import_module(known))):
                self.names[name] = getattr(importlib.import_module(known), name)
                return True
        return False

    def out_of_reach(self) -> str:
        """What the asserts would do to a program in their own process and cannot do from here; nothing where all is well."""
        for node in ast.walk(self.tree):
            if isinstance(node, (ast.Await, ast.AsyncFunctionDef)):
                return "await"
            if isinstance(node, ast.Name) and node.id in OUT_OF_REACH:
                return node.id
            if isinstance(node, ast.Attribute) and (
                node.attr in OUT_OF_REACH or (node.attr in STREAMS and isinstance(node.ctx, ast.Store))
            ):
                return node.attr
            if isinstance(node, ast.arg) and node.arg in ("capsys", "monkeypatch"):
                return node.arg
        return ""

    def missing_modules(self) -> list[str]:
        """Modules that the asserts import outside of any `try` and that do not exist here."""
        found = {name for node in _outside_try(self.tree) for name in _imported(node)}
        return sorted(name for name in found if name != CANDIDATE_MODULE and name not in sys.modules and not importlib.util.find_spec(name))


def _tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _tables(child)


def _globals_of(table: symtable.SymbolTable) -> list[str]:
    top = table.get_type() == "module"
    return [s.get_name() for s in table.get_symbols() if s.is_referenced() and (top or s.is_global()) and not (top and s.is_imported())]


def _outside_try(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.Try):
            yield node
            yield from _outside_try(node)


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    return [node.module.partition(".")[0]] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []


def prepare_asserts(prelude: str, asserts: str, entry_point: str) -> None:
    """Try the reference alone and print what is wrong with it, or `ok`; never returns."""
    channel = os.dup(1)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 1)
    try:
        program = Program(prelude, asserts, entry_point)
        program.run_prelude()
        missing = program.missing_modules()
        said = f"the asserts import {', '.join(missing)}, which is not here" if missing else ""
        if not said and (beyond := program.out_of_reach()):
            said = f"the asserts use {beyond}, which does not reach a program in another process"
        if not said and not program.foreign_names() and not _imports_candidate(program.tree):
            said = "the asserts use no name that could be the candidate's"
    except BaseException as error:  # noqa: BLE001 - whatever a data set does wrong
        said = f"{type(error).__name__}: {error}"[:WHY_CHARACTERS]
    os.write(channel, (said or "ok").encode("utf-8", "replace"))
    os._exit(0)


def _imports_candidate(tree: ast.AST) -> bool:
    return any(CANDIDATE_MODULE in _imported(node) for node in ast.walk(tree))


def run_asserts(nonce: str, prelude: str, asserts: str, entry_point: str) -> None:
    """Run the asserts against the candidate in the other box and send the verdict; never returns."""
    channel = Channel()
    program = Program(prelude, asserts, entry_point)
    sys.setrecursionlimit(sys.getrecursionlimit() + 20)
    peer = None
    try:
        program.run_prelude()
        peer = Peer("A", channel, program.names, program.classes)
        peer.expects_stop = any(isinstance(node, ast.Name) and node.id == "StopIteration" for node in ast.walk(program.tree))
        _run(program, peer)
        status, why = b"P", ""
    except BaseException as error:  # noqa: BLE001 - an assert may fail with any exception
        status, why = _failure(error, peer)
    if peer is not None and peer.failure:
        status, why = b"R", f"the program: {peer.failure}"
    channel.send(b"V" + nonce.encode() + status + why[:WHY_CHARACTERS].encode("utf-8", "replace"))
    os._exit(0)


def _failure(error: BaseException, peer: Peer | None) -> tuple[bytes, str]:
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<asserts>":
            line = trace.tb_lineno
        trace = trace.tb_next
    theirs = peer is not None and error is peer.raised
    kind = b"W" if isinstance(error, (AssertionError, Failed)) and not theirs else b"R"
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - it may hold anything
        text = ""
    return kind, f"{type(error).__name__} in line {line} of the asserts: {text}"


def _run(program: Program, peer: Peer) -> None:
    names = program.names
    wanted = program.foreign_names()
    found = peer.ask("names", 0, tuple(wanted), {})
    if type(found) is not dict or not set(found) <= set(wanted):
        raise Failed("no names of the program")
    names.pop(program.root, None)
    names.update(found)
    if program.entry_point and "candidate" not in names and "candidate" in wanted:
        names["candidate"] = _entry(program)
    _offer_module(peer)
    tests = _Tests(program)
    try:
        exec(program.code, names)
    except SystemExit as end:  # the asserts' own: a program's never gets here
        if end.code not in (None, 0):
            raise
    tests.run()
    _run_what_nobody_ran(program)
    library = any(callable(item) and not is_theirs(item) for item in found.values())  # `solve = math.gcd` is that function itself
    if not peer.used and not library:
        raise Failed("the asserts never asked anything of the program")


def _entry(program: Program) -> Any:
    """What the entry point names: `solve`, or a method of a new instance in `Solution.solve` and `Solution().solve`."""
    first, *rest = program.entry_point.replace("()", "").split(".")
    found = program.names[first]
    if rest or program.entry_point.endswith("()"):
        found = found()
    for name in rest:
        found = getattr(found, name)
    return found


def _run_what_nobody_ran(program: Program) -> None:
    """`check` that is defined and never called, and functions and classes of pytest's kind that nobody mentions."""
    mentioned = {node.id for node in ast.walk(program.tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    own = {name: item for name, item in program.names.items() if getattr(item, "__module__", "") == "__main__" and name not in mentioned}
    check = own.get("check")
    if isinstance(check, types.FunctionType) and program.entry_point:
        check(_entry(program))
    for name, item in own.items():
        if name.startswith("test") and isinstance(item, types.FunctionType) and not _required(item):
            item()
        elif name.startswith("Test") and isinstance(item, type) and not hasattr(item, "assertEqual"):
            _run_test_class(item)


def _run_test_class(kind: type) -> None:
    for name in dir(kind):
        if name.startswith("test") and callable(getattr(kind, name)):
            instance = kind()
            if isinstance(setup := getattr(kind, "setup_method", None), types.FunctionType):
                setup(instance, *[None] * (_required(setup) - 1))  # some take the method that is about to be run
            getattr(instance, name)()


def _required(function: types.FunctionType) -> int:
    """How many arguments a call must give."""
    return function.__code__.co_argcount - len(function.__defaults__ or ())


def _offer_module(peer: Peer) -> None:
    """Let `from solution import solve` find what the candidate's program defines."""
    module = types.ModuleType(CANDIDATE_MODULE)

    def find(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = peer.ask("names", 0, (name,), {})
        if type(found) is not dict or name not in found:
            raise AttributeError(name)
        return found[name]

    module.__dict__["__getattr__"] = find
    sys.modules[CANDIDATE_MODULE] = module


class _Tests:
    """The test cases of `unittest` that the asserts define, run once, wherever they say so."""

    def __init__(self, program: Program) -> None:
        self._program, self._ran = program, False
        self._used = any("unittest" in _imported(node) for node in ast.walk(program.tree)) or "unittest" in program.names
        if self._used:
            unittest = importlib.import_module("unittest")
            unittest.main = lambda *args, **kwargs: self.run()  # type: ignore[attr-defined]

    def run(self) -> None:
        """Run them all. Raises Failed where one fails or is skipped."""
        if not self._used or self._ran:
            return
        unittest = importlib.import_module("unittest")
        self._ran = True
        kinds = [item for item in self._program.names.values() if isinstance(item, type) and issubclass(item, unittest.TestCase)]
        own = [kind for kind in dict.fromkeys(kinds) if kind.__module__ == "__main__"]
        suite = unittest.TestSuite(unittest.defaultTestLoader.loadTestsFromTestCase(kind) for kind in own)
        result = unittest.TestResult()
        suite.run(result)
        bad = [*result.failures, *result.errors, *((test, "unexpected success") for test in result.unexpectedSuccesses)]
        if bad:
            raise Failed(f"{bad[0][0]}: {bad[0][1][-WHY_CHARACTERS // 2 :]}")
        if own and (result.skipped or not result.testsRun):
            raise Failed("tests were skipped")
