# ruff: noqa: E501 - a program stands in as few lines as it can: broken strings would hide it
"""Taking more than the limits: processes, CPU time, memory by every route, output, disk."""

from __future__ import annotations

import dataclasses

from sandbox.interface import Status
from tests.attacks.attack import ANYHOW, ENDED, FAILED, SMALL, STOPPED, Attack, cpp, python

_IT_IS_THE_LIMIT = "what is under test is the limit's verdict; the conformance list shows that programs below it pass"
_MANY = 200  # processes or threads; the limit is 64
_HELD = 220  # MiB that a probe must hold at once; the limit is 100
_OUT_OF = frozenset({Status.MEMORY_LIMIT_EXCEEDED, Status.RUNTIME_ERROR, Status.TIME_LIMIT_EXCEEDED, Status.OUTPUT_LIMIT_EXCEEDED})
_ANY_STOP = frozenset(ENDED | _OUT_OF)

_COUNT = f"""
import time
count = 0
try:
    for _ in range({_MANY}):
        {{one}}
        count += 1
except (OSError, RuntimeError, MemoryError): pass
if count > 80: escaped(count, 'at once')
"""


def _bomb(id: str, one: str, why: str, before: str = "", after: str = "") -> Attack:
    body = f"{before}\n{_COUNT.format(one=one)}\n{after}"
    return python(id, "processes and threads", body, why, allowed=_ANY_STOP, prints=b"" if after else None)


BOMBS = (
    _bomb("fork-bomb", "if os.fork() == 0: time.sleep(30); os._exit(0)", "the classic", after="os._exit(0)"),
    _bomb("zombies", "if os.fork() == 0: os._exit(0)", "dead children hold a number until somebody waits for them"),
    _bomb("thread-bomb", "threading.Thread(target=time.sleep, args=(1,), daemon=True).start()", "threads count as processes do",
          before="import threading\nthreading.stack_size(65536)", after="os._exit(0)"),
    _bomb("session-bomb", "if os.fork() == 0: os.setsid(); os.fork(); time.sleep(30); os._exit(0)", "each in a session of its own",
          after="os._exit(0)"),
    _bomb("spawn-bomb", "os.posix_spawn(sys.executable, [sys.executable, '-S', '-c', 'import time; time.sleep(30)'], {})",
          "by vfork and exec", after="os._exit(0)"),
    python("fork-forever", "processes and threads", "while True:\n    try: os.fork()\n    except OSError: pass", "never stops trying",
           allowed=FAILED, control="none", no_control="it must never run where nothing stops it"),
    cpp("cpp-thread-bomb", "processes and threads",
        f"int n = 0; try {{ for (; n < {_MANY}; n++) std::thread([] {{ sleep(1); }}).detach(); }} catch (...) {{ }}\n"
        'if (n > 80) escaped("threads");\nfflush(stdout); _exit(0);', "std::thread", top="#include <thread>\n", allowed=_ANY_STOP, prints=b""),
    cpp("cpp-vfork", "processes and threads",
        f"int n = 0; for (; n < {_MANY}; n++) {{ pid_t p = fork(); if (p < 0) break; if (p == 0) {{ sleep(30); _exit(0); }} }}\n"
        'if (n > 80) escaped("processes");\nfflush(stdout); _exit(0);', "fork from C++", allowed=_ANY_STOP, prints=b""),
)  # fmt: skip

