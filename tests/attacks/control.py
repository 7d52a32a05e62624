"""Runs probes where nothing protects: in a throw-away copy of this machine that dies with them.

A copy is an overlay of the root whose writes go to memory, in mount, pid, ipc, uts and (mostly) network namespaces of its own, with limits
against what a bomb could do. The probe is root in it: what it then fails at, it would fail at without any sandbox, too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.attacks.attack import Attack

_PROBE_S, _COMPILE_S, _ALL_S = 25, 60, 240
_ENTER = """
set -e
mount --make-rprivate /
mount -t tmpfs -o size=1500m none /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work none /mnt/root
mount -t proc proc /mnt/root/proc
mount -t sysfs -o ro none /mnt/root/sys
mount -t tmpfs -o size=700m none /mnt/root/tmp
mount -t tmpfs none /mnt/root/dev
mkdir /mnt/root/dev/shm
for name in null zero full urandom random; do cp -a /dev/$name /mnt/root/dev/; done
chown 0:0 /mnt/root/dev/*
mkdir -p /mnt/root/probes
cp -r "$1/." /mnt/root/probes/
mount --bind "$2" "/mnt/root$2"
cd /mnt/root
pivot_root . mnt
umount -l mnt
cd /probes
exec sh run
"""
_ONE = """
cd /probes/{number}
export HOME=/probes/{number}
for i in input*; do timeout -s KILL {seconds} {command} < $i 3< / > ../output{number}.$i 2> /dev/null || true; done
"""
_ONE_IN_A_HARNESS = """
cd /probes/{number}
timeout -s KILL {seconds} {command} ../harness.py input* < /dev/null > ../output{number}.all 2> /dev/null || true
"""
_LAST = """
sleep {after}
cd /probes
for n in $(seq 0 {last}); do echo "probe $n"; cat output$n.*; find $n -type f -delete; echo; done
"""
_HARNESS = """
import socket, sys, types
inputs = [open(name).read() for name in sys.argv[1:]]
answer = inputs[-1]
tests = inputs
pair = socket.socketpair()
sys.modules['harness'] = types.ModuleType('harness')
sys.modules['harness'].answer = answer
probe = compile(open('probe.py').read(), 'probe.py', 'exec')
def grade():
    for _ in inputs:
        answers = list(inputs)
        try: exec(probe, {'__name__': '__main__'})
        except BaseException: pass
grade()
"""


def unavailable() -> str | None:
    """Why no control can run on this machine, or None."""
    if os.geteuid() != 0:
        return "controls need root, to make a throw-away copy of the machine"
    if shutil.which("unshare") is None or "overlay" not in Path("/proc/filesystems").read_text():
        return "controls need unshare and overlayfs"
    return None


def run(rows: Sequence[tuple[Attack, str, tuple[bytes, ...]]], shared: str) -> dict[str, bytes]:
    """What each unprotected probe printed, by its row's id. `shared` is a folder that the copy sees as it is."""
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(2) as compilers:
        folder = Path(name)
        failed = list(compilers.map(lambda job: _prepare(folder, *job), enumerate(rows)))
        (folder / "harness.py").write_text(_HARNESS)
        (folder / "run").write_text(_script([row for row, _, _ in rows]))
        printed = _enter(folder, shared, own_network=all(row.control != "bare+net" for row, _, _ in rows))
    parts = printed.split(b"probe ")[1:]
    found = {int(part.split(b"\n", 1)[0]): part for part in parts if part.split(b"\n", 1)[0].isdigit()}
    return {row.id: failed[number] or found.get(number, printed[-500:]) for number, (row, _, _) in enumerate(rows)}


def _prepare(folder: Path, number: int, job: tuple[Attack, str, tuple[bytes, ...]]) -> bytes | None:
    """Lay out one probe; the diagnostics where it does not compile: a compiler that quotes a secret has been attacked with success."""
    row, source, inputs = job
    place = folder / str(number)
    place.mkdir()
    for index, data in enumerate(inputs):
        (place / f"input{index}").write_bytes(data)
    if row.language == "python":
        (place / "probe.py").write_text(source)
        return None
    (place / "probe.cpp").write_text(source)
    command = ["g++", "-O1", "-std=gnu++20", "-w", "probe.cpp", "-o", "probe"]
    done = subprocess.run(command, cwd=place, capture_output=True, timeout=_COMPILE_S, stdin=subprocess.DEVNULL)
    return None if done.returncode == 0 else done.stderr


def _script(rows: Sequence[Attack]) -> str:
    python = os.path.realpath(sys._base_executable)
    parts = []
    for number, row in enumerate(rows):
        if row.control == "exec":
            parts.append(_ONE_IN_A_HARNESS.format(number=number, seconds=_PROBE_S, command=python))
        else:
            command = "./probe" if row.language == "cpp" else f"{python} -s probe.py"
            parts.append(_ONE.format(number=number, seconds=_PROBE_S, command=command))
    return "".join(parts) + _LAST.format(after=1 if any(row.kind == "survivors" for row in rows) else 0, last=len(rows) - 1)


def _enter(folder: Path, shared: str, *, own_network: bool) -> bytes:
    limits = ["prlimit", "--cpu=10", "--fsize=314572800", "--core=0", "--stack=335544320"]
    spaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts", *(["--net"] if own_network else [])]
    command = [*limits, *spaces, "sh", "-c", _ENTER, "sh", str(folder), shared]
    done = subprocess.run(command, capture_output=True, timeout=_ALL_S, stdin=subprocess.DEVNULL)
    return done.stdout + done.stderr
