/* The record of one exec: what is asked for, by whom, and where that leads. */
#define _GNU_SOURCE
#include "supervise.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Source: BINPRM_BUF_SIZE in binfmts.h, exec_binprm() in exec.c of Linux. */
enum { SCRIPT_HEAD = 256, MOST_INTERPRETERS = 5 };

/* The name of what is open here; as long as PATH_MAX at most. */
static size_t name_of(int fd, char *into)
{
    char place[64];
    snprintf(place, sizeof place, "/proc/self/fd/%d", fd);
    return read_link(place, into);
}

/* Whether a program is there; and whether its mount is noexec: the kernel then fails the exec. */
static void look_at(int program, uint32_t *flags)
{
    struct stat entry;
    struct statvfs mount;
    *flags |= LOOKED;
    if (fstat(program, &entry) == 0 && S_ISREG(entry.st_mode) && entry.st_mode & 0111)
        *flags |= FOUND;
    if (fstatvfs(program, &mount) == 0 && mount.f_flag & ST_NOEXEC)
        *flags |= NOEXEC;
}

/* The interpreter that the first line of a script names; 0 where it is none, or cannot be read. */
static size_t interpreter_of(int program, char *into)
{
    char place[64], line[SCRIPT_HEAD + 1];
    struct stat entry;
    if (fstat(program, &entry) != 0 || !S_ISREG(entry.st_mode))
        return 0;
    snprintf(place, sizeof place, "/proc/self/fd/%d", program);
    int fd = open(place, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t got = pread(fd, line, SCRIPT_HEAD, 0);
    close(fd);
    if (got < 3 || line[0] != '#' || line[1] != '!')
        return 0;
    line[got] = 0;
    char *at = line + 2 + strspn(line + 2, " \t");
    size_t bytes = strcspn(at, " \t\n");
    memcpy(into, at, bytes);
    into[bytes] = 0;
    return bytes;
}

/* The programs that a script leads to, one after the other as the kernel goes; each ends with NUL. */
static size_t read_interpreters(const struct target *target, int program, char *into)
{
    char asked[SCRIPT_HEAD + 1], name[PATH_MAX], from[64];
    size_t used = 0;
    int now = program;
    snprintf(from, sizeof from, "/proc/%d/cwd", target->thread);
    for (int level = 0; level < MOST_INTERPRETERS && interpreter_of(now, asked) > 0; level++) {
        int absent, next = follow(target, asked, from, &absent);
        size_t bytes = next < 0 ? 0 : name_of(next, name);
        if (bytes == 0)
            memcpy(name, asked, bytes = strlen(asked));
        if (now != program)
            close(now);
        now = next;
        if (used + bytes + 1 > PATH_MAX)
            break;
        memcpy(into + used, name, bytes);
        used += bytes;
        into[used++] = 0;
        if (next < 0)
            break;
    }
    if (now >= 0 && now != program)
        close(now);
    return used;
}

/* What the path leads to, opened O_PATH, or -1. Where the path is the descriptor itself, that has its file's name. */
static int find_program(struct target *target, const struct seccomp_notif *asked, struct record *record, size_t *path)
{
    const __u64 *args = asked->data.args;
    char from[64];
    uint32_t *flags = &record->head.flags;
    int at = asked->data.nr == SYS_execveat, absent = 0, program;
    *path = read_text(target, at ? args[1] : args[0], record->text, PATH_MAX, flags, PATH_UNREAD);
    if (*flags & PATH_UNREAD || *path == PATH_MAX)
        return -1;
    record->text[*path] = 0;
    if (at && (int)args[0] != AT_FDCWD)
        snprintf(from, sizeof from, "/proc/%d/fd/%d", target->thread, (int)args[0]);
    else
        snprintf(from, sizeof from, "/proc/%d/cwd", target->thread);
    if (at && *path == 0 && (int)args[4] & AT_EMPTY_PATH) {
        *path = read_link(from, record->text);
        program = open(from, O_PATH | O_CLOEXEC);
    } else if (*path == 0) {
        *flags |= LOOKED;
        return -1;
    } else
        program = follow(target, record->text, from, &absent);
    if (program >= 0)
        look_at(program, flags);
    else if (absent)
        *flags |= LOOKED;
    return program;
}

/* Fill in the record. Returns what the path leads to, opened O_PATH; -1 where that cannot be told. */
int fill(struct record *record, const struct seccomp_notif *asked, struct reader *reader, int options)
{
    struct timespec now;
    struct target target;
    char place[64];
    struct head *head = &record->head;
    int at = asked->data.nr == SYS_execveat;
    size_t path = 0, resolved = 0, interpreters = 0;
    clock_gettime(CLOCK_REALTIME, &now);
    know_target(&target, (pid_t)asked->pid, reader);
    *head = (struct head){.mark = MARK,
                          .nanoseconds = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec,
                          .pid = target.process,
                          .thread = target.thread == target.process ? 0 : target.thread,
                          .parent = target.parent};
    int program = find_program(&target, asked, record, &path);
    char *next = record->text + path;
    snprintf(place, sizeof place, "/proc/%d/cwd", target.thread);
    size_t cwd = read_link(place, next);
    next += cwd;
    if (program >= 0)
        resolved = name_of(program, next);
    next += resolved;
    if (program >= 0 && options & LOOK_AT_INTERPRETERS)
        interpreters = read_interpreters(&target, program, next);
    next += interpreters;
    size_t words = read_words(&target, asked->data.args[at ? 2 : 1], next, &head->flags);
    forget_target(&target);
    head->path = (uint16_t)path;
    head->cwd = (uint16_t)cwd;
    head->resolved = (uint16_t)resolved;
    head->interpreters = (uint16_t)interpreters;
    head->words = (uint16_t)words;
    head->size = (uint32_t)(sizeof *head + path + cwd + resolved + interpreters + words);
    return program;
}
