# ruff: noqa: E501 - a program stands in as few lines as it can: broken strings would hide it
"""Reading and writing what is the machine's: files, devices, /proc and /sys."""

from __future__ import annotations

from tests.attacks.attack import Attack, cpp, python

_READ = """
def attempt(path):
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        data = os.listdir(fd) if os.path.isdir(path) else os.read(fd, 4096)
    except OSError:
        return
    escaped(path, data[:64])
"""
_WRITE = """
def attempt(path, flags=os.O_WRONLY | os.O_APPEND):
    try:
        os.close(os.open(path, flags, 0o644))
    except OSError:
        return
    escaped("opened for writing", path)
"""
_SECRET = "path = sys.stdin.read().strip()\n"  # the driver plants a file on the host and says where: {secret}
_SHOW = """
def show(path, dir_fd=None):
    try:
        print(open(path, opener=lambda p, f: os.open(p, f, dir_fd=dir_fd)).read())
    except OSError:
        pass
"""


def _reads(id: str, why: str, *paths: str) -> Attack:
    return python(
        id,
        "host files",
        _READ + f"paths = {paths!r}\nfor path in paths: attempt(path)\nif not any(map(os.path.lexists, paths)): print('absent')",
        why,
    )


def _secret(id: str, why: str, body: str) -> Attack:
    return python(id, "host files", _SECRET + _SHOW + body, why, inputs=(b"{secret}",))