_BURN = "import time\ndef burn(s):\n    end = time.process_time() + s\n    while time.process_time() < end: pass\n"
_FINISH = "\nescaped('used the CPU for seconds')"
CPU = (
    python("cpu-loop", "CPU time", _BURN + "burn(2)" + _FINISH, "the plain case", allowed=STOPPED),
    python("cpu-child", "CPU time", _BURN + "if os.fork() == 0:\n    burn(2)\n    os._exit(0)\nos.wait()" + _FINISH,
           "in a child, while the parent waits", allowed=STOPPED),
    python("cpu-many-children", "CPU time",
           _BURN + "for _ in range(20):\n    if os.fork() == 0:\n        burn(0.1)\n        os._exit(0)\n    os.wait()" + _FINISH,
           "in many children, one after the other", allowed=STOPPED),
    python("cpu-unwaited-children", "CPU time",
           _BURN + "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nfor _ in range(26):\n    if os.fork() == 0:\n"
           "        burn(0.05)\n        os._exit(0)\n    try: os.wait()\n    except ChildProcessError: pass" + _FINISH,
           "children that nobody waits for (SIGCHLD ignored) are added to no parent's time", allowed=STOPPED,
           weaker=frozenset({Status.RUNTIME_ERROR}),
           limits=dataclasses.replace(SMALL, cpu_s=0.2)),
    python("cpu-orphans", "CPU time",
           _BURN + "for _ in range(20):\n    if os.fork() == 0:\n        if os.fork() == 0:\n            burn(0.1)\n        os._exit(0)\n    os.wait()\n"
           "time.sleep(1.5)\nif len([n for n in os.listdir('/proc') if n.isdigit()]) >= 1: escaped('orphans ran')",
           "in grandchildren whose parent is gone", allowed=STOPPED),
    python("cpu-threads", "CPU time",
           "import threading, hashlib\ndata = bytes(1 << 20)\ndef work():\n    for _ in range(400): hashlib.sha256(data).digest()\n"
           "ts = [threading.Thread(target=work) for _ in range(4)]\nfor t in ts: t.start()\nfor t in ts: t.join()" + _FINISH,
           "in threads that release the interpreter", allowed=STOPPED),
    python("cpu-signals", "CPU time",
           _BURN + "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n"
           "burn(2)" + _FINISH, "with every signal ignored", allowed=STOPPED),
    python("cpu-exec", "CPU time",
           "os.execv(sys.executable, [sys.executable, '-S', '-c', 'import time\\nwhile time.process_time() < 2: pass\\nprint(\"escaped\")'])",
           "after another exec", allowed=STOPPED),
    python("cpu-c-code", "CPU time", "x = 7 ** 1500000\ny = str(x) if hasattr(sys, 'x') else x ** 3" + _FINISH,
           "in one call of C code, which no Python signal handler interrupts", allowed=STOPPED),
    python("sleep", "CPU time", "import time\ntime.sleep(60)" + _FINISH, "costs no CPU time at all", allowed=STOPPED,
           limits=dataclasses.replace(SMALL, cpu_s=0.1), control="none", no_control=_IT_IS_THE_LIMIT),
    python("stopped-child", "CPU time",
           "import signal\npid = os.fork()\nif pid == 0:\n    os.kill(os.getpid(), signal.SIGSTOP)\n    os._exit(0)\nos.waitpid(pid, 0)" + _FINISH,
           "waits for a child that stopped itself", allowed=STOPPED, limits=dataclasses.replace(SMALL, cpu_s=0.1), control="none",
           no_control=_IT_IS_THE_LIMIT),
    cpp("cpp-cpu-loop", "CPU time", "volatile unsigned long x = 0; while (true) x = x + 1;", "no system call at all", allowed=STOPPED,
        control="none", no_control=_IT_IS_THE_LIMIT),
)  # fmt: skip

_HOLD = f"held = []\nM = 1 << 20\ntry:\n    while len(held) < {_HELD}:\n        {{one}}\nexcept (OSError, MemoryError, ValueError): pass\n"
_TOUCH = (
    "static void touch(char* p, long n) { for (long i = 0; i < n; i += 4096) ((volatile char*)p)[i] = 1; }\n"  # a compiler drops memset
)
_HAVE = f"if len(held) >= {_HELD}: escaped('holds', len(held), 'MiB')\n"


def _holds(id: str, one: str, why: str, before: str = "", after: str = "", **more: object) -> Attack:
    body = f"{before}\n{_HOLD.format(one=one)}{after}{_HAVE}"
    return python(id, "memory", body, why, **{"allowed": _ANY_STOP, **more})


