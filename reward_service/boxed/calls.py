"""The driver of function tests: one call, its arguments from standard input as JSON, its result as one frame on standard output.

The frame is `R`, then the result in the wire form of values; `S`, then why the program does not compile. Whoever forges it has forged
an answer of his own: nothing here knows what is expected.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

from reward_service.boxed.loading import end_with, find, load_program
from reward_service.boxed.values import Refused, Writer

NODES = ("ListNode", "TreeNode")


class Empty:
    """An empty linked list or tree: None, or the empty list that stands for it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


class Results:
    """What a result may hold beside plain values: linked lists and trees, which become the lists that stand for them."""

    def __init__(self, names: dict[str, Any]) -> None:
        self._names = names

    def special(self, value: Any) -> tuple[str, Iterable[Any]] | None:
        """A node as the list that stands for it."""
        if isinstance(value, Empty):
            return "x", (value.kind,)
        name = type(value).__name__
        if name in NODES and type(value) is self._names.get(name):
            return "x", (name, *(_chain(value) if name == "ListNode" else _levels(value)))
        return None

    def handle(self, value: Any) -> Iterable[Any]:
        """Anything else is equal to nothing."""
        return ("B", 0, 0, type(value).__name__)


def run_call(prelude: str, program: str, path: str, limit: int) -> None:
    """Load, call, answer, end."""
    request = json.loads(_all_of(0).decode())
    channel = os.dup(1)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    names, _, before = load_program(prelude, program, lambda why: _send(channel, why))
    try:
        function = find(names, path)
        args = _adapted(names, function, request["args"])
        result = function(*args)
        argument = _argument(function, _stub(before, path), result, request)
        if argument is not None and argument < len(args):
            result = args[argument]
        answer = b"R" + _written(names, function, result, limit)
    except BaseException as error:  # noqa: BLE001 - whatever a program raises ends it
        end_with(error)
    _send(channel, answer)
    os._exit(0)


def _all_of(descriptor: int) -> bytes:
    parts = []
    while part := os.read(descriptor, 1 << 20):
        parts.append(part)
    return b"".join(parts)


def _send(channel: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(channel, view) :]


def _written(names: dict[str, Any], function: Any, result: Any, limit: int) -> bytes:
    if result is None and (kind := _node(_annotations(function).get("return"))):
        result = Empty(kind)
    try:
        return Writer(Results(names), limit).write(result)
    except Refused as refusal:
        os.write(2, f"the result cannot be sent: {refusal}\n".encode())
        os._exit(1)


def _argument(function: Any, stub: Any, result: Any, request: dict[str, Any]) -> int | None:
    """The argument that holds the answer: the one the test names, or the first where the function is declared to return nothing.

    Declared by the program, or by the prelude where that holds a stub of the function.
    """
    if request.get("argument") is not None:
        return int(request["argument"])
    declared = any(_annotations(one).get("return", 0) in (None, "None", type(None)) for one in (function, stub))
    return 0 if result is None and declared and request["args"] else None


def _stub(names: dict[str, Any], path: str) -> Any:
    """What the prelude defines under the function's path, if anything."""
    first, *rest = path.replace("()", "").split(".")
    found = names.get(first)
    for name in rest:
        found = getattr(found, name, None)
    return found


def _annotations(function: Any) -> dict[str, Any]:
    found = getattr(function, "__annotations__", None)
    return found if isinstance(found, dict) else {}


def _node(annotation: Any) -> str | None:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "") + str(annotation)
    return next((name for name in NODES if name in text), None)


# ---- linked lists and trees ------------------------------------------------------------------------------------------


def _adapted(names: dict[str, Any], function: Any, args: list[Any]) -> list[Any]:
    """Arguments with the lists that stand for linked lists and trees as these, where the function says that it takes them."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    if code is None or not any(isinstance(names.get(name), type) for name in NODES):
        return args
    parameters = code.co_varnames[: code.co_argcount][1 if hasattr(function, "__self__") else 0 :]
    annotations = _annotations(function)
    return [_as_node(names, annotations.get(name), arg) for name, arg in zip(parameters, args, strict=False)] + args[len(parameters) :]


def _as_node(names: dict[str, Any], annotation: Any, arg: Any) -> Any:
    name = _node(annotation)
    if name is None or not isinstance(names.get(name), type) or not isinstance(arg, list):
        return arg
    make = _linked if name == "ListNode" else _tree
    if "list[" in str(annotation).lower().replace("typing.", ""):
        return [make(names[name], item) if isinstance(item, list) else item for item in arg]
    return make(names[name], arg)


def _linked(kind: Any, items: list[Any]) -> Any:
    head = None
    for item in reversed(items):
        node = kind(item)
        node.next = head
        head = node
    return head


def _tree(kind: Any, items: list[Any]) -> Any:
    """A tree out of its levels, as LeetCode writes them: None where a child is missing, nothing below a missing one."""
    nodes = [None if item is None else kind(item) for item in items]
    children = iter(nodes[1:])
    for node in nodes:
        if node is not None:
            node.left, node.right = next(children, None), next(children, None)
    return nodes[0] if nodes else None


def _chain(node: Any) -> list[Any]:
    found: list[Any] = []
    seen: set[int] = set()
    while node is not None:
        if id(node) in seen:
            raise Refused("a linked list without end")
        seen.add(id(node))
        found.append(node.val)
        node = node.next
    return found


def _levels(root: Any) -> list[Any]:
    found: list[Any] = []
    level = [root]
    seen: set[int] = set()
    for node in level:
        found.append(None if node is None else node.val)
        if node is not None:
            if id(node) in seen:
                raise Refused("a tree without end")
            seen.add(id(node))
            level += (node.left, node.right)
    while found and found[-1] is None:
        found.pop()
    return found
