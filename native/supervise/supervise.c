/* The loop of the exec supervisor: a library in the launcher's process, which alone may read the agent's memory where
 * Yama restricts ptrace to descendants. It calls nothing of Python's, so no other thread of the launcher holds it up.
 *
 * For each exec: what is asked for is read from the target; the kernel is asked whether the target still waits (else
 * what was read may be another process's); the record is in the spool file; then, and only then, the exec goes on.
 *
 * Trust: the target's memory can change after it was read. A record says what was asked for. A rule that is decided by
 * it (`decide`) is advice that holds against habits, and its records say so. Source: seccomp_unotify(2).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifdef __aarch64__
#define OUR_ARCH AUDIT_ARCH_AARCH64
#else
#define OUR_ARCH AUDIT_ARCH_X86_64
#endif
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS /* Linux 6.6 */
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

enum { PAGE = 4096, MAX_WORDS = 64, MAX_WORD = 1024, MAX_ALL_WORDS = 4096, MAX_RECORD = 4 * PATH_MAX + MAX_ALL_WORDS };
enum { CUT = 1, FOUND = 2, LOOKED = 4, NOEXEC = 8, DENIED = 16, RULE_SHIFT = 16 };

/* Says what the rules of the session make of a record: 0, or the number of the rule that matches, with DENY where it is
 * to be kept; below 0 where nobody can say. `program` is what the path leads to, opened O_PATH, or -1. */
typedef int decide_fn(const void *record, size_t size, int program);
enum { DENY = 1 << 16 };

/* The beginning of a record; read by supervise/spool.py, field by field. */
struct head {
    uint32_t size;
    uint32_t flags;
    uint64_t nanoseconds;
    int32_t pid;
    int32_t parent;
    uint16_t path, cwd, resolved, words; /* lengths in bytes, in this order behind the head; words end with NUL each */
};
_Static_assert(sizeof(struct head) == 32, "supervise/spool.py reads it so");

struct record {
    struct head head;
    char text[MAX_RECORD];
};

/* Up to `length` bytes of the target; fewer where its mapping ends. One piece a page: the call stops at the first piece
 * that it cannot read. */
static size_t read_memory(pid_t pid, uint64_t address, char *into, size_t length)
{
    struct iovec local = {into, length}, remote[PATH_MAX / PAGE + 2];
    size_t pieces = 0, left = length;
    while (left > 0 && pieces < sizeof remote / sizeof *remote) {
        size_t part = PAGE - address % PAGE;
        if (part > left)
            part = left;
        remote[pieces++] = (struct iovec){(void *)(uintptr_t)address, part};
        address += part;
        left -= part;
    }
    ssize_t got = process_vm_readv(pid, &local, 1, remote, pieces, 0);
    return got < 0 ? 0 : (size_t)got;
}

/* A string of the target, without its end; *cut says whether it was longer than `limit`. */
static size_t read_text(pid_t pid, uint64_t address, char *into, size_t limit, int *cut)
{
    size_t first = limit < 256 ? limit : 256;
    size_t got = read_memory(pid, address, into, first);
    char *end = memchr(into, 0, got);
    if (!end && got == 256 && limit > 256) {
        got += read_memory(pid, address + 256, into + 256, limit - 256);
        end = memchr(into, 0, got);
    }
    *cut = !end;
    return end ? (size_t)(end - into) : got;
}

static size_t read_words(pid_t pid, uint64_t address, char *into, uint32_t *flags)
{
    uint64_t pointers[MAX_WORDS + 1];
    size_t count = address ? read_memory(pid, address, (char *)pointers, sizeof pointers) / sizeof *pointers : 0;
    size_t used = 0;
    for (size_t n = 0; n < count && pointers[n]; n++) {
        size_t room = MAX_ALL_WORDS - used - 1;
        if (n == MAX_WORDS || room == 0 || used >= MAX_ALL_WORDS - 1) {
            *flags |= CUT;
            break;
        }
        int cut;
        used += read_text(pid, pointers[n], into + used, room < MAX_WORD ? room : MAX_WORD, &cut);
        into[used++] = 0;
        if (cut)
            *flags |= CUT;
    }
    return used;
}

static size_t read_link(const char *place, char *into)
{
    ssize_t got = readlink(place, into, PATH_MAX);
    return got < 0 ? 0 : (size_t)got;
}