MEMORY = (
    _holds("heap", "held.append(bytearray(M))", "the plain case"),
    _holds("mmap-private", "m = mmap.mmap(-1, M, mmap.MAP_PRIVATE); m[::4096] = b'x' * (M // 4096); held.append(m)", "pages of its own",
           before="import mmap"),
    _holds("mmap-shared", "m = mmap.mmap(-1, M); m[::4096] = b'x' * (M // 4096); held.append(m)", "shared pages escape RLIMIT_DATA",
           before="import mmap"),
    _holds("memfd", "fd = os.memfd_create('m'); [os.write(fd, block) for _ in range(16)]; held.append(fd)",
           "anonymous files belong to no address space", before="block = b'x' * 65536"),
    _holds("sysv-shm", "i = libc.shmget(0, M, 0o1600); p = libc.shmat(i, None, 0); ctypes.memset(p, 1, M); "
           "libc.shmdt(ctypes.c_void_p(p)); held.append(i)", "attached to nobody", before="libc.shmat.restype = ctypes.c_void_p"),
    _holds("pipes", "r, w = os.pipe(); fcntl.fcntl(w, 1031, M); os.set_blocking(w, False); [os.write(w, block) for _ in range(16)]; held.append((r, w))",
           "buffers of the kernel", before="import fcntl\nblock = b'x' * 65536", control="none",
           no_control="the kernel bounds pipes of one user below what the probe must hold"),
    _holds("sockets", "a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM); a.setblocking(False); fill(a); held.append((a, b))",
           "buffers of the kernel", before="import socket\nblock = b'x' * 65536\nclass Full(Exception): pass\ntotal = 0\n"
           "keep = []\ndef fill(s):\n    n = 0\n    while n < M:\n        try: n += s.send(block)\n        except BlockingIOError:\n"
           "            s, t = socket.socketpair(); s.setblocking(False); keep.append((s, t))"),
    _holds("message-queues", "q = libc.msgget(0, 0o1600); [libc.msgsnd(q, buf, 8000, 2048) == 0 or full() for _ in range(2)]; held.extend([q] * 0)",
           "System V message queues", before="import struct\nbuf = struct.pack('l', 1) + b'x' * 8000\ndef full(): raise OSError",
           control="none", no_control="the kernel bounds each queue; the probe shows that many of them end, too", allowed=ANYHOW),
    _holds("tmpfs", "f = open(f'f{len(held)}', 'wb'); f.write(bytes(range(256)) * 4096); f.flush(); held.append(f)",
           "files in memory are memory"),
    _holds("dev-shm", "f = open(f'/dev/shm/f{len(held)}', 'wb'); f.write(b'x' * M); f.flush(); held.append(f)", "shared memory files"),
    _holds("open-unlinked", "f = open('f', 'wb'); os.unlink('f'); f.write(b'x' * M); f.flush(); held.append(f)", "files without a name"),
    _holds("page-tables", "m = mmap.mmap(-1, 1 << 30, mmap.MAP_PRIVATE | 0x4000); [m.__setitem__(i, 1) for i in range(0, 1 << 30, 1 << 21)]; held += [m] * 4",
           "one touched byte in two megabytes: 4 KiB of page and 4 KiB of tables", before="import mmap", control="none",
           no_control="needs hundreds of GiB of address space, more than the control allows"),
    _holds("fork-holders", "if os.fork() == 0:\n            b = bytearray(8 * M)\n            os.write(w, b'x')\n            time.sleep(3)\n"
           "            os._exit(len(b) and 3)\n        held += os.read(r, 1) * 8", "each child is below the limit",
           before="import time\nr, w = os.pipe()",
           after="try:\n    while os.waitpid(-1, os.WNOHANG)[0]: del held[:8]\nexcept ChildProcessError: pass\n"),
    python("stdout-file", "memory",
           "try:\n    os.posix_fallocate(1, 0, 220 << 20)\n    os.ftruncate(1, 0)\n    escaped('220 MiB in the output file')\nexcept OSError: pass",
           "the file that collects the output is memory, too", allowed=_ANY_STOP),
    python("stderr-file", "memory",
           f"try:\n    for _ in range({_HELD}): os.write(2, b'x' * (1 << 20))\n    escaped('{_HELD} MiB of errors')\nexcept OSError: pass",
           "errors are collected in memory, too", allowed=_ANY_STOP),
    python("stdin-file", "memory",
           f"try:\n    for _ in range({_HELD}): os.write(0, b'x' * (1 << 20))\n    escaped('{_HELD} MiB of input')\nexcept OSError: pass",
           "so is the input's file, which is open for writing", allowed=_ANY_STOP, control="none", no_control="a bare run's input is read-only"),
    python("mlock", "memory",
           "import mmap\nm = mmap.mmap(-1, 1 << 20)\nif libc.mlock(ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(m))), 1 << 20) == 0:\n"
           "    escaped('locked 1 MiB')", "pages that are never written out"),
    python("many-descriptors", "memory",
           "n = 0\ntry:\n    while n < 3000:\n        os.eventfd(0)\n        n += 1\nexcept OSError: pass\nif n > 1100: escaped(n, 'descriptors')",
           "each open file is kernel memory"),
    python("big-pow", "memory", "x = 10 ** 10 ** 10\nescaped(x.bit_length())", "one expression", allowed=FAILED, control="none",
           no_control="takes minutes and gigabytes where nothing stops it"),
    python("string-product", "memory", "x = 'x' * 10 ** 11\nescaped(len(x))", "one expression", allowed=FAILED, control="none",
           no_control="needs 100 GB"),
    cpp("sparse-output-hides-memory", "memory",
        "char* p = (char*)malloc(104 << 20); touch(p, 104 << 20);\nif (ftruncate(1, 8 << 20)) { }\nlseek(1, 0, SEEK_END);", "the size of the "
        "output file is taken off the peak: a sparse file has a size and no memory", allowed=_OUT_OF, top=_TOUCH, output_bytes=9 << 20,
        control="none", no_control="what is under test is the memory verdict"),
    cpp("stack", "memory",
        f"if (deep({_HELD}) == {_HELD}) escaped(\"stack\");", "recursion", allowed=_ANY_STOP,
        top="int deep(int n) { volatile char page[1 << 20]; memset((void*)page, n, sizeof page); return n == 0 ? 0 : 1 + deep(n - 1) + page[7] * 0; }"),
    cpp("brk", "memory",
        f'char* p = (char*)sbrk({_HELD} << 20); if (p != (char*)-1) {{ touch(p, {_HELD} << 20); escaped("brk"); }}', "the oldest heap",
        allowed=_ANY_STOP, top=_TOUCH),
    cpp("new", "memory",
        f'char* p = new char[{_HELD} << 20]; touch(p, {_HELD} << 20); escaped("new");', "operator new", allowed=_OUT_OF, top=_TOUCH),
    cpp("fork-copy-on-write", "memory",
        "char* p = (char*)malloc(60 << 20); touch(p, 60 << 20);\nfor (int i = 0; i < 4; i++) if (fork() == 0) { touch(p, 60 << 20); "
        'sleep(1); escaped("copies"); _exit(0); }\nwhile (wait(nullptr) > 0) { }', "copies of pages that were shared at first", allowed=_OUT_OF, top=_TOUCH),
)  # fmt: skip

