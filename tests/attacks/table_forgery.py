# ruff: noqa: E501 - a program stands in as few lines as it can: broken strings would hide it
"""Forging a result: reaching the harness, its answers or its verdict instead of solving the task."""

from __future__ import annotations

import dataclasses

from sandbox.interface import Status
from tests.attacks.attack import ANYHOW, COMPILED, DONE, ENDED, FAILED, SECRET, SMALL, Attack, cpp, python, raw

_VERDICT = "what is under test is the verdict that this end gets"
_HIDDEN = (b"first", b"second " + SECRET)  # test 1 must not find the input of test 2
_BACKWARDS = SECRET.decode()[::-1]
_WANTED = f"wanted = {_BACKWARDS!r}[::-1]\n"
_RUNTIME = frozenset({Status.RUNTIME_ERROR})


def _finds(id: str, body: str, why: str, **more: object) -> Attack:
    """A search in its own memory for what the harness knows."""
    return python(id, "forgery: harness", _WANTED + body, why, **{"inputs": _HIDDEN, "control": "exec", **more})


_IN = "isinstance(x, (str, bytes)) and (wanted in x if isinstance(x, str) else wanted.encode() in x)"
HARNESS = (
    _finds("frames", "frame = sys._getframe().f_back\nwhile frame:\n    for x in frame.f_locals.values():\n"
           f"        for x in (x if isinstance(x, (list, tuple)) else [x]):\n            if {_IN}: escaped('in a frame')\n    frame = frame.f_back",
           "locals of the functions that called it"),
    _finds("frame-globals", "frame = sys._getframe().f_back\nwhile frame:\n    for x in list(frame.f_globals.values()):\n"
           f"        if {_IN}: escaped('in globals')\n    frame = frame.f_back", "globals of the functions that called it"),
    _finds("gc", "import gc\nfor o in gc.get_objects():\n    for x in gc.get_referents(o) if type(o) in (dict, list, tuple) else ():\n"
           f"        if {_IN} and x != wanted: escaped('in the heap')", "every object that the collector knows"),
    _finds("traceback", "try: raise KeyError\nexcept KeyError as e: frame = e.__traceback__.tb_frame.f_back\nwhile frame:\n"
           f"    for x in list(frame.f_locals.values()):\n        for y in x if isinstance(x, list) else [x]:\n            x = y\n            if {_IN} and frame.f_back: escaped('by a traceback')\n    frame = frame.f_back",
           "frames by way of an exception", control="exec"),
    _finds("modules", "for m in list(sys.modules.values()):\n    for x in list(vars(m).values()):\n"
           f"        if {_IN} and m.__name__ != '__main__': escaped('in a module', m)\n    if m.__name__.startswith(('sandbox', 'reward', 'harness')): escaped(m)",
           "modules of the harness"),
    _finds("memory", "needle = wanted.encode()\nn = 0\nfor line in open('/proc/self/maps'):\n    span, mode = line.split()[:2]\n"
           "    if 'rw' not in mode or '[v' in line: continue\n    a, b = (int(v, 16) for v in span.split('-'))\n"
           "    with open('/proc/self/mem', 'rb', 0) as m:\n        while a < b:\n            m.seek(a)\n            try: data = m.read(min(1 << 20, b - a))\n"
           "            except OSError: break\n            at = data.find(needle)\n            while at >= 0:  # never whole in its own memory, which it reads, too\n"
           "                if data[max(0, at - 7):at] == b'second ': escaped('in memory')\n                at = data.find(needle, at + 1)\n"
           "            a += 1 << 20\n            del data",
           "all memory of this process, which the harness was forked from", limits=dataclasses.replace(SMALL, cpu_s=3), control="exec"),
    _finds("descriptors-read", "for n in range(3, 64):\n    try: escaped(n, os.pread(n, 100, 0))\n    except OSError: pass\n"
           "for n in range(0, 3):\n    try: data = os.pread(n, 4096, 0)\n    except OSError: continue\n    if wanted.encode() in data: escaped('in', n)",
           "inputs of other tests in open files", inputs=_HIDDEN[:1], control="none", no_control="the control has no other files open"),
    python("index-and-names", "forgery: harness",
           "names = set()\nframe = sys._getframe().f_back\nwhile frame:\n    names |= set(frame.f_locals)\n    frame = frame.f_back\n"
           "if names & {'expected', 'answer', 'answers', 'outputs', 'stdout', 'tests', 'reference'}: escaped(names)",
           "names that hold answers", control="exec"),
    python("closed-over", "forgery: harness",
           "import gc, types\nfor o in gc.get_objects():\n    if isinstance(o, types.FunctionType) and o.__module__ and o.__module__.startswith('reward'):\n"
           "        escaped(o)", "functions of the grader", control="none", no_control="the control's harness has no such functions"),
)  # fmt: skip