static int32_t read_parent(pid_t pid)
{
    char place[64], text[512];
    snprintf(place, sizeof place, "/proc/%d/stat", pid);
    int fd = open(place, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    if (got <= 0)
        return 0;
    text[got] = 0;
    char *end = strrchr(text, ')'); /* the name may hold anything */
    int parent = 0;
    char state;
    if (!end || sscanf(end + 1, " %c %d", &state, &parent) != 2)
        return 0;
    return parent;
}

/* Open a path below the directory that `from` (a name in /proc) leads to; -1, with errno, where there is none. */
static int open_below(const char *from, const char *path, uint64_t how_to_resolve)
{
    int folder = open(from, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) {
        errno = EACCES; /* nothing is known about the path itself */
        return -1;
    }
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = how_to_resolve | RESOLVE_NO_MAGICLINKS};
    int fd = (int)syscall(SYS_openat2, folder, path, &how, sizeof how);
    int why = errno;
    close(folder);
    errno = why;
    return fd;
}

static int ends_with_deleted(const char *text, size_t bytes)
{
    static const char mark[] = " (deleted)";
    return bytes >= sizeof mark - 1 && memcmp(text + bytes - (sizeof mark - 1), mark, sizeof mark - 1) == 0;
}

/* Whether the mount is noexec: the kernel then fails the exec. */
static void look_at_mount(int fd, uint32_t *flags)
{
    struct statvfs mount;
    if (fstatvfs(fd, &mount) == 0 && mount.f_flag & ST_NOEXEC)
        *flags |= NOEXEC;
}

/* Where the path leads in the target's own root: its real name, and whether a program is there. A path through a magic
 * link (/proc/self/exe) is the target's alone to follow: it stays unresolved. A relative path begins at the directory
 * itself, never at its name: that may be gone, or too long to be read. */
static size_t resolve(pid_t pid, const char *path, size_t path_bytes, const char *from, const char *base,
                      size_t base_bytes, char *into, uint32_t *flags, int *program)
{
    char whole[2 * PATH_MAX + 2], place[64];
    size_t length = 0;
    int relative = path_bytes == 0 || path[0] != '/', fd = -1, why = ELOOP;
    memcpy(whole, path, path_bytes);
    whole[path_bytes] = 0;
    if (relative) {
        fd = open_below(from, whole, RESOLVE_NO_SYMLINKS);
        why = errno;
    }
    if (fd < 0 && why == ELOOP) { /* links on the way are followed in the target's root, where the name can be told */
        if (relative) {
            if (base_bytes == 0 || base_bytes >= PATH_MAX || base[0] != '/' || ends_with_deleted(base, base_bytes))
                return 0;
            memcpy(whole, base, base_bytes);
            length = base_bytes;
            whole[length++] = '/';
        }
        memcpy(whole + length, path, path_bytes);
        whole[length + path_bytes] = 0;
        if (strstr(whole, "/proc/"))
            return 0;
        snprintf(place, sizeof place, "/proc/%d/root", pid);
        fd = open_below(place, whole, RESOLVE_IN_ROOT);
        why = errno;
    }
    if (fd < 0) {
        if (why == ENOENT || why == ENOTDIR)
            *flags |= LOOKED;
        return 0;
    }
    struct stat entry;
    *flags |= LOOKED;
    if (fstat(fd, &entry) == 0 && S_ISREG(entry.st_mode) && entry.st_mode & 0111)
        *flags |= FOUND;
    look_at_mount(fd, flags);
    snprintf(place, sizeof place, "/proc/self/fd/%d", fd);
    *program = fd;
    return read_link(place, into);
}

