# ruff: noqa: E501 - a program stands in as few lines as it can: broken strings would hide it
"""Reaching anything by network, and other processes."""

from __future__ import annotations

from tests.attacks.attack import Attack, cpp, python

_FAMILY = """
import errno, socket
try:
    socket.{call}({family}, {kind}, {protocol})
except OSError as error:
    if error.errno in (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.ENODEV): print('absent')
    elif error.errno not in (errno.EACCES, errno.EPERM): escaped('the kernel answered', error)
else:
    escaped('family {family} kind {kind}')
"""


def _family(id: str, family: int, kind: int, why: str, protocol: int = 0, call: str = "socket") -> Attack:
    body = _FAMILY.format(call=call, family=family, kind=kind, protocol=protocol)
    return python(f"socket-{id}", "network", body, why)


FAMILIES = (
    _family("tcp", 2, 1, "TCP over IPv4"),
    _family("udp", 2, 2, "UDP over IPv4"),
    _family("raw", 2, 3, "raw IPv4", 1),
    _family("tcp6", 10, 1, "TCP over IPv6: forgotten by filters for IPv4"),
    _family("udp6", 10, 2, "UDP over IPv6"),
    _family("route", 16, 3, "netlink: interfaces and routes"),
    _family("uevent", 16, 2, "netlink: device events of the host", 15),
    _family("audit", 16, 3, "netlink: the kernel's audit", 9),
    _family("packet", 17, 3, "whole frames", 0x300),
    _family("vsock", 40, 1, "the hypervisor; isolate 2.4"),
    _family("alg", 38, 5, "the kernel's ciphers: much code, no use"),
    _family("key", 15, 3, "IPsec keys", 2),
    _family("can", 29, 3, "field bus", 1),
    _family("bluetooth", 31, 3, "radio", 1),
    _family("tipc", 30, 1, "cluster sockets"),
    _family("rds", 21, 5, "cluster sockets"),
    _family("xdp", 44, 3, "packet rings"),
    _family("smc", 43, 1, "shared memory between machines"),
    _family("mptcp", 2, 1, "multipath TCP", 262),
    _family("nfc", 39, 5, "radio"),
    _family("vsock-dgram", 40, 2, "the hypervisor by datagrams"),
    _family("icmp-pair", 16, 3, "a pair of another family than AF_UNIX", 0, "socketpair"),
)
_CONNECT = """
import socket, struct
kind, _, where = sys.stdin.read().strip().partition(' ')
s = socket.socket(socket.AF_UNIX if kind == 'unix' else socket.AF_INET)
s.settimeout(1)
s.connect('\\0' + where if kind == 'unix' else ('127.0.0.1', int(where)))
escaped('connected to', where, s.recv(100))
"""
_GUARDED = "try:\n" + "".join(f"    {line}\n" for line in _CONNECT.strip().splitlines()) + "except OSError: pass"
REACH = (
    python("host-abstract", "network", _GUARDED, "an abstract socket of the host needs no file; isolate's release notes",
           inputs=(b"unix {abstract}",), control="bare+net"),
    python("host-loopback", "network", _GUARDED, "a service on the machine's loopback, such as our own port (A6)",
           inputs=(b"tcp {port}",), control="bare+net"),
    python("host-unix-path", "network",
           "import socket\ns = socket.socket(socket.AF_UNIX)\ntry:\n    s.connect(sys.stdin.read().strip())\n"
           "    escaped('connected', s.recv(100))\nexcept OSError: pass", "a socket file of the host, such as Docker's", inputs=(b"{socket}",)),
    python("interfaces", "network",
           "import fcntl, socket, struct\ns = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
           "for n in range(1, 64):\n    try: name = fcntl.ioctl(s, 0x8910, struct.pack('16si20x', b'', n))[:16].strip(b'\\0')\n"
           "    except OSError: continue\n    if name != b'lo': escaped('interface', name)\n",
           "which networks there are: an AF_UNIX socket answers these calls too", control="none",
           no_control="a machine without any network interface would fail it"),
    python("loopback-up", "network",
           "import fcntl, socket, struct\ns = socket.socket(socket.AF_UNIX)\ntry:\n"
           "    fcntl.ioctl(s, 0x8914, struct.pack('16sH22x', b'lo', 1))\n    escaped('set up loopback')\nexcept OSError: pass",
           "making a network of one's own"),
    python("resolver", "network",
           "import socket\ntry: escaped(socket.getaddrinfo('localhost', 80)[0])\nexcept OSError: pass",
           "names of the network"),
    python("descriptors", "network",
           "for n in range(3, 1024):\n    try: os.fstat(n)\n    except OSError: continue\n    escaped('descriptor', n, os.readlink(f'/proc/self/fd/{n}'))",
           "an inherited socket needs no call to socket()", control="exec"),
    cpp("connect-early", "network",
        'int s = socket(AF_INET, SOCK_STREAM, 0); if (s >= 0) escaped("a constructor made a socket");',
        "before main, in a constructor", top="#include <sys/socket.h>"),
    cpp("socket-raw-call", "network",
        'if (syscall(SYS_socket, 2L | (1L << 32), 1, 0) >= 0) escaped("upper half of the argument");\n'
        'if (syscall(SYS_socket, 0x100000001L, 1, 0) < 0) puts("unix refused");\nif (syscall(SYS_socket, -1, 1, 0) >= 0) escaped("-1");',
        "a filter sees 64 bits, the kernel takes 32"),
)  # fmt: skip

