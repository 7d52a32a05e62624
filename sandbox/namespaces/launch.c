/* The inner loop of a cell's supervisor: take requests, and for each: clone, isolate, run, wait, account, reply.

   A supervisor's every write between a fork and the child's end copies a page, and so does every line that the child runs beside the
   program: in C that is a handful of pages, in Python a few hundred. So a Python program's code object is evaluated from here, by the
   interpreter's own function, and a native program is started without any copy at all (CLONE_VM until it executes). What takes longer
   than a tick, or asks for something unusual, goes back to `cell.py`, which can do all of it alone.
   `sandbox/namespaces/launch.py` lays out `struct plan` and compiles this file; `child.py` isolates in the same steps. */

#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LIMITS 10
#define DESCRIPTORS 4
#define INPUT_BYTES 16384                /* wire.py, as the flags below */
#define STDOUT_BYTES 32768
#define STDERR_BYTES 4096
#define MESSAGE_BYTES 32768
#define ANSWER_BYTES 57344
#define HOLD_NS 3000000                  /* longest wait of a reply for those that go with it */
#define IN_FILES 0xFFFFFFFFU
#define OOM 16
#define NOT_READY 32
#define DIRTY 64
#define LINGERING_BYTES (8 << 20)        /* as accounting.py */
#define LINGER_NS 50000000
#define SOCKETS_CLOSE_NS 50000000
#define SOCKETS_BYTES 64                 /* as cell.py */
#define NOTICEABLE_CPU_NS 20000000

enum outcome { CHILD = 0, CLOSED = 1, UNUSUAL = 2, RUNNING = 3, REPLIED = 4 };

struct __attribute__((packed)) request { /* wire.py: REQUEST */
    uint32_t index, input_bytes;
    double cpu_s, wall_s;
    uint64_t memory_bytes, output_bytes;
    uint32_t processes;
    uint64_t disk_bytes;
    uint32_t disk_inodes;
};

struct __attribute__((packed)) reply {   /* wire.py: REPLY */
    uint32_t index, flags;
    int32_t status;
    double cpu_s, wall_s, waited_s, slowdown;
    uint64_t memory_bytes;
    uint32_t stdout_bytes, stderr_bytes;
};

struct accounts {                        /* accounting.py: State */
    int32_t peak, events, stat, cpu, resettable, unused;
    int64_t start_bytes, start_file_bytes, highest, kills, cpu_ns, own_ns;
};

struct plan {
    int32_t control, ready, unix_sockets, execute;
    int64_t flags;                       /* of clone */
    void *thread_id;                     /* where the C library keeps it, or NULL */
    const char *tmpfs_options;
    const void *filter;                  /* struct sock_fprog */
    int32_t limits[LIMITS];              /* resources, -1 for none */
    uint64_t soft[LIMITS], hard[LIMITS];
    const char *path;
    char *const *arguments;
    char *const *environment;
    int32_t seccomp_number, capset_number;
    void *(*evaluate)(void *, void *, void *), *(*call)(void *); /* PyEval_EvalCode, PyObject_CallNoArgs */
    long (*as_long)(void *);             /* PyLong_AsLong */
    int (*enable_collector)(void);       /* PyGC_Enable */
    void *code, *names, *finish;         /* NULL where the program is not Python's; `finish` gives the exit code */
    double tick_s;
    struct accounts *accounts;
    struct request terms;                /* what tmpfs_options and limits were made for; the first two fields do not matter */
    int32_t length, current, next;       /* of the message that was read last; where in it a test's request begins and ends */
    int32_t held;                        /* bytes of replies that have not been sent */
    int64_t held_since_ns;
    int32_t count, descriptors[DESCRIPTORS];
    int32_t pid, pidfd;
    int64_t started_ns;
    char *message, *answer;              /* in memory that no child has: what one test reads and writes is not for the next */
};

static char stack[131072] __attribute__((aligned(16)));

