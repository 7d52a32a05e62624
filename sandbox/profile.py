"""The container's own seccomp profile, in the form that Docker, containerd and Kubernetes read. Pure.

    python3 -m sandbox.profile > deploy/seccomp.json

It is what the *runner* needs to make boxes, and holds for everything in the container: user namespaces and mounts are allowed (Docker's
default forbids them without CAP_SYS_ADMIN), and much that Docker's default allows is not (ptrace, io_uring, AF_VSOCK, 32-bit entries). The
boxes install filters of their own before a program's first instruction (`namespaces/seccomp.py`), which allow none of it.
"""

from __future__ import annotations

import json
import sys

ARCHITECTURES = ("SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64")  # no x86, no x32
BOXES = ("mount", "pivot_root", "sethostname", "umount2", "unshare")  # what making a box takes, beyond what any program may
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}  # of sockets; a container without a network has no use for the last two
_EVERYBODY = """
    accept accept4 access alarm arch_prctl bind brk cachestat capget capset chdir chmod chown clock_getres clock_gettime clock_nanosleep
    clone clone3 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_pwait
    epoll_pwait2 epoll_wait eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fallocate fchdir fchmod
    fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstatfs fsync
    ftruncate futex futex_requeue futex_wait futex_waitv futex_wake futimesat get_mempolicy get_robust_list getcpu getcwd getdents
    getdents64 getegid geteuid getgid getgroups getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid
    getresuid getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getxattr inotify_add_watch inotify_init
    inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit ioctl ioprio_get ioprio_set kill
    landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lgetxattr link linkat listen listxattr llistxattr
    lremovexattr lseek lsetxattr lstat madvise map_shadow_stack membarrier memfd_create mincore mkdir mkdirat mknod mknodat mlock mlock2
    mlockall mmap mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink mremap mseal msgctl msgget msgrcv
    msgsnd msync munlock munlockall munmap nanosleep newfstatat open openat openat2 pause personality pidfd_open pidfd_send_signal pipe
    pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pwrite64
    pwritev pwritev2 read readahead readlink readlinkat readv recvfrom recvmmsg recvmsg remap_file_pages removexattr rename renameat
    renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
    rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
    sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp
    select semctl semget semop semtimedop sendfile sendmmsg sendmsg sendto set_robust_list set_tid_address setfsgid setfsuid setgid
    setgroups setitimer setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid setsockopt setuid setxattr shmat
    shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 splice stat statfs statx symlink symlinkat sync sync_file_range syncfs
    sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime
    timerfd_settime times tkill truncate umask uname unlink unlinkat utime utimensat utimes vfork vmsplice wait4 waitid write writev
"""


def allowed() -> tuple[str, ...]:
    """Names of the calls that are allowed whatever their arguments."""
    return tuple(sorted({*_EVERYBODY.split(), *BOXES}))


def container_profile() -> str:
    """The profile as JSON: what it does not name fails with EPERM, another architecture's entry kills."""
    families = [
        {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": family, "op": "SCMP_CMP_EQ"}]}
        for name in ("socket", "socketpair")
        for family in FAMILIES.values()
    ]
    calls = [{"names": list(allowed()), "action": "SCMP_ACT_ALLOW"}, *families]
    return json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "architectures": list(ARCHITECTURES), "syscalls": calls}, indent=1)


if __name__ == "__main__":
    sys.stdout.write(container_profile() + "\n")
