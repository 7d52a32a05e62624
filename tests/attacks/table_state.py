# ruff: noqa: E501 - a program stands in as few lines as it can: broken strings would hide it
"""What one run could leave for the next, and what could outlive its run."""

from __future__ import annotations

import dataclasses

from tests.attacks.attack import ANYHOW, SMALL, Attack, cpp, python

TWICE = (b"1", b"2")


def _left(id: str, find: str, leave: str, why: str, **more: object) -> Attack:
    """A program that looks for what it left and leaves it: run twice as tests of one job, then again as another job."""
    body = f"found = False\n{find}\nif found: escaped('found', found)\n{leave}"
    return python(id, "state", body, why, **{"inputs": TWICE, "rounds": 2, **more})


_EXEC = {"control": "exec"}
FILES = (
    _left("left-file", "found = os.path.exists('planted')", "open('planted', 'w').write('x')", "a file in the working folder"),
    _left("left-tmp", "found = os.path.exists('/tmp/planted')", "open('/tmp/planted', 'w').write('x')", "a file in /tmp"),
    _left("left-home", "found = os.path.exists(os.path.expanduser('~/planted'))", "open(os.path.expanduser('~/planted'), 'w').write('x')",
          "a file in the home folder"),
    _left("left-dev-shm", "found = os.path.exists('/dev/shm/planted')", "open('/dev/shm/planted', 'w').write('x')", "a shared memory file"),
    _left("left-var-tmp", "found = os.path.exists('/var/tmp/planted')",
          "try: open('/var/tmp/planted', 'w').write('x')\nexcept OSError: pass", "the temporary folder that people forget"),
    _left("left-program", "found = open('/program/main.py').read().endswith('left')",
          "try: open('/program/main.py', 'a').write('left')\nexcept OSError: pass\n#", "its own source, for the next test", control="none",
          no_control="a bare run has no such folder"),
    _left("left-bytecode", "found = os.path.exists('/program/__pycache__') or 'evil' in sys.modules",
          "for d in ('/program', os.path.dirname(os.__file__)):\n    try: open(d + '/evil.py', 'w').write('x = 1')\n    except OSError: continue\n"
          "    escaped('module planted in', d)", "a module that later programs import", control="bare"),
    _left("left-dotfiles", "import site\nfound = os.path.exists(os.path.join(site.getuserbase(), 'planted'))",
          "os.makedirs(site.getuserbase(), exist_ok=True)\nopen(os.path.join(site.getuserbase(), 'planted'), 'w').write('x')",
          "the user's own packages: usercustomize runs at every start"),
    _left("left-device-time", "import time\nfound = time.time() - os.stat('/dev/zero').st_mtime < 5", "try: os.utime('/dev/zero')\nexcept OSError: pass",
          "the times of a device node carry a bit from test to test", control="none", no_control="the control's devices are its own; device-times is controlled"),
)  # fmt: skip

IPC = (
    _left("left-shm", "found = libc.shmget(4711, 4096, 0) >= 0", "libc.shmget(4711, 4096, 0o1600)", "System V shared memory has no owner process"),
    _left("left-semaphore", "found = libc.semget(4711, 1, 0) >= 0", "libc.semget(4711, 1, 0o1600)", "System V semaphores"),
    _left("left-message", "found = libc.msgget(4711, 0) >= 0", "libc.msgget(4711, 0o1600)", "System V queues"),
    _left("left-posix-queue", "libc.syscall.restype = ctypes.c_long\nfound = libc.syscall(240, b'planted', 0, 0, None) >= 0",
          "libc.syscall(240, b'planted', 0o102, 0o600, None)", "POSIX queues"),
    _left("left-posix-semaphore", "found = os.path.exists('/dev/shm/sem.planted')",
          "rt = ctypes.CDLL('libpthread.so.0')\nrt.sem_open(b'/planted', 0o100, 0o600, 1)", "POSIX semaphores are files in /dev/shm"),
    _left("left-listener",
          "import socket, time\ns = socket.socket(socket.AF_UNIX)\ntry:\n    s.connect('\\0planted')\n    found = True\nexcept OSError: pass",
          "s = socket.socket(socket.AF_UNIX)\ntry:\n    s.bind('\\0planted')\n    s.listen()\nexcept OSError: pass\n"
          "if os.fork() == 0:\n    os.setsid()\n    time.sleep(2)\n    os._exit(0)", "a daemon with an abstract socket"),
    _left("left-in-flight",
          "import socket\nnames = []\nfor n in range(16):\n    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
          "    try: s.connect(f'\\0planted{n}')\n    except OSError: continue\n    names.append(n)\nfound = names",
          "for n in range(16):\n    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n    s.bind(f'\\0planted{n}')\n"
          "    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n    for e in (a, b): socket.send_fds(e, [b'x'], [s.fileno(), a.fileno(), b.fileno()])",
          "a bound socket on its way through itself lives until the kernel's collector finds the cycle, after all processes are gone",
          inputs=(b"1", b"2", b"3", b"4"), control="none", no_control="whether the collector has run when the next process starts is chance"),
    _left("left-lock", "import fcntl\nf = open(sys.executable, 'rb')\ntry: fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
          "except BlockingIOError: found = True\nexcept OSError: pass",
          "import time\nif os.fork() == 0:\n    os.setsid()\n    try: fcntl.flock(f, fcntl.LOCK_EX)\n    except OSError: pass\n    time.sleep(2)\n    os._exit(0)\n"
          "time.sleep(0.05)", "a lock on a file that everybody reads"),
    _left("left-key", "libc.syscall.restype = ctypes.c_long\nfound = libc.syscall(250, 10, -4, b'user', b'planted', 0) > 0",
          "libc.syscall(248, b'user', b'planted', b'x', ctypes.c_long(1), ctypes.c_long(-4))", "a key in the keyring of the uid"),
)  # fmt: skip