static _Noreturn void fail(const char *what, unsigned long length)
{
    if (write(2, what, length) < 0) {}
    _exit(126);
}
#define STEP(call) do { if ((call) != 0) fail(#call, sizeof #call - 1); } while (0)

static void isolate(const struct plan *plan)
{
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
    STEP(syscall(plan->capset_number, &header, none));
    STEP(syscall(plan->seccomp_number, 1, 4, plan->filter)); /* set filter, allow speculation: as child.py */
    if (write(plan->ready, &one, sizeof one) != sizeof one)
        fail("ready", 5);
    syscall(SYS_close_range, 3U, ~0U, 0U);
}

static int execute(void *argument)
{
    const struct plan *plan = argument;

    isolate(plan);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGXFSZ, SIG_DFL);
    execve(plan->path, plan->arguments, plan->environment);
    fail("cannot execute", 14); /* the program's fault: ready has been said */
}

static long fork_raw(struct plan *plan)
{
    long flags = plan->flags | CLONE_PIDFD | SIGCHLD | (plan->thread_id ? CLONE_CHILD_SETTID : 0);
#if defined(__x86_64__)
    return syscall(SYS_clone, flags, NULL, &plan->pidfd, plan->thread_id, NULL);
#else
    return syscall(SYS_clone, flags, NULL, &plan->pidfd, NULL, plan->thread_id);
#endif
}

static int64_t now_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void pause_1ms(void)
{
    struct timespec time = {0, 1000000};
    nanosleep(&time, NULL);
}

/* The number at the start of a file, or after `key` where one is given; -1 where there is none. */
static int64_t number_in(int descriptor, const char *key)
{
    char text[1024], *at = text;
    ssize_t size = pread(descriptor, text, sizeof text - 1, 0);

    if (size <= 0)
        return -1;
    text[size] = 0;
    if (key != NULL) {
        at = strstr(text, key);
        if (at == NULL)
            return -1;
        at += strlen(key);
    }
    return strtoll(at, NULL, 10);
}

static int64_t total_cpu_ns(const struct accounts *accounts)
{
    int64_t micros = number_in(accounts->cpu, "usage_usec "); /* version 2 */
    return micros >= 0 ? micros * 1000 : number_in(accounts->cpu, NULL);
}

static int64_t reset_peak(const struct accounts *accounts)
{
    if (accounts->resettable && pwrite(accounts->peak, "0", 1, 0) < 0) {}
    return number_in(accounts->peak, NULL);
}

/* Charged pages of files that lie on a disk: whoever reads a file first is charged, and the kernel takes them back when it needs room. */
static int64_t file_bytes(const struct accounts *accounts)
{
    int64_t found = number_in(accounts->stat, "cache "); /* version 1 */
    if (found < 0)
        found = number_in(accounts->stat, "file ");
    return found - number_in(accounts->stat, "shmem ");
}

static void begin(struct accounts *accounts)
{
    if (accounts->peak >= 0) {
        int64_t now = reset_peak(accounts), give_up;
        if (accounts->start_bytes < 0) {
            accounts->start_bytes = accounts->highest = now;
            accounts->start_file_bytes = file_bytes(accounts);
        }
        give_up = now_ns(CLOCK_MONOTONIC) + LINGER_NS;
        while (accounts->resettable && now > accounts->start_bytes + LINGERING_BYTES) {
            if (now_ns(CLOCK_MONOTONIC) > give_up) {
                accounts->start_bytes = now; /* it stays: the supervisor's own, then */
                break;
            }
            pause_1ms();
            now = reset_peak(accounts);
        }
    }
    if (accounts->cpu >= 0) {
        accounts->cpu_ns = total_cpu_ns(accounts);
        accounts->own_ns = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    }
}

