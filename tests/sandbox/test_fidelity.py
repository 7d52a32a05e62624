"""A warm fork shows what a bare run shows: each program is run here and by the plain interpreter, and must print and exit alike."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import pytest

from sandbox.interface import Job, Sandbox, Status, TestInput

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.isolation]

PROGRAMS = {
    "main guard": "if __name__ == '__main__': print('main')",
    "argv length": "import sys\nprint(len(sys.argv))",
    "input at end of file": "try:\n    while True: print(input())\nexcept EOFError: print('end')",
    "stdin iteration": "import sys\nfor line in sys.stdin: print(line.strip())",
    "stdin buffer": "import sys\nprint(sys.stdin.buffer.read())",
    "os.read": "import os\nprint(os.read(0, 100))",
    "open(0)": "print(open(0).read())",
    "/dev/stdin": "print(open('/dev/stdin').read())",
    "exit()": "print('a')\nexit()",
    "quit(3)": "quit(3)",
    "sys.exit with text": "import sys\nsys.exit('bye')",
    "sys.exit with None": "import sys\nsys.exit()",
    "sys.exit with a float": "import sys\nsys.exit(2.5)",
    "exit code above 255": "import sys\nsys.exit(256 + 7)",
    "exception": "def f():\n    raise ValueError('x')\nf()",
    "chained exception": "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError('k') from e",
    "exception in a hook": "import sys\nsys.excepthook = lambda *a: print('hook', a[0].__name__)\n1 / 0",
    "atexit": "import atexit\natexit.register(print, 'last')\nprint('first')",
    "flush at exit": "import sys\nsys.stdout.write('no newline')",
    "closed stdout": "import sys\nprint('a', flush=True)\nsys.stdout.close()",
    "stdout replaced": "import sys, io\nsys.stdout = io.StringIO()\nprint('lost')",
    "os.write before print": "import os\nprint('late')\nos.write(1, b'early\\n')",
    "thread outlives main": "import threading, time\ndef f():\n    time.sleep(0.1)\n    print('thread')\n"
    "threading.Thread(target=f).start()\nprint('main')",
    "daemon thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(5,), daemon=True).start()\nprint('main')",
    "multiprocessing": "import multiprocessing\ndef f(x): return x * x\nif __name__ == '__main__':\n"
    "    with multiprocessing.get_context('fork').Pool(2) as p: print(p.map(f, range(5)))",
    "fork": "import os\npid = os.fork()\nif pid == 0:\n    print('child', flush=True)\n    os._exit(0)\n"
    "os.waitpid(pid, 0)\nprint('parent')",
    "subprocess": "import subprocess, sys\nprint(subprocess.run([sys.executable, '-c', 'print(7)'], capture_output=True).stdout)",
    "recursion depth": "def f(n):\n    try: return f(n + 1)\n    except RecursionError: return n\nprint(f(1))",
    "deep recursion": "import sys\nsys.setrecursionlimit(10**6)\ndef f(n): return 0 if n == 0 else 1 + f(n - 1)\nprint(f(150000))",
    "deep recursion in a thread": "import sys, threading\nsys.setrecursionlimit(10**6)\nthreading.stack_size(64 << 20)\n"
    "def f(n): return 0 if n == 0 else 1 + f(n - 1)\nt = threading.Thread(target=lambda: print(f(50000)))\nt.start()\nt.join()",
    "getsource": "import inspect\ndef g(): return 1\nprint(inspect.getsource(g))",
    "own source": "print(len(open(__file__).read()))",
    "relative files": "open('a.txt', 'w').write('x')\nprint(open('a.txt').read())",
    "unicode": "print('h\\u00e9llo \\u4e2d\\u6587', ascii('\\udcff'))",
    "surrogate to stdout": "print('\\udcff')",
    "encoding": "import sys\nprint(sys.stdout.encoding, sys.stdin.encoding, sys.stderr.errors, sys.stdin.errors)",
    "stdin is no terminal": "import sys\nprint(sys.stdin.isatty(), sys.stdout.isatty())",
    "gc": "import gc\nprint(gc.isenabled(), gc.get_threshold())",
    "hash seed": "print(hash('a'), {1, 'b', 'c'} == {'c', 'b', 1})",
    "signal handlers": "import signal\nprint(signal.getsignal(signal.SIGINT).__name__, signal.getsignal(signal.SIGTERM))",
    "alarm": "import signal, time\nsignal.signal(signal.SIGALRM, lambda *a: print('alarm'))\n"
    "signal.setitimer(signal.ITIMER_REAL, 0.05)\ntime.sleep(0.2)",
    "dataclass pickling": "import pickle, dataclasses\n@dataclasses.dataclass\nclass P:\n    x: int\n"
    "print(pickle.loads(pickle.dumps(P(3))))",
    "module of main": "import sys\nclass C: pass\nprint(C.__module__, sys.modules['__main__'].C is C)",
    "globals": "print(sorted(k for k in globals() if not k.startswith('__')))",
    "no harness in sys.modules": "import sys\nprint([m for m in sys.modules if m.startswith('sandbox')])",
    "async": "import asyncio\nasync def f():\n    await asyncio.sleep(0.01)\n    return 5\nprint(asyncio.run(f()))",
    "big output": "print('x' * 300000)",
    "decimal and fractions": "from fractions import Fraction\nfrom decimal import Decimal\nprint(Fraction(1, 3) + 1, Decimal('0.1') * 3)",
    "typing and heapq": "import heapq, bisect, collections, functools\nh = [3, 1]\nheapq.heapify(h)\n"
    "print(h, bisect.bisect([1, 2], 1), functools.reduce(int.__add__, h))",
    "syntax warning": "x = 1\nprint(x is 1)",
    "future annotations": "from __future__ import annotations\ndef f(x: undefined): pass\nprint(f.__annotations__)",
    "modes and names of streams": "import sys\n"
    "for s in (sys.stdin, sys.stdout, sys.stderr): print(s.mode, s.name, s.buffer.name, s.buffer.mode)",
    "stack without limit": "import resource, sys\n"
    "resource.setrlimit(resource.RLIMIT_STACK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
    "sys.setrecursionlimit(10**6)\ndef f(n): return 0 if n == 0 else 1 + f(n - 1)\nprint(f(50000))",
    "stack of a template": "import resource\nresource.setrlimit(resource.RLIMIT_STACK, (2**29, -1))\nprint('set')",
    "file that is never closed": "f = open(1, 'w')\nf.write('42\\n')",
    "file over a descriptor": "import os\nf = os.fdopen(1, 'w')\nprint(42, file=f)",
    "file over a device": "f = open('/dev/stdout', 'w')\nf.write('42\\n')",
    "binary writer": "import io\nf = io.BufferedWriter(io.FileIO(1, 'w'))\nf.write(b'42\\n')",
    "old stdout after a redirect": "import sys, io\nout = sys.stdout\nsys.stdout = io.StringIO()\nprint('lost')\nout.write('42\\n')",
    "print before a redirect": "import sys, io\nprint(42)\nsys.stdout = io.StringIO()",
    "stdout detached": "import sys, io\nsys.stdout = io.TextIOWrapper(sys.stdout.detach())\nprint(42)",
    "second writer": "import sys, io\nout = io.TextIOWrapper(sys.stdout.buffer, write_through=False)\nout.write('42\\n')",
    "stdout set to None": "import sys\nprint(42)\nsys.stdout = None",
    "stdout without flush": "import sys\nsys.stdout = object()",
    "object with a last word": "class C:\n    def __del__(self): print('gone')\nc = C()",
    "generator with a last word": "def g():\n    try: yield 1\n    finally: print('closed')\nx = g()\nnext(x)",
    "stream of the C library": "import ctypes\nctypes.CDLL(None).printf(b'from C\\n')",
    "files after an exception": "f = open(1, 'w')\nf.write('42\\n')\n1 / 0",
    "files after an exit": "import sys\nf = open(1, 'w')\nf.write('42\\n')\nsys.exit(3)",
    "exit code beyond a long": "import sys\nsys.exit(2**70)",
    "annotations": "x: int = 1\nprint(__annotations__)",
    "order of the last words": "class C:\n    def __init__(self, n): self.n = n\n    def __del__(self): print(self.n)\n"
    "a = C('a')\n_b = C('b')",
    "encoding cookie": "# -*- coding: latin-1 -*-\nprint(len('\u00e9'))",
}
INPUT = b"12 7\nline two\n"


def bare(source: str, tmp_path: os.PathLike[str]) -> tuple[int, bytes, bytes]:
    program = os.path.join(tmp_path, "main.py")
    work = os.path.join(tmp_path, "work")
    os.mkdir(work)
    with open(program, "w", encoding="utf-8", errors="surrogatepass") as file:
        file.write(source)
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    with open(os.path.join(tmp_path, "input"), "wb") as file:
        file.write(INPUT)
    with open(os.path.join(tmp_path, "input"), "rb") as stdin, open(os.path.join(tmp_path, "output"), "w+b") as stdout:
        executable = os.path.realpath(sys._base_executable)
        done = subprocess.run([executable, "-s", program], stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, cwd=work, env=environment)
        stdout.seek(0)
        return done.returncode, stdout.read(), done.stderr.replace(os.fsencode(tmp_path), b"/program")


@pytest.mark.parametrize("name", PROGRAMS)
async def test_a_program_behaves_as_in_a_bare_run(sandbox: Sandbox, tmp_path: os.PathLike[str], name: str) -> None:
    source = PROGRAMS[name]
    code, stdout, stderr = bare(source, tmp_path)
    async with contextlib.aclosing(sandbox.run(Job("python", source, (TestInput(INPUT),)))) as results:
        result = await anext(results)
    assert (result.exit_code, result.stdout) == (code, stdout), result.stderr
    assert result.status is (Status.FINISHED if code == 0 else Status.RUNTIME_ERROR)
    if name not in ("syntax warning", "stdout without flush"):  # warnings of the compiler and of the very end go to nobody
        assert result.stderr == stderr