_OTHERS = "others = [int(n) for n in os.listdir('/proc') if n.isdigit() and int(n) != os.getpid()]\n"
_EACH = "for pid in [os.getppid(), *range(1, 3000)]:\n    if pid in (0, os.getpid()): continue\n"


def _on_others(id: str, call: str, why: str, **more: object) -> Attack:
    body = f"import signal, resource\n{_EACH}    try: {call}\n    except OSError: continue\n    escaped({call!r}, pid)\n    break"
    return python(id, "other processes", body, why, **more)


PROCESSES = (
    python("see", "other processes", _OTHERS + "if others: escaped('sees', others)", "who runs here"),
    python("parent", "other processes", "if os.getppid(): escaped('has a parent', os.getppid())", "the supervisor's number"),
    python("session", "other processes",
           "if os.getsid(0) != os.getpid() or os.getpgid(0) != os.getpid(): escaped('shares a group or session')",
           "kill(0) would reach whoever shares the group"),
    python("kill-all", "other processes",
           "try:\n    os.kill(-1, 0)\n    escaped('kill(-1)')\nexcept OSError: pass", "signal whatever may be signalled"),
    _on_others("kill-each", "os.kill(pid, 0)", "signals by number"),
    _on_others("kill-groups", "os.killpg(pid, 0)", "signals to groups"),
    _on_others("pidfd", "signal.pidfd_send_signal(os.pidfd_open(pid), 0)", "signals by descriptor"),
    _on_others("open-memory", "open(f'/proc/{pid}/mem', 'rb')", "the memory of another"),
    _on_others("read-maps", "open(f'/proc/{pid}/maps', 'rb').read(1)", "where another's memory lies"),
    _on_others("prlimit", "resource.prlimit(pid, resource.RLIMIT_NOFILE)", "another's limits"),
    _on_others("priority", "os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, pid))", "another's priority"),
    _on_others("affinity", "os.sched_getaffinity(pid)", "another's cores"),
    python("priority-user", "other processes", _OTHERS + "if others:\n    os.setpriority(os.PRIO_USER, 0, os.getpriority(os.PRIO_PROCESS, 0))\n"
           "    escaped('set the priority of all processes of the user')", "everybody of the same uid is reached by one call"),
    python("own-affinity", "other processes",
           "try:\n    os.sched_setaffinity(0, os.sched_getaffinity(0))\n    escaped('may choose cores')\nexcept OSError: pass",
           "leaving its core for a neighbour's"),
    python("own-scheduler", "other processes",
           "try:\n    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))\n    escaped('may choose a scheduler')\nexcept OSError: pass",
           "real-time priority starves the neighbours"),
    python("nice-down", "other processes",
           "try:\n    os.nice(-5)\n    escaped('raised its priority')\nexcept OSError: pass", "a better priority than its neighbours"),
    python("io-signal", "other processes",
           "import fcntl, socket\na, b = socket.socketpair()\nsent = []\n" + _EACH.replace("3000", "300") +
           "    try: fcntl.fcntl(a, fcntl.F_SETOWN, pid)\n    except OSError: continue\n    sent.append(pid)\n    break\n"
           "if sent: escaped('may send SIGIO to', sent)", "signals by I/O, which kill() rules do not see"),
    cpp("tgkill-each", "other processes",
        'for (int pid = 1; pid < 3000; pid++) if (pid != getpid() && !syscall(SYS_tgkill, pid, pid, 0)) { escaped("tgkill"); break; }',
        "signals to threads"),
    cpp("sigqueue-each", "other processes",
        'for (int pid = 1; pid < 3000; pid++) { siginfo_t i = {}; i.si_code = SI_QUEUE;\n'
        '  if (pid != getpid() && !syscall(SYS_rt_sigqueueinfo, pid, 0, &i)) { escaped("rt_sigqueueinfo"); break; } }',
        "signals with data"),
)  # fmt: skip

ATTACKS: tuple[Attack, ...] = (*FAMILIES, *REACH, *PROCESSES)
