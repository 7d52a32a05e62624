"""The process that reads big bodies and test sets: decompresses, parses, validates them, so that the event loop does not stand still.

Started by `reader.BodyReader` with one end of a socket pair. A message in each direction is a small JSON object; the body, and the
frames of the answer, travel as descriptors of anonymous files beside it. The process ends when the socket is closed.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import json
import mmap
import os
import resource
import signal
import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from reward_service.errors import RequestError
from reward_service.server.bounds import Bounds
from reward_service.server.decompress import Encoding, TooLarge, decompress
from reward_service.server.frames import test_set_frames, to_frames
from reward_service.server.refusals import refusal_of
from reward_service.server.requests import read_request, read_test_set

MESSAGE_BYTES = 65_536
DEATH_SIGNAL = 1  # prctl(PR_SET_PDEATHSIG): that of the parent's end
TOO_MUCH_MEMORY = "the body needs more memory than this server spends on one"
DAMAGED = 410  # the status of a stored test set that is not what its digest says
BASE_MEMORY_BYTES = 1 << 30
SPENT = 77  # exit code: the memory was not enough, and what is left of the process cannot be trusted
MEMORY_PER_BODY_BYTE = 12  # the body, its text and the text of its strings at up to four bytes a character, and the answer


class Damaged(RequestError):
    """Nobody's fault (410): a stored test set is not what its digest says; whoever holds test sets forgets it."""

    def __init__(self) -> None:
        super().__init__("", "the stored test set is damaged", status=DAMAGED)


@dataclass(frozen=True, slots=True)
class Order:
    """What to do with a file: read a request, or read a test set of that digest; one that is only checked has no frames."""

    kind: Literal["request", "test_set", "checked_test_set"]
    encoding: Encoding
    digest: str = ""


def serve(descriptor: int, bounds: Bounds) -> None:
    """Answer bodies until the other side closes the socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the service drains first
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    limit = BASE_MEMORY_BYTES + MEMORY_PER_BODY_BYTE * bounds.max_body_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    connection = socket.socket(fileno=descriptor)
    gc.disable()  # walking millions of fresh values again and again takes ten times as long as parsing them
    while True:
        gc.collect()
        message, files, _, _ = socket.recv_fds(connection, MESSAGE_BYTES, 1)
        if not message:
            return
        order = json.loads(message)
        answer, result = _answer(files[0], Order(**order), bounds)
        with os.fdopen(result, "rb"):
            socket.send_fds(connection, [json.dumps(answer).encode()], [result])


def encode_bounds(bounds: Bounds) -> str:
    """Bounds as an argument of the process."""
    return json.dumps(asdict(bounds))


def _answer(file: int, order: Order, bounds: Bounds) -> tuple[dict[str, object], int]:
    """The message of the answer, and the descriptor of its frames."""
    result = os.memfd_create("frames", os.MFD_CLOEXEC)
    try:
        _write_frames(file, order, bounds, result)
    except RequestError as error:
        return {"status": error.status, "errors": refusal_of(error)}, result
    except MemoryError:
        return {"status": 413, "errors": [("", TOO_MUCH_MEMORY)]}, result
    except Exception:
        raise
    except BaseException:  # noqa: BLE001 - a panic of pydantic's core, whose type has no public name: an allocation failed there
        os._exit(SPENT)
    return {"status": 200}, result


def _write_frames(file: int, order: Order, bounds: Bounds, result: int) -> None:
    plain = _plain(file, order, bounds)
    with os.fdopen(os.dup(result), "wb", buffering=1 << 20) as out:
        for frame in _frames(plain, order, bounds):
            out.write(frame)


def _plain(file: int, order: Order, bounds: Bounds) -> bytes | memoryview:
    with os.fdopen(file, "rb") as source:
        if os.fstat(file).st_size == 0:  # which cannot be mapped
            return b""
        mapped = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)  # unmapped with its last view
    try:
        return decompress(memoryview(mapped), Encoding(order.encoding), bounds.max_body_bytes)
    except TooLarge:
        raise
    except RequestError:
        if order.kind == "request":
            raise
        raise Damaged from None


def _frames(plain: bytes | memoryview, order: Order, bounds: Bounds) -> Iterable[bytes]:
    if order.kind == "request":
        return to_frames(read_request(plain, bounds))
    if hashlib.sha256(plain).hexdigest() != order.digest:
        raise Damaged
    test_set = read_test_set(plain, bounds)
    return () if order.kind == "checked_test_set" else test_set_frames(test_set)


def main(descriptor: str, bounds: str, parent: str) -> None:
    """Entry of the process: the socket's descriptor, the bounds, and the parent's process id, as texts."""
    ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)  # a body may take longer to read than anything may outlive the service
    if os.getppid() == int(parent):
        serve(int(descriptor), Bounds(**json.loads(bounds)))
