"""The zygote: one warm process per kind of program, in the box's root, that forks a cell for each program.

Started as a script by the interpreter that candidates get, isolated from any site-packages. The configuration is its standard input, as
JSON.
"""

from __future__ import annotations

import errno
import gc
import io
import json
import os
import select
import signal
import sys
from _socket import sethostname, socket

_DESCRIPTORS = 3  # of a new cell: its socket, and where it enters its cgroups


def main() -> None:
    """Build the root, warm up, then fork cells until the control socket closes."""
    os.environ.pop("LD_BIND_NOW", None)  # for the dynamic linker, which has read it, and not for programs
    config = json.load(sys.stdin)
    sys.path.insert(0, config["code"])
    from sandbox.namespaces import cell, mounts, system

    control = socket(fileno=config["control"])
    system.prctl(system.PR_SET_PDEATHSIG, signal.SIGKILL)
    as_root = os.geteuid() == 0
    flags = system.CLONE_NEWNS | system.CLONE_NEWPID | system.CLONE_NEWIPC | system.CLONE_NEWUTS | system.CLONE_NEWNET
    uid, gid = os.geteuid(), os.getegid()
    system.unshare(flags if as_root else flags | system.CLONE_NEWUSER)
    if not as_root:
        _map_ids(uid, gid)
    sethostname("sandbox")
    mounts.build_root(config["shown"], tuple(config["masked"]))
    pid = os.fork()  # the first process of the new pid namespace: its end is everybody's end
    if pid:
        control.close()
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 0xFF)
    mounts.mount_proc()
    mounts.forget_old_root()
    if as_root:
        uid = gid = config["uid"]
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        system.prctl(system.PR_SET_DUMPABLE, 1)  # /proc/self must stay writable to its owner for the id maps of cells
    else:
        uid = gid = 1000
    system.prctl(system.PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of user, which clears it
    prepared = cell.Prepared(uid, gid)
    _warm(config)
    _serve(control, prepared, cell, system)


def _map_ids(uid: int, gid: int) -> None:
    for name, text in (("setgroups", "deny"), ("uid_map", f"1000 {uid} 1"), ("gid_map", f"1000 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _warm(config: dict[str, object]) -> None:
    from sandbox.namespaces import system

    sys.path[:] = [path for path in sys.path if path not in (config["code"], os.path.dirname(__file__))]
    packages = config["packages"]
    if packages:
        sys.path.append(str(packages))
    import site

    site.setquit()
    site.setcopyright()
    site.sethelper()
    for name in config["preload"]:  # type: ignore[attr-defined]
        try:
            __import__(name)
        except ImportError:
            os.write(2, f"zygote: no module {name}\n".encode())
    _rehearse()
    _plain_streams()
    sys.orig_argv[:] = ["python3", "main.py"]
    system.set_default_thread_stack(8 << 20)
    gc.disable()


# What most programs do once. Done before anything is forked, what the interpreter sets up lazily lies in pages that all tests share.
_REHEARSAL = """
import sys
from collections import Counter, defaultdict, deque
def solve(numbers):
    seen = defaultdict(list)
    for place, number in enumerate(sorted(numbers)):
        seen[number % 3].append(place)
    queue = deque(numbers)
    queue.popleft()
    return max(numbers), min(numbers), sum(numbers), len(set(numbers)), Counter(numbers).most_common(1), [*zip(numbers, queue)]
n = int(input())
numbers = list(map(int, input().split()))
print(*numbers, sep=' ', end='')
print(n, 1.5, f'{n:03d} {n / 3:.2f}', solve(numbers), str(n) + 'x'.join(['a', 'b']), [i * i for i in range(n)])
for line in sys.stdin: line.strip().split(',')
sys.stdin.read()
sys.stdout.write('end')
sys.stdout.flush()
"""
_REHEARSAL_INPUT = b"3\n3 1 2\n4,5\n"
_REHEARSALS = 16  # the interpreter settles how it runs a function after so many calls


def _rehearse() -> None:
    code = compile(_REHEARSAL, "rehearsal", "exec")
    for _ in range(_REHEARSALS):
        for number, content in ((0, _REHEARSAL_INPUT), (1, b"")):
            descriptor = os.memfd_create("rehearsal", os.MFD_CLOEXEC)
            os.write(descriptor, content)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.dup2(descriptor, number)
            os.close(descriptor)
        _open_streams()
        exec(code, {"__name__": "rehearsal"})  # ours, a constant


def _plain_streams() -> None:
    """Streams over descriptors 0, 1, 2 as a program in the locale C.UTF-8 finds them; a test puts its own descriptors there."""
    descriptor = os.memfd_create("null", os.MFD_CLOEXEC)
    for number in (0, 1):
        os.dup2(descriptor, number)
    os.close(descriptor)
    _open_streams()


def _open_streams() -> None:
    files = []
    for number, name in enumerate(("<stdin>", "<stdout>", "<stderr>")):
        files.append(io.FileIO(number, "w" if number else "r", closefd=False))
        files[number].name = name
    sys.stdin = io.TextIOWrapper(io.BufferedReader(files[0]), encoding="utf-8", errors="surrogateescape")
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(files[1]), encoding="utf-8", errors="surrogateescape")
    sys.stderr = io.TextIOWrapper(io.BufferedWriter(files[2]), encoding="utf-8", errors="backslashreplace", line_buffering=True)
    for stream, mode in ((sys.stdin, "r"), (sys.stdout, "w"), (sys.stderr, "w")):
        stream.mode = mode  # type: ignore[misc]
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]
    sys.stdin.name, sys.stdout.name  # noqa: B018 - fills what a wrapper computes lazily


def _serve(control: socket, prepared, cell, system) -> None:  # type: ignore[no-untyped-def]
    flags = (
        system.CLONE_NEWUSER | system.CLONE_NEWNS | system.CLONE_NEWPID | system.CLONE_NEWNET | system.CLONE_NEWIPC | system.CLONE_NEWUTS
    )
    poller = select.poll()
    poller.register(control, select.POLLIN)
    prepared.settle()
    gc.collect()
    gc.freeze()
    control.send(json.dumps({"ready": True, "python": sys.version.split()[0]}).encode())
    buffer = memoryview(bytearray(256))
    cells: dict[int, tuple[int, int]] = {}  # pidfd -> (pid, the owner's number)
    while True:
        for ready, _ in poller.poll():
            if ready in cells:
                poller.unregister(ready)
                os.close(ready)
                pid, number = cells.pop(ready)
                control.send(json.dumps({"ended": number, "status": os.waitpid(pid, 0)[1]}).encode())
                continue
            message, descriptors = system.receive(control, buffer, _DESCRIPTORS)
            if not message:
                os._exit(0)
            number, doors = map(int, bytes(message).split())
            try:
                _check(descriptors, 1 + doors)
                pid, pidfd = prepared.cloner.clone(flags)
            except OSError as error:  # no room for a process: this cell's owner sees its channel close, the other cells go on
                os.write(2, f"zygote: {error}\n".encode())
                _close(descriptors)
                control.send(json.dumps({"ended": number, "status": signal.SIGKILL}).encode())
                continue
            if pid == 0:
                control.close()
                cell.start(socket(fileno=descriptors[0]), descriptors[1:], prepared)
            _close(descriptors)
            cells[pidfd] = (pid, number)
            poller.register(pidfd, select.POLLIN)


def _check(descriptors: list[int], count: int) -> None:
    """The kernel drops descriptors for which there is no room; a cell that lacks a door would be bounded by nothing."""
    if len(descriptors) != count:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


if __name__ == "__main__":
    main()