OUTPUT = (
    python("flood", "output", "while True: os.write(1, b'x' * 65536)", "more than the cap", allowed=FAILED, control="none",
           no_control=_IT_IS_THE_LIMIT),
    python("flood-children", "output",
           "for _ in range(8):\n    if os.fork() == 0: break\nwhile True: os.write(1, b'x' * 65536)", "from many writers", allowed=FAILED,
           control="none", no_control=_IT_IS_THE_LIMIT),
    python("flood-errors", "output", "try:\n    for _ in range(1000): os.write(2, b'x' * 65536)\nexcept OSError: pass",
           "standard error: kept to 4 KiB, never a reason to hang", allowed=_ANY_STOP, control="none", no_control=_IT_IS_THE_LIMIT),
    python("sparse-output", "output",
           "try:\n    os.lseek(1, 1 << 40, 0)\n    os.write(1, b'x')\nexcept OSError: pass\ntry: os.ftruncate(1, 1 << 40)\nexcept OSError: pass\n"
           "if os.fstat(1).st_size > 1 << 30: escaped('a terabyte of output')", "a size without content", allowed=ANYHOW, control="none",
           no_control="the control's own file limit stops it"),
    python("output-mapped", "output",
           "import mmap\nos.ftruncate(1, 4096)\nm = mmap.mmap(1, 4096)\nm[:7] = b'mapped\\n'\nos.lseek(1, 7, 0)\nos.ftruncate(1, 7)",
           "written through memory: the same bytes count", control="none", no_control="nothing is gained: the output is the program's own",
           prints=b"mapped\ndone\n"),
    python("output-sealed", "output",
           "import fcntl\nfor seals in (1, 2, 4, 8):\n    try: fcntl.fcntl(1, 1033, seals)\n    except OSError: continue\n    escaped('sealed', seals)",
           "a sealed file could not be emptied or grown any more", control="none", no_control="a file of a disk has no seals"),
)  # fmt: skip