/* Fill in the record. Returns what the path leads to, opened O_PATH; -1 where that cannot be told. */
static int fill(struct record *record, const struct seccomp_notif *asked)
{
    pid_t pid = (pid_t)asked->pid;
    const __u64 *args = asked->data.args;
    int at = asked->data.nr == SYS_execveat, cut = 0, program = -1;
    struct timespec now;
    char place[64], from[64], base[PATH_MAX];
    struct head *head = &record->head;
    clock_gettime(CLOCK_REALTIME, &now);
    *head = (struct head){.nanoseconds = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec, .pid = pid};
    head->parent = read_parent(pid);
    record->text[0] = 0;
    size_t path = read_text(pid, at ? args[1] : args[0], record->text, PATH_MAX, &cut);
    size_t base_bytes = 0, resolved = 0;
    snprintf(from, sizeof from, "/proc/%d/cwd", pid);
    if (at && path == 0 && args[4] & AT_EMPTY_PATH) {
        snprintf(place, sizeof place, "/proc/%d/fd/%d", pid, (int)args[0]);
        path = read_link(place, record->text);
        head->flags |= FOUND | LOOKED;
        program = open(place, O_PATH | O_CLOEXEC);
        if (program >= 0)
            look_at_mount(program, &head->flags);
    } else if (at && (int)args[0] != AT_FDCWD && record->text[0] != '/') {
        snprintf(from, sizeof from, "/proc/%d/fd/%d", pid, (int)args[0]);
        base_bytes = read_link(from, base);
    }
    char *next = record->text + path;
    snprintf(place, sizeof place, "/proc/%d/cwd", pid);
    size_t cwd = read_link(place, next);
    if (base_bytes == 0) {
        memcpy(base, next, cwd);
        base_bytes = cwd;
    }
    next += cwd;
    if (!(head->flags & LOOKED) && path > 0)
        resolved = resolve(pid, record->text, path, from, base, base_bytes, next, &head->flags, &program);
    else if (head->flags & LOOKED) /* by its descriptor: the name of that is the file's */
        memcpy(next, record->text, resolved = path);
    next += resolved;
    size_t words = read_words(pid, at ? args[2] : args[1], next, &head->flags);
    if (cut)
        head->flags |= CUT;
    head->path = (uint16_t)path;
    head->cwd = (uint16_t)cwd;
    head->resolved = (uint16_t)resolved;
    head->words = (uint16_t)words;
    head->size = (uint32_t)(sizeof *head + path + cwd + resolved + words);
    return program;
}

/* Ask for the rules' word, and put it into the record. Returns the error of the exec, 0 where it may go on, or -1 where
 * nobody can say. */
static int ask(decide_fn *decide, struct record *record, int program)
{
    int said = decide(record, record->head.size, program);
    if (said < 0)
        return -1;
    record->head.flags |= (uint32_t)(said & (DENY - 1)) << RULE_SHIFT;
    if (!(said & DENY))
        return 0;
    record->head.flags |= DENIED;
    return EPERM;
}

static int answer(int listener, uint64_t id, int error)
{
    struct seccomp_notif_resp response = {.id = id, .error = -error};
    response.flags = error ? 0 : SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
}

/* Put a record into the spool, whole or not at all. */
static int keep(int spool, const struct record *record)
{
    ssize_t written = write(spool, record, record->head.size);
    if (written == (ssize_t)record->head.size)
        return 0;
    int why = written < 0 ? errno : ENOSPC;
    struct stat now;
    if (written > 0 && fstat(spool, &now) == 0 && ftruncate(spool, now.st_size - written) != 0)
        why = errno;
    return why;
}

/* Answer the execs of one filter until its last task is gone, or `stop` can be read. `bell` is an eventfd that says that
 * the spool has grown; `decide` is NULL where the session has no rules. Returns 0, or the error for which no record
 * could be kept or no rule be asked: then execs have begun to fail. */
int containai_supervise(int listener, int stop, int spool, int bell, decide_fn *decide)
{
    struct pollfd wait[2] = {{.fd = listener, .events = POLLIN}, {.fd = stop, .events = POLLIN}};
    struct record *record = malloc(sizeof *record);
    if (!record)
        return ENOMEM;
    /* Wake the target on this processor, at once: halves the cost of an exec. */
    (void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
    int why = 0;
    for (;;) {
        if (poll(wait, 2, -1) < 0) {
            if (errno == EINTR)
                continue;
            break;
        }
        if (wait[1].revents || wait[0].revents & (POLLHUP | POLLERR | POLLNVAL))
            break;
        struct seccomp_notif asked;
        memset(&asked, 0, sizeof asked); /* the kernel insists on zeroes */
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked) != 0) {
            if (errno == ENOENT || errno == EINTR) /* the target was killed meanwhile */
                continue;
            break;
        }
        int program = -1, denial = 0;
        if (asked.data.arch == OUR_ARCH)
            program = fill(record, &asked);
        else
            record->head = (struct head){.size = sizeof record->head, .pid = (int32_t)asked.pid};
        int waits = ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &asked.id) == 0;
        if (waits && decide)
            denial = ask(decide, record, program);
        if (program >= 0)
            close(program);
        if (!waits)
            continue;
        if (why == 0)
            why = denial < 0 ? ECANCELED : keep(spool, record);
        uint64_t one = 1;
        if (write(bell, &one, sizeof one) < 0 && why == 0)
            why = errno;
        if (answer(listener, asked.id, why ? EPERM : denial) != 0 && errno != ENOENT && why == 0)
            why = errno;
        if (why)
            break;
    }
    free(record);
    return why;
}