static int clean(const struct plan *plan)
{
    int64_t give_up = 0;

    for (;;) {
        char text[SOCKETS_BYTES];
        ssize_t size = pread(plan->unix_sockets, text, sizeof text, 0);
        int64_t now;
        if (size < 0)
            return 0;
        if (size < (ssize_t)sizeof text)
            return 1;
        now = now_ns(CLOCK_MONOTONIC);
        if (give_up == 0)
            give_up = now + SOCKETS_CLOSE_NS;
        if (now > give_up)
            return 0;
        pause_1ms();
    }
}

/* accounting.py: the same */
static uint64_t resident_peak(const struct accounts *accounts, int64_t largest)
{
    struct rusage own;

    getrusage(RUSAGE_SELF, &own);
    return largest > own.ru_maxrss * 1024 && largest > accounts->start_bytes ? largest - accounts->start_bytes : 0;
}

static void end(struct plan *plan, struct reply *reply, int64_t waited_for_ns)
{
    struct accounts *accounts = plan->accounts;
    uint64_t ready;

    if (accounts->peak >= 0) {
        int64_t kills = number_in(accounts->events, "oom_kill "), before = accounts->kills;
        int64_t peak = number_in(accounts->peak, NULL);
        if (kills < 0)
            kills = before; /* it could not be read */
        accounts->kills = kills;
        if (!accounts->resettable) { /* the peak of all tests so far: it tells of this one only where it rose */
            int64_t seen = peak;
            peak = peak > accounts->highest ? peak : 0;
            accounts->highest = seen > accounts->highest ? seen : accounts->highest;
        }
        peak -= accounts->start_bytes;
        if (peak > (int64_t)plan->terms.memory_bytes && kills == before) {
            int64_t read_bytes = file_bytes(accounts) - accounts->start_file_bytes;
            peak -= read_bytes > 0 ? read_bytes : 0;
        }
        reply->memory_bytes = peak > 0 ? peak : 0;
        reply->flags |= kills > before ? OOM : 0;
    }
    if (read(plan->ready, &ready, sizeof ready) != sizeof ready)
        reply->flags |= NOT_READY;
    if (!clean(plan))
        reply->flags |= DIRTY;
    if (accounts->cpu >= 0) {
        int64_t own = now_ns(CLOCK_PROCESS_CPUTIME_ID) - accounts->own_ns;
        int64_t total = total_cpu_ns(accounts) - accounts->cpu_ns - own;
        if (total > waited_for_ns + NOTICEABLE_CPU_NS)
            waited_for_ns = total;
    }
    reply->cpu_s = waited_for_ns / 1e9;
}

static void close_descriptors(struct plan *plan)
{
    for (int index = 0; index < plan->count; index++)
        close(plan->descriptors[index]);
    plan->count = 0;
}

static int receive(struct plan *plan)
{
    char ancillary[CMSG_SPACE(DESCRIPTORS * sizeof(int))] __attribute__((aligned(8)));
    struct iovec part = {plan->message, MESSAGE_BYTES};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = ancillary, .msg_controllen = sizeof ancillary};
    ssize_t length;

    do
        length = recvmsg(plan->control, &header, MSG_CMSG_CLOEXEC);
    while (length < 0 && errno == EINTR);
    if (length < 0)
        return -errno;
    plan->length = length;
    plan->current = plan->next = 0;
    plan->count = 0;
    for (struct cmsghdr *at = CMSG_FIRSTHDR(&header); at != NULL; at = CMSG_NXTHDR(&header, at))
        if (at->cmsg_level == SOL_SOCKET && at->cmsg_type == SCM_RIGHTS) {
            int count = (at->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            memcpy(plan->descriptors, CMSG_DATA(at), count * sizeof(int));
            plan->count = count;
        }
    return 0;
}

static const struct request *current(const struct plan *plan)
{
    return (const void *)(plan->message + plan->current);
}

