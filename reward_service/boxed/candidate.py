"""The driver of a candidate's box in an assert program: loads the program, then does what the asserts' box asks, until that ends.

The first frame says how loading went: `L`, or `S` and why the program does not compile.
"""

from __future__ import annotations

import os
import sys

from reward_service.boxed.channel import Broken, Channel
from reward_service.boxed.loading import load_program
from reward_service.boxed.sides import Peer


def serve_candidate(prelude: str, program: str) -> None:
    """Load and serve; never returns."""
    channel = Channel()
    names, classes, _ = load_program(prelude, program, channel.send)
    peer = Peer("B", channel, names, classes)
    for name, kind in list(classes.items()):
        now = names.get(name)
        if isinstance(now, type) and now is not kind:
            peer.redefine(name, now)
    try:
        channel.send(b"L")
        peer.serve()
    except Broken as broken:
        if str(broken) != "the other side has ended":
            sys.stderr.write(f"{broken}\n")
            os._exit(1)
    os._exit(0)