_EVERY = "for n in range(3, 4096):\n    try: {call}\n    except OSError: continue\n    escaped('descriptor', n)\n    break"
CHANNEL = (
    python("write-everywhere", "forgery: channel", _EVERY.format(call="os.write(n, b'accepted')"), "the result's descriptor", control="exec"),
    python("eventfd", "forgery: channel", _EVERY.format(call="os.eventfd_write(n, 1)"), "the mark that the box is ready", control="none",
           no_control="the control has no such descriptor"),
    python("send-everywhere", "forgery: channel", "import socket\n" + _EVERY.format(call="socket.socket(fileno=os.dup(n)).send(b'x' * 52)"),
           "a reply in the supervisor's place", control="none", no_control="the control has no socket to its harness"),
    python("socket-objects", "forgery: channel",
           "import gc, socket\nfor o in gc.get_objects():\n    if isinstance(o, socket.socket):\n        try: o.send(bytes(64))\n        except OSError: continue\n"
           "        escaped('sent on', o)", "the supervisor's own socket object, which the fork copied", control="exec"),
    python("call-harness", "forgery: channel",
           "import gc\nfor o in gc.get_objects():\n    t = type(o)\n    if t.__module__.startswith('sandbox'):\n"
           "        for n in dir(o):\n            if n.startswith('__') or n in ('close',): continue\n"
           "            try: getattr(o, n)()\n            except BaseException: pass", "call whatever of the harness can be found", allowed=ANYHOW,
           control="none", no_control="shows that no such call has an effect outside: the driver's later job"),
    python("supervisor-loop", "forgery: channel",
           "os._exit = lambda code: None\nprint('done', flush=True)\nraise SystemExit(0)", "return into the supervisor's code in the child",
           inputs=(b"", b""), allowed=ANYHOW, prints=b"done\n", control="none", no_control="the driver's later job shows whether it did harm"),
    python("dup-over", "forgery: channel",
           "for n in range(3, 1000):\n    try: os.dup2(1, n)\n    except OSError: break\nos.write(5, b'accepted\\n')\nos.ftruncate(1, 0)\nos.lseek(1, 0, 0)",
           "its own file over every number", control="none", no_control=_VERDICT),
    python("close-all", "forgery: channel", "print('done', flush=True)\nos.closerange(0, 1024)\nos._exit(0)", "no descriptor left", prints=DONE,
           control="none", no_control=_VERDICT),
    python("pass-output-on", "forgery: channel",
           "import socket\na, b = socket.socketpair()\nsocket.send_fds(a, [b'x'], [0, 1, 2])\nif os.fork() == 0: os._exit(0)\nos.wait()",
           "its descriptors on the way in a socket at its end", control="none", no_control=_VERDICT),
    python("parent-death", "forgery: channel",
           "import signal\nprint(libc.prctl(1, signal.SIGKILL))\nlibc.prctl(36, 1)\nlibc.prctl(4, 0)", "prctl: death signal, reaper, no dumps",
           prints=b"0\ndone\n", control="none", no_control=_VERDICT),
)  # fmt: skip


