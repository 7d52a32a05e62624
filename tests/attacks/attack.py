"""One hostile program: what it is, what must hold, and how to show that its probe can win where nothing protects."""

from __future__ import annotations

from dataclasses import dataclass, field

from sandbox.interface import Limits, Status

SECRET = b"canary-7d1f-do-not-print"  # planted on the host: whoever prints it has read what it must not
MARKERS = (b"escaped", SECRET)  # a probe prints the first where it got through; the second shows by itself
DONE = b"done\n"  # the last line of a probe that ran to its end

ENDED = frozenset({Status.FINISHED, Status.POLICY_VIOLATION})  # a probe that was refused, or killed by the filter
FAILED = frozenset(Status) - {Status.FINISHED}
STOPPED = frozenset({Status.TIME_LIMIT_EXCEEDED})
REFUSED = frozenset({Status.COMPILE_ERROR})
ANYHOW = frozenset(Status)

MEBIBYTE = 1 << 20
SMALL = Limits(cpu_s=0.5, memory_bytes=100 * MEBIBYTE, compile_s=1.5, disk_bytes=8 * MEBIBYTE, disk_inodes=200)
COMPILED = Limits(cpu_s=0.5, memory_bytes=100 * MEBIBYTE, compile_s=10, disk_bytes=8 * MEBIBYTE, disk_inodes=200)

PYTHON_PRELUDE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def escaped(*what): print("escaped:", *what, flush=True)
"""
CPP_PRELUDE = """
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static void escaped(const char* what) { printf("escaped: %s\\n", what); fflush(stdout); }
"""


@dataclass(frozen=True, slots=True)
class Attack:
    """A row of the suite.

    `control` says how the same program is run without protection, where it must print a marker: `bare` (as a process of its own, once
    per input, on a throw-away copy of this machine), `bare+net` (the same in the machine's own network namespace), `exec` (in one
    interpreter with the harness, once per input, as careless graders do), or `none`, with the reason in `no_control`. `hole` is the
    reason why the row is known to fail today.
    """

    id: str
    kind: str
    program: str
    why: str
    language: str = "python"
    inputs: tuple[bytes, ...] = (b"",)
    allowed: frozenset[Status] = ENDED
    weaker: frozenset[Status] = frozenset()  # allowed, too, where no cgroup counts and a call is refused instead
    prints: bytes | None = None  # the exact output of every run that finished; None: anything that ends with DONE
    limits: Limits = field(default=SMALL)
    output_bytes: int = 1 << 20  # the cap of each run
    rounds: int = 1  # how many jobs in a row: what one program leaves for the next
    wall_s: float = 15.0  # bound of the whole row
    control: str = "bare"
    no_control: str = ""
    hole: str = ""

    @property
    def ends(self) -> bool:
        """Whether the probe says at its end that it got there."""
        return "done" in self.program


def python(id: str, kind: str, body: str, why: str, **more: object) -> Attack:
    """A Python probe: prelude, body, and the line that shows that it ran to its end."""
    return Attack(id, kind, f"{PYTHON_PRELUDE}{body.strip()}\nprint('done', flush=True)\n", why, **more)  # type: ignore[arg-type]


def raw(id: str, kind: str, program: str, why: str, **more: object) -> Attack:
    """A program handed in as it stands."""
    return Attack(id, kind, program, why, **more)  # type: ignore[arg-type]


def cpp(id: str, kind: str, body: str, why: str, *, top: str = "", **more: object) -> Attack:
    """A C++ probe: prelude, declarations, and `body` inside of `main`."""
    source = f'{CPP_PRELUDE}{top}\nint main() {{\n{body.strip()}\nputs("done");\nreturn 0;\n}}\n'
    return Attack(id, kind, source, why, language="cpp", **{"limits": COMPILED, **more})  # type: ignore[arg-type]