PROCESS_STATE = (
    _left("left-builtin", "import builtins\nfound = hasattr(builtins, 'planted')", "builtins.planted = 1", "a patched builtin", **_EXEC),
    _left("left-module", "found = 'planted' in sys.modules", "import types\nsys.modules['planted'] = types.ModuleType('planted')",
          "a fake module", **_EXEC),
    _left("left-patch", "import json\nfound = json.loads('1') != 1", "json.loads = lambda text: 'planted'", "a patched library", **_EXEC),
    _left("left-linecache", "import linecache\nfound = 'planted' in linecache.cache", "linecache.cache['planted'] = (1, None, ['x'], 'planted')",
          "a cache of sources", **_EXEC),
    _left("left-environment", "found = 'PLANTED' in os.environ", "os.environ['PLANTED'] = '1'", "the environment", **_EXEC),
    _left("left-folder", "found = os.getcwd().endswith('planted')", "os.makedirs('planted', exist_ok=True)\nos.chdir('planted')",
          "the working folder", **_EXEC),
    _left("left-umask", "found = os.umask(0o77) == 0o77", "os.umask(0o77)", "the mask for new files", **_EXEC),
    _left("left-signal", "import signal\nfound = signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN", "signal.signal(signal.SIGUSR1, signal.SIG_IGN)",
          "a signal's disposition", **_EXEC),
    _left("left-exit-function", "import atexit\nfound = atexit._ncallbacks() > 50", "for _ in range(60): atexit.register(len, '')",
          "functions that run at the end of the next", **_EXEC),
    _left("left-limit", "import resource\nfound = resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 77",
          "resource.setrlimit(resource.RLIMIT_NOFILE, (77, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))", "a lowered limit", **_EXEC),
    _left("left-priority", "found = os.getpriority(os.PRIO_PROCESS, 0) > 9", "os.nice(10)", "a lowered priority", **_EXEC),
    _left("left-random", "import random\nfound = random.random() == random.Random(4711).random()", "random.seed(4711)",
          "the state of random numbers", **_EXEC),
    _left("left-trace", "found = sys.gettrace() is not None or sys.getprofile() is not None", "sys.setprofile(lambda *a: None)",
          "a function that sees every call", **_EXEC),
    _left("left-import-hook", "found = any(type(f).__name__ == 'Planted' for f in sys.meta_path)",
          "class Planted:\n    def find_spec(self, *a): return None\nsys.meta_path.insert(0, Planted())", "a hook in every import", **_EXEC),
    _left("left-recursion", "found = sys.getrecursionlimit() == 4711", "sys.setrecursionlimit(4711)", "settings of the interpreter", **_EXEC),
    _left("left-stdin", "data = sys.stdin.read()\nfound = data and data not in ('1', '2') and data", "os.lseek(0, 0, 0)",
          "input of another test that was read ahead", control="none", no_control="bare runs have one input each"),
    _left("left-memory",
          "data = sys.stdin.read()\nlines = [line.split() for line in open('/proc/self/maps')]\nmemory = open('/proc/self/mem', 'rb', 0)\n"
          "for line in lines if len(data) < 9 else ():\n    if line[1].startswith('r'):\n        first, last = (int(end, 16) for end in line[0].split('-'))\n"
          "        try: found = os.pread(memory.fileno(), last - first, first)[::-1].find(b'NI-SAW-TAHT') >= 0 or found\n        except OSError: pass",
          "sys.planted = data, bytes(reversed(b'NI-SAW-TAHT'))\nprint(data)", "input and output of another test, in any buffer of the supervisor",
          inputs=(b"x" * 9000 + b"THAT-WAS-IN" + b"y" * 9, b"2", b"3"), **_EXEC),
    _left("left-socket-name",
          "import socket\ndata = sys.stdin.read().encode()\nother = bytes(n ^ 7 for n in range(256))\nmemory = open('/proc/self/mem', 'rb', 0)\n"
          "for line in map(str.split, open('/proc/self/maps')) if data == b'look' else ():\n    if line[1].startswith('r'):\n"
          "        first, last = (int(end, 16) for end in line[0].split('-'))\n"
          "        try: found = os.pread(memory.fileno(), last - first, first).translate(other).count(b'THE-SOCKETS-NAME') or found\n        except OSError: pass",
          "for n in range(5 if data != b'look' else 0):\n    s = socket.socket(socket.AF_UNIX)\n    s.bind(b'\\0' + data.translate(other) + b'%d' % n)\n"
          "    a, b = socket.socketpair()\n    for e in (a, b): socket.send_fds(e, [b'x'], [s.fileno(), a.fileno(), b.fileno()])",
          "a socket that is in flight for a moment after its test has a name, which the supervisor must not have read",
          inputs=(b"THE-SOCKETS-NAME", b"look") * 8, control="none", no_control="no supervisor looks at sockets elsewhere"),
)  # fmt: skip