def _ends(id: str, program: str, why: str, allowed: frozenset[Status], prints: bytes | None = b"", **more: object) -> Attack:
    fixed: dict[str, object] = {"allowed": allowed, "prints": prints, "control": "none", "no_control": _VERDICT, "inputs": (b"", b"")}
    return raw(id, "forgery: exit", program, why, **{**fixed, **more})


_CODES = tuple(
    _ends(f"exit-{code}", f"import os\nos._exit({code})", "a code that runners take for their own: it is the program's failure", _RUNTIME)
    for code in (1, 2, 70, 77, 120, 125, 126, 127, 128, 137, 139, 143, 255)
)
EXITS = (
    *_CODES,
    _ends("exit-0-early", "import os\nos._exit(0)\nprint('right')", "no output is no answer; ScaleBox takes this for a success",
          frozenset({Status.FINISHED})),
    _ends("sys-exit-early", "import sys\nsys.exit(0)", "the same, politely", frozenset({Status.FINISHED})),
    _ends("unflushed", "import os, sys\nsys.stdout.write('right')\nos._exit(0)", "what was never written is no output", frozenset({Status.FINISHED})),
    _ends("atexit-prints", "import atexit, os\natexit.register(lambda: os.write(1, b'x'))\nraise ValueError", "output after a failure does not mend it",
          _RUNTIME),
    _ends("atexit-exits", "import atexit, os\natexit.register(os._exit, 0)\nraise ValueError", "as in a bare run: its own code is what counts",
          frozenset({Status.FINISHED, Status.RUNTIME_ERROR})),
    _ends("excepthook-exits", "import os, sys\nsys.excepthook = lambda *a: os._exit(0)\nraise ValueError", "as in a bare run",
          frozenset({Status.FINISHED, Status.RUNTIME_ERROR})),
    _ends("segfault", "import ctypes\nctypes.string_at(0)", "a crash in the first test", _RUNTIME),
    _ends("abort", "import os\nos.abort()", "a crash in the first test", _RUNTIME),
    _ends("self-kill", "import os, signal\nprint('right', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n",
          "a killed program has failed, though process 1 of a namespace ignores its own signals",
          frozenset({Status.POLICY_VIOLATION}), None),
    _ends("group-kill", "import os, signal\nprint('x', flush=True)\nos.killpg(0, signal.SIGKILL)\nos._exit(1)", "its group holds nobody else", FAILED, None),
    _ends("kill-everybody", "import os, signal\ntry: os.kill(-1, signal.SIGKILL)\nexcept OSError: pass\nos._exit(3)", "nobody else is there", _RUNTIME),
    _ends("says-memory", "raise MemoryError('accepted')", "a resource excuse is a failure", FAILED),
    _ends("says-skip", "import unittest\nraise unittest.SkipTest('accepted')", "a skipped test is a failed one", _RUNTIME),
    _ends("says-accepted", "print('{\"status\": \"accepted\", \"reward\": 1.1}')\nraise SystemExit(1)", "text is data", _RUNTIME, None),
    _ends("huge-exit-code", "class N(int):\n    def __and__(self, other): return None\nraise SystemExit(N(0))", "an exit code that is no number", ANYHOW),
    _ends("evil-streams", "import sys\nclass S:\n    closed = False\n    def flush(self): raise KeyboardInterrupt\n    def write(self, t): pass\n"
          "sys.stdout = sys.stderr = S()", "a stream that fails at the end", ANYHOW),
    _ends("evil-thread", "import threading\nthreading._shutdown = lambda: 1 / 0", "a broken end of threads", ANYHOW),
    _ends("equal-to-all", "class E(str):\n    def __eq__(self, o): return True\n    def __str__(self): return 'x'\nprint(E())",
          "only bytes come out: an object equal to everything is just its text", frozenset({Status.FINISHED}), b"x\n"),
    _ends("control-characters", "print('\\x1b[2K\\raccepted\\0\\u202e')", "terminal tricks are data",
          frozenset({Status.FINISHED}), "\x1b[2K\raccepted\0\u202e\n".encode()),
    _ends("bad-utf8", "import os\nos.write(1, b'\\xff\\xfe\\xc0')", "bytes are passed on as bytes", frozenset({Status.FINISHED}), b"\xff\xfe\xc0"),
)  # fmt: skip