DISK = (
    python("disk-bytes", "disk",
           "n = 0\ntry:\n    for i in range(64):\n        open(f'f{i}', 'wb').write(b'x' * (1 << 20))\n        n += 1\nexcept OSError: pass\n"
           "if n > 12: escaped(n, 'MiB')", "8 MiB are allowed", allowed=_ANY_STOP),
    python("disk-inodes", "disk",
           "n = 0\ntry:\n    for i in range(1000):\n        os.mkdir(f'd{i}')\n        n += 1\nexcept OSError: pass\nif n > 220: escaped(n, 'inodes')",
           "200 are allowed"),
    python("disk-links", "disk",
           "n = 0\ntry:\n    open('a', 'w')\n    for i in range(1000):\n        os.link('a', f'l{i}')\n        n += 1\nexcept OSError: pass\n"
           "if n > 220: escaped(n, 'links')", "names cost memory, too"),
    python("disk-deep", "disk",
           "n = 0\ntry:\n    for i in range(1000):\n        os.mkdir('d' * 200)\n        os.chdir('d' * 200)\n        n += 1\nexcept OSError: pass\n"
           "if n > 220: escaped(n, 'levels')", "a folder deeper than any path: who removes it by name fails"),
    python("disk-sparse", "disk",
           "try:\n    os.truncate(os.open('s', os.O_CREAT | os.O_RDWR) and 's', 1 << 28)\n    escaped('sparse file of 256 MiB')\nexcept OSError: pass",
           "a size without content, copied by whoever copies", allowed=_ANY_STOP),
    python("disk-shared", "disk",
           "n = 0\ntry:\n    for d in ('/tmp', '/dev/shm', '.'):\n        for i in range(16):\n            open(f'{d}/f{i}', 'wb').write(b'x' * (1 << 20))\n"
           "            n += 1\nexcept OSError: pass\nif n > 12: escaped(n, 'MiB over three folders')", "one bound for all folders",
           allowed=_ANY_STOP, control="bare"),
    python("disk-fallocate", "disk",
           "try:\n    os.posix_fallocate(os.open('a', os.O_CREAT | os.O_RDWR), 0, 64 << 20)\n    escaped('64 MiB at once')\nexcept OSError: pass",
           "reserved without being written", allowed=_ANY_STOP),
)  # fmt: skip

ATTACKS: tuple[Attack, ...] = (*BOMBS, *CPU, *MEMORY, *OUTPUT, *DISK)