_LATER = """
import time
def later():
    {leave}
    time.sleep(0.3)
    escaped('wrote after the end')
    os._exit(0)
"""


def _survives(id: str, leave: str, start: str, why: str, **more: object) -> Attack:
    """A process that means to outlive its test; its output file would show it, and the driver counts what is left on the machine."""
    return python(id, "survivors", _LATER.format(leave=leave) + start, why, **{"inputs": TWICE, **more})


_FORK = "if os.fork() == 0: later()"
SURVIVORS = (
    _survives("daemon", "os.setsid(); os.fork() and os._exit(0)", _FORK, "the classic double fork; DMOJ #318, psutil misses it"),
    _survives("term-ignorer", "import signal; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 3, 13, 15, 20, 21, 22)]", _FORK, "polite signals"),
    _survives("stopped", "import signal; os.kill(os.getpid(), signal.SIGSTOP)", "if os.fork() == 0: later()", "stopped processes get no signals",
              control="none", no_control="it stays stopped where nothing kills it"),
    _survives("exec-survivor", "os.setsid(); os.execv(sys.executable, [sys.executable, '-S', '-c', \"import time; time.sleep(0.3); print('escaped')\"])",
              _FORK, "under another name"),
    _survives("thread-survivor", "pass", "import threading\nthreading.Thread(target=later, daemon=True).start()\ntime.sleep(0.01)",
              "a thread that prints after main's end", control="none", no_control="threads end with their process everywhere"),
    _survives("many-survivors", "os.setsid()", "for _ in range(30):\n    if os.fork() == 0: later()", "the killer must get all at once"),
    _survives("timer", "pass", "import signal\nsignal.signal(signal.SIGALRM, lambda *a: later())\nsignal.setitimer(signal.ITIMER_REAL, 0.2)\n"
              "if os.fork() == 0:\n    signal.signal(signal.SIGALRM, lambda *a: later())\n    signal.setitimer(signal.ITIMER_REAL, 0.2)\n"
              "    signal.pause()", "wakes up later"),
    _survives("respawner", "os.setsid()", "if os.fork() == 0:\n    for _ in range(100):\n        if os.fork(): os._exit(0)\n        time.sleep(0.004)\n    escaped('still here')\n    os._exit(0)",
              "a new number every few milliseconds: whoever kills by list comes too late"),
    python("holds-output", "survivors",
           "import time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(30)\nprint('done', flush=True)\nos._exit(0)",
           "a child that keeps the output open: who waits for its end waits for ever", inputs=TWICE, control="none",
           no_control="the wall bound of this row is the property", wall_s=5),
    cpp("cpp-daemon", "survivors", 'if (daemon(1, 1) == 0) { usleep(300000); escaped("daemon"); }', "daemon() of the C library", prints=b"",
        inputs=TWICE),
)  # fmt: skip

_CLEAN = dataclasses.replace(SMALL, cpu_s=1.0)
LATER_TESTS = (
    python("survivor-answers", "survivors",
           "import time\ndata = sys.stdin.read()\nif data == '1':\n    if os.fork() == 0:\n        os.setsid()\n"
           "        time.sleep(0.05)  # what it writes before test 1 ends is that test's own\n        end = time.time() + 1\n"
           "        while time.time() < end:\n            for n in range(64):\n                try: os.write(n, b'escaped: answered for test 2')\n"
           "                except OSError: pass\n        os._exit(0)\n    print('done', flush=True)\n    os._exit(0)\ntime.sleep(0.1)",
           "a child of test 1 that writes to every descriptor while test 2 runs", inputs=TWICE, limits=_CLEAN, allowed=ANYHOW,
           prints=None, control="bare"),
)  # fmt: skip

ATTACKS: tuple[Attack, ...] = (*FILES, *IPC, *PROCESS_STATE, *SURVIVORS, *LATER_TESTS)