READS = (
    _reads("read-shadow", "password hashes; kjudge #82", "/etc/shadow", "/etc/gshadow"),
    _reads("read-etc", "the machine's configuration and names", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/etc/machine-id"),
    _reads("read-homes", "keys and credentials of accounts", "/root/.bashrc", "/root/.profile", "/root/.ssh", "/root/.aws"),
    _reads("read-var", "logs, spools, service data", "/var/log", "/var/lib", "/var/run", "/run"),
    _reads("read-root-link", "the same file through this process's root link", "/proc/self/root/etc/shadow", "/proc/1/root/etc/shadow"),
    _reads("read-cwd-link", "the same file relative to this process's folder", "/proc/self/cwd/../../../../../../etc/shadow"),
    _reads("read-thread-link", "the same file through a thread's links", "/proc/thread-self/root/etc/shadow"),
    _reads("read-dotdot", "more steps up than there are folders", "../" * 40 + "etc/shadow"),
    _reads("read-kernel-memory", "the kernel's image and symbols", "/proc/kcore", "/proc/kallsyms", "/proc/kmsg", "/dev/mem", "/dev/kmsg"),
    _reads("read-sysctl", "kernel settings", "/proc/sys/kernel/hostname", "/proc/sys", "/proc/sys/kernel/core_pattern"),
    _reads("read-proc-machine", "what else runs on the machine", "/proc/meminfo", "/proc/modules", "/proc/interrupts", "/proc/keys"),
    _reads("read-sys", "devices, cgroups, firmware", "/sys", "/sys/class/net", "/sys/fs/cgroup", "/sys/kernel"),
    _reads("read-oldroot", "the root before the pivot", "/oldroot", "/.oldroot", "/old_root", "/mnt", "/srv", "/opt"),
    _reads("read-boot", "kernels and their configuration", "/boot", "/proc/config.gz", "/proc/cmdline"),
    _reads("read-host-tmp", "the machine's own temporary files", "/var/tmp"),
)
SECRETS = (
    _secret("secret-plain", "a file of the host by its own path", "show(path)"),
    _secret("secret-symlink", "a link to it: whoever follows it must not reach it", "os.symlink(path, 'link')\nshow('link')"),
    _secret("secret-hardlink", "a hard link to it", "try: os.link(path, 'hard')\nexcept OSError: pass\nshow('hard')"),
    _secret("secret-root-link", "through /proc/self/root", "show('/proc/self/root' + path)"),
    _secret("secret-fd-links", "from folders behind descriptors", "for n in range(1024): show(f'/proc/self/fd/{n}/../..' + path)"),
    _secret("secret-dot-fd", "up from a descriptor of the working folder", "d = os.open('.', os.O_PATH)\nshow('../' * 40 + path.lstrip('/'), d)"),
    _secret("secret-proc-fd", "up from a descriptor below /proc", "d = os.open('/proc/self', os.O_PATH)\nshow('../../..' + path, d)"),
    _secret("secret-task-root", "through a task's root link", "show(f'/proc/self/task/{os.getpid()}/root' + path)"),
    _secret("secret-ancestors", "through the links of process 1", "for link in ('root', 'cwd'): show(f'/proc/1/{link}' + path)"),
    _secret(
        "secret-long-way",
        "a path through a folder that is moved while it is walked (LWN's mount races)",
        "os.makedirs('a/b/c')\nd = os.open('a/b/c', os.O_PATH)\nos.rename('a/b', 'z')\nshow('../' * 20 + path.lstrip('/'), d)",
    ),
    _secret("secret-chdir", "after changing to the root's parent", "os.chdir('/')\nos.chdir('..')\nshow(path.lstrip('/'))"),
    _secret("secret-exec", "by the dynamic loader, which opens what it is told", "pid = os.fork()\nif pid == 0:\n"
            "    os.execv(sys.executable, [sys.executable, '-S', '-c', f'print(open({path!r}).read())'])\nos.waitpid(pid, 0)"),
    python("secret-environment", "host files",
           "for n in ('self', '1'):\n    try: data = open(f'/proc/{n}/environ').read()\n    except OSError: continue\n    print(data)\n"
           "print(dict(os.environ))", "the service's environment holds keys"),
    python("secret-source", "host files",
           "import pathlib\nframe = sys._getframe()\nwhile frame:\n    name = frame.f_code.co_filename\n    frame = frame.f_back\n"
           "    if name != '/program/main.py' and pathlib.Path(name).is_file(): escaped('harness source', name)\n"
           "for name in ('sandbox/namespaces/child.py', 'reward_service/pipeline.py'):\n"
           "    for base in sys.path: (pathlib.Path(base) / name).exists() and escaped(name)",
           "the service's own source", control="exec"),
)  # fmt: skip
WRITES = (
    python("write-etc", "host files", _WRITE + "for p in ('/etc/passwd', '/etc/hosts', '/etc/profile'): attempt(p)", "files of the host"),
    python(
        "write-create",
        "host files",
        _WRITE + "for d in ('', '/etc', '/usr', '/usr/lib', '/dev', '/var', '/root'): attempt(d + '/planted', os.O_CREAT | os.O_WRONLY)",
        "new files outside of the working folder",
    ),
    python("write-preload", "host files", _WRITE + "attempt('/etc/ld.so.preload', os.O_CREAT | os.O_WRONLY)", "a library for everybody"),
    python("write-runtime", "host files", _WRITE + "attempt(os.__file__)\nattempt(ctypes.__file__)", "poison for later programs (A8)"),
    python("write-interpreter", "host files", _WRITE + "attempt(os.path.realpath('/proc/self/exe'))", "runc CVE-2019-5736",
           no_control="a running binary is busy everywhere", control="none"),
    python("write-oom-score", "host files", _WRITE + "attempt('/proc/self/oom_score_adj')", "whom the kernel kills for memory"),
    python("write-proc-attributes", "host files",
           _WRITE + "for n in ('coredump_filter', 'clear_refs', 'comm', 'uid_map', 'setgroups'): attempt('/proc/self/' + n)",
           "this process's own kernel settings"),
    python("write-sysctl", "host files", _WRITE + "for n in ('kernel/core_pattern', 'vm/overcommit_memory', 'kernel/modprobe'):\n"
           "    attempt('/proc/sys/' + n)", "kernel settings; opened only"),
    python("write-sysrq", "host files", _WRITE + "attempt('/proc/sysrq-trigger')\nif not os.path.exists('/proc/sysrq-trigger'): print('absent')", "crash or reboot; opened only"),
    python("device-nodes", "host files",
           "import stat\nfor n in ('8:0', '1:1', '10:237'):\n    a, b = map(int, n.split(':'))\n"
           "    try: os.mknod(f'node{a}', 0o600 | stat.S_IFBLK, os.makedev(a, b))\n    except OSError: continue\n    escaped('made a device', n)",
           "a disk of one's own making"),
    python("device-times", "host files",
           "for n in ('null', 'zero', 'full', 'urandom'):\n    try: os.utime('/dev/' + n)\n    except OSError: continue\n"
           "    escaped('changed the times of /dev/' + n)",
           "device nodes are the host's: their times are a channel between all boxes, and from test 1 to test 2"),
    python("device-modes", "host files",
           "for n in ('null', 'zero'):\n    try: os.chmod('/dev/' + n, 0o600)\n    except OSError: continue\n    escaped('chmod', n)",
           "nobody could use /dev/null any more; isolate's devices are read-only", control="none",
           no_control="it would break the devices that the control itself uses"),
    python("setuid-file", "host files",
           "import stat\nopen('s', 'w').write('x')\nos.chmod('s', 0o4755)\nflags = os.statvfs('.').f_flag\n"
           "if not flags & os.ST_NOSUID: escaped('set-user-id files work here')", "a file that gives its runner another uid"),
    cpp("exe-write", "host files",
        'int fd = open("/program/main", O_WRONLY); if (fd >= 0) escaped("program"); if (errno == ENOENT) escaped("no sealed program");\n'
        'if (!rename("/program/main", "/program/other") || !unlink("/program/main")) escaped("moved the program");',
        "the next test must run the same program"),
    cpp("beneath", "host files",
        'struct { unsigned long flags, mode, resolve; } how = {O_RDONLY, 0, 0x10};\nint d = open("/", O_PATH);\n'
        'if (syscall(437, d, "../../etc/shadow", &how, sizeof how) >= 0) escaped("openat2");', "openat2 with a root of its own"),
)  # fmt: skip

ATTACKS: tuple[Attack, ...] = (*READS, *SECRETS, *WRITES)