/* Find the next request of the message; one that comes with descriptors is alone in it. */
static int take(struct plan *plan)
{
    const int left = plan->length - plan->next;

    plan->current = plan->next;
    if (plan->current > 0)
        plan->count = 0; /* the caller closed those of a test that it finished */
    if (left < (int)sizeof(struct request))
        return -EPROTO;
    if (current(plan)->input_bytes == IN_FILES) {
        plan->next = plan->length;
        return plan->current == 0 ? 0 : -EPROTO;
    }
    if (current(plan)->input_bytes > (uint32_t)left - sizeof(struct request))
        return -EPROTO;
    plan->next += sizeof(struct request) + current(plan)->input_bytes;
    return 0;
}

static int is_usual(const struct plan *plan)
{
    const struct request *request = current(plan);
    const size_t varying = sizeof request->index + sizeof request->input_bytes;
    const int has_files = plan->length == sizeof *request && plan->count == 3 && request->input_bytes == IN_FILES;
    const int has_bytes = plan->count == 0 && request->input_bytes <= INPUT_BYTES;
    return (has_files || has_bytes) && memcmp((const char *)request + varying, (const char *)&plan->terms + varying, sizeof *request - varying) == 0;
}

/* Anonymous files for a test whose input came in its request. */
static int open_files(struct plan *plan)
{
    const char *input = plan->message + plan->current + sizeof plan->terms;
    const ssize_t size = plan->terms.input_bytes;

    while (plan->count < 3) {
        int descriptor = syscall(SYS_memfd_create, "data", 1U /* MFD_CLOEXEC */);
        if (descriptor < 0)
            return -errno;
        plan->descriptors[plan->count++] = descriptor;
    }
    if (write(plan->descriptors[0], input, size) != size)
        return -errno;
    return lseek(plan->descriptors[0], 0, SEEK_SET) < 0 ? -errno : 0;
}

