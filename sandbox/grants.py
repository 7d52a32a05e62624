"""What this process was given, as it shows from inside of a container: for the self-test of whoever runs it."""

from __future__ import annotations

import os

NEEDED = "user namespaces and mounts (seccomp profile), a whole /proc"
LEAST = "the least"


def describe_grants() -> str:
    """`the least: ...` where a runner has what it needs and no more, else `more than it needs: ...`."""
    with open("/proc/self/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    held = {
        "an ordinary user": os.geteuid() != 0,
        "no capabilities": int(status["CapEff"], 16) == 0 == int(status["CapBnd"], 16),
        "no new privileges": status["NoNewPrivs"] == "1",
        "a system-call filter": status["Seccomp"] == "2",
        "a read-only root": bool(os.statvfs("/").f_flag & os.ST_RDONLY),
        "no network": _interfaces() <= {"lo"},
    }
    lacking = [name for name, holds in held.items() if not holds]
    kept = ", ".join(name for name, holds in held.items() if holds)
    if lacking:
        return f"more than it needs: it lacks {', '.join(lacking)} (it has {kept})"
    return f"{LEAST}: {kept}; beyond an engine's defaults {NEEDED}"


def _interfaces() -> set[str]:
    with open("/proc/self/net/dev") as file:
        return {line.split(":", 1)[0].strip() for line in file if ":" in line}
