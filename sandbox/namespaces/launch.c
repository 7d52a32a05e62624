/* Starts a native program in its box: clone, isolate, execute, without copying the supervisor's memory.

   The child shares the supervisor's memory until it executes (CLONE_VM | CLONE_VFORK), so that a start costs no page tables and no page
   faults of the interpreter. Nothing but this file's code runs in that time; the candidate's first instruction comes after the exec.
   `sandbox/namespaces/launch.py` lays out `struct plan` and compiles this file; `child.py` does the same steps for Python programs. */

#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LIMITS 10

struct plan {
    int32_t descriptors[3];          /* become 0, 1, 2 */
    int32_t ready;                   /* eventfd: the box is complete */
    int64_t flags;                   /* of clone */
    const char *tmpfs_options;
    const void *filter;              /* struct sock_fprog */
    int32_t limits[LIMITS];          /* resources, -1 for none */
    uint64_t soft[LIMITS], hard[LIMITS];
    const char *path;
    char *const *arguments;
    char *const *environment;
    int32_t seccomp_number, capset_number;
};

static char stack[131072] __attribute__((aligned(16)));

static _Noreturn void fail(const char *what, unsigned long length)
{
    if (write(2, what, length) < 0) {}
    _exit(126);
}
#define STEP(call) do { if ((call) != 0) fail(#call, sizeof #call - 1); } while (0)

static int child(void *argument)
{
    const struct plan *plan = argument;
    struct { uint32_t version; int32_t pid; } header = {0x20080522, 0};
    uint32_t none[6] = {0};
    uint64_t one = 1;

    if (setsid() < 0)
        fail("setsid", 6);
    for (int number = 0; number < 3; number++)
        if (dup2(plan->descriptors[number], number) < 0)
            fail("dup2", 4);
    STEP(mount("tmpfs", "/box", "tmpfs", MS_NOSUID | MS_NODEV, plan->tmpfs_options));
    STEP(mkdir("/box/work", 0755));
    STEP(mkdir("/box/tmp", 0755));
    STEP(mkdir("/box/shm", 0755));
    STEP(chdir("/box/work"));
    STEP(mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, "subset=pid"));
    for (int index = 0; index < LIMITS; index++)
        if (plan->limits[index] >= 0) {
            struct rlimit limit = {plan->soft[index], plan->hard[index]};
            STEP(setrlimit(plan->limits[index], &limit));
        }
    signal(SIGPIPE, SIG_DFL);
    signal(SIGXFSZ, SIG_DFL);
    STEP(syscall(plan->capset_number, &header, none));
    STEP(syscall(plan->seccomp_number, 1, 4, plan->filter)); /* set filter, allow speculation: as child.py */
    if (write(plan->ready, &one, sizeof one) != sizeof one)
        fail("ready", 5);
    syscall(SYS_close_range, 3U, ~0U, 0U);
    execve(plan->path, plan->arguments, plan->environment);
    fail("cannot execute", 14); /* the program's fault: ready has been said */
}

/* The child's process id, with a pidfd for it; below 0 the negated errno. Returns when the child executes or has ended. */
int launch(const struct plan *plan, int *pidfd)
{
    int pid = clone(child, stack + sizeof stack, (int)plan->flags | CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, (void *)plan, pidfd);
    return pid < 0 ? -errno : pid;
}