/* Send what is held back. */
static int flush(struct plan *plan)
{
    const int size = plan->held;

    plan->held = 0;
    return size > 0 && send(plan->control, plan->answer, size, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Send the first bytes of the answer with the files of a test's output. */
static int send_files(struct plan *plan)
{
    char ancillary[CMSG_SPACE(2 * sizeof(int))] __attribute__((aligned(8)));
    struct iovec part = {plan->answer, sizeof(struct reply)};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = ancillary, .msg_controllen = sizeof ancillary};
    struct cmsghdr *files = CMSG_FIRSTHDR(&header);

    files->cmsg_level = SOL_SOCKET;
    files->cmsg_type = SCM_RIGHTS;
    files->cmsg_len = CMSG_LEN(2 * sizeof(int));
    memcpy(CMSG_DATA(files), plan->descriptors + 1, 2 * sizeof(int));
    return sendmsg(plan->control, &header, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* A reply, with the output of a test whose input came in its request. It is held back while tests that came with it follow soon: each
   message wakes the service, which costs both sides more than what it says. */
static int answer(struct plan *plan, struct reply *reply)
{
    const int inlined = plan->terms.input_bytes != IN_FILES;
    struct stat output = {0}, errors = {0};
    char *at;
    int failed = 0;

    if (inlined && (fstat(plan->descriptors[1], &output) < 0 || fstat(plan->descriptors[2], &errors) < 0))
        return -errno;
    const int fits = output.st_size <= STDOUT_BYTES && errors.st_size <= STDERR_BYTES;
    const int size = sizeof *reply + (fits ? output.st_size + errors.st_size : 0);
    if (!fits || plan->held + size > ANSWER_BYTES)
        failed = flush(plan);
    if (failed)
        return failed;
    reply->stdout_bytes = inlined && fits ? output.st_size : IN_FILES;
    reply->stderr_bytes = inlined && fits ? errors.st_size : IN_FILES;
    at = plan->answer + plan->held;
    memcpy(at, reply, sizeof *reply);
    if (!fits)
        return send_files(plan);
    at += sizeof *reply;
    if (inlined && (pread(plan->descriptors[1], at, output.st_size, 0) != output.st_size
        || pread(plan->descriptors[2], at + output.st_size, errors.st_size, 0) != errors.st_size))
        return -EIO;
    if (plan->held == 0)
        plan->held_since_ns = now_ns(CLOCK_MONOTONIC);
    plan->held += size;
    if (plan->next >= plan->length || now_ns(CLOCK_MONOTONIC) - plan->held_since_ns > HOLD_NS)
        return flush(plan);
    return 0;
}

/* Wait for the end of the test: 1 if it came, 0 if it did not within a tick. */
static int await(struct plan *plan)
{
    struct pollfd watched[2] = {{.fd = plan->pidfd, .events = POLLIN}, {.fd = plan->control, .events = 0}};
    const double wait_s = plan->terms.cpu_s < plan->tick_s ? plan->terms.cpu_s : plan->tick_s;
    int left_ms = wait_s * 1000 < 1 ? 1 : (int)(wait_s * 1000);

    for (;;) {
        const int step_ms = plan->held > 0 && left_ms > HOLD_NS / 1000000 ? HOLD_NS / 1000000 : left_ms;
        const int ready = poll(watched, 2, step_ms);
        int failed;
        if (ready < 0 && errno == EINTR)
            continue;
        if (watched[1].revents)
            _exit(0); /* nobody is left to report to */
        if (ready != 0)
            return ready < 0 ? -errno : 1;
        failed = flush(plan);
        if (failed)
            return failed;
        left_ms -= step_ms;
        if (left_ms <= 0)
            return 0;
    }
}

/* One test, from its request to its reply. */
static int run(struct plan *plan)
{
    struct reply reply = {.index = plan->terms.index, .slowdown = 1.0};
    struct rusage usage;
    int status, ended, failed;

    failed = plan->terms.input_bytes == IN_FILES ? 0 : open_files(plan);
    if (failed)
        return failed;
    begin(plan->accounts);
    plan->started_ns = now_ns(CLOCK_MONOTONIC);
    if (plan->execute)
        plan->pid = clone(execute, stack + sizeof stack, (int)plan->flags | CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, plan, &plan->pidfd);
    else
        plan->pid = fork_raw(plan);
    if (plan->pid < 0)
        return -errno;
    if (plan->pid == 0) {
        isolate(plan);
        if (plan->code != NULL) {
            plan->enable_collector();
            void *status = plan->evaluate(plan->code, plan->names, plan->names);
            if (status != NULL)
                status = plan->call(plan->finish);
            if (status != NULL) {
                int code = plan->as_long(status);
                fflush(NULL);
                _exit(code);
            }
        }
        return CHILD; /* with the interpreter's error set where the program raised one */
    }
    ended = await(plan);
    if (ended <= 0)
        return ended < 0 ? ended : RUNNING;
    if (wait4(plan->pid, &status, 0, &usage) < 0)
        return -errno;
    reply.status = status;
    close(plan->pidfd);
    reply.wall_s = (now_ns(CLOCK_MONOTONIC) - plan->started_ns) / 1e9;
    if (plan->accounts->peak < 0)
        reply.memory_bytes = resident_peak(plan->accounts, usage.ru_maxrss * 1024);
    end(plan, &reply, (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000LL + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000LL);
    failed = answer(plan, &reply);
    close_descriptors(plan);
    return failed ? failed : REPLIED;
}

/* Run tests until one needs the caller: an outcome, or below 0 the negated errno. `pending`: the request was taken already and its terms
   are prepared. */
int serve(struct plan *plan, int pending)
{
    for (;;) {
        int outcome = 0;
        if (!pending) {
            if (plan->next >= plan->length) {
                outcome = receive(plan);
                if (outcome == 0 && plan->length == 0)
                    return CLOSED;
            }
            if (outcome == 0)
                outcome = take(plan);
            if (outcome < 0)
                return outcome;
            if (!is_usual(plan)) {
                outcome = flush(plan);
                return outcome < 0 ? outcome : UNUSUAL;
            }
        }
        pending = 0;
        memcpy(&plan->terms, current(plan), sizeof plan->terms);
        outcome = run(plan);
        if (outcome != REPLIED)
            return outcome;
    }
}