_SPAWN = "import subprocess, sys, os\n"
EXECS = (
    _ends("exec-other", "import os, sys\nos.execv(sys.executable, [sys.executable, '-S', '-c', 'print(1)'])",
          "another program in its place: its output is the output", frozenset({Status.FINISHED}), b"1\n"),
    _ends("sitecustomize", _SPAWN + "open('sitecustomize.py', 'w').write('print(\"custom\")')\n"
          "subprocess.run([sys.executable, '-c', ''], env={'PYTHONPATH': os.getcwd()})", "hooks of an interpreter of its own",
          frozenset({Status.FINISHED}), None),
    _ends("preload", _SPAWN + "r = subprocess.run([sys.executable, '-S', '-c', 'print(2)'], env={'LD_PRELOAD': '/box/work/evil.so'})",
          "a library of its own in a process of its own", frozenset({Status.FINISHED}), None),
    _ends("conftest", "open('conftest.py', 'w').write('x')\nopen('pytest.ini', 'w').write('x')\nopen('result.json', 'w').write('{\"passed\": true}')\n"
          "raise SystemExit(4)", "files that some runner might read (2511.18397, terminal-bench #1633)", _RUNTIME),
    _ends("fake-main", "import sys, types\nm = types.ModuleType('__main__')\nm.status = 'accepted'\nsys.modules['__main__'] = m\nraise SystemExit(5)",
          "a module in its own place", _RUNTIME),
    _ends("trace-frames", "import sys\nframe = sys._getframe()\nwhile frame:\n    frame.f_trace = lambda *a: 1 / 0\n    frame = frame.f_back\n"
          "sys.settrace(lambda *a: None)\nraise SystemExit(6)", "a trace function in the harness's frames", FAILED),
    _ends("code-swap", "import gc, types\nfor o in gc.get_objects():\n    if isinstance(o, types.FunctionType) and 'sandbox' in o.__code__.co_filename:\n"
          "        o.__code__ = (lambda *a, **k: None).__code__.replace(co_freevars=o.__code__.co_freevars)\nraise SystemExit(7)",
          "harness functions emptied in the copy", ANYHOW),
    _ends("memory-scribble", "import ctypes, gc\nfor o in gc.get_objects():\n    if type(o).__name__ in ('Cell', 'Program', 'Request', 'Memory'):\n"
          "        ctypes.memset(id(o), 0, 16)\nimport os\nos._exit(8)", "harness objects overwritten in the copy", FAILED),
    cpp("cpp-exit-0", "forgery: exit", "_exit(0);", "no output is no answer", prints=b"", control="none", no_control=_VERDICT, allowed=ENDED),
    cpp("cpp-terminate", "forgery: exit", "throw 1;", "an uncaught exception", allowed=_RUNTIME, control="none", no_control=_VERDICT),
    cpp("cpp-trap", "forgery: exit", '__builtin_trap();', "an illegal instruction", allowed=_RUNTIME, control="none", no_control=_VERDICT),
    cpp("cpp-sigsys", "forgery: exit", "signal(SIGSYS, [](int) { escaped(\"survived the filter\"); _exit(0); });\nsyscall(SYS_ptrace, 0, 0, 0, 0);\n"
        'escaped("ptrace");', "a handler for the filter's signal", limits=COMPILED),
)  # fmt: skip

ATTACKS: tuple[Attack, ...] = (*HARNESS, *CHANNEL, *EXITS, *EXECS)
