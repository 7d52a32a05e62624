"""What runs inside a worker for several requests at once: small calls one after the other, each as if it were alone."""

from __future__ import annotations

import msgspec

from reward_service.worker_main import encode, resolve, seed

PREFIXES = ("reward_service",)


def run_many(calls: list[tuple[str, list[msgspec.Raw]]]) -> list[msgspec.Raw]:
    """The result of each call, as MessagePack; a call is a function as `module:qualname` and its arguments as MessagePack.

    Whatever one of them raises, all raise: each is asked again alone then.
    """
    found = []
    for name, parts in calls:
        function, readers = resolve(name, PREFIXES)
        args = [read(part) for read, part in zip(readers, parts, strict=False)]
        seed()
        found.append(encode(function(*args)))
    return found
