/* Reading the process that waits.
 *
 * What the kernel will read must have been read here, or the record says that it was not. process_vm_readv is quick, but
 * it heeds the protection that a mapping asked for, where the processor and so the kernel do not: x86 has no page that
 * can be written and not read. /proc/PID/mem reads those too. It is tried wherever the first way stops before the end. */
#define _GNU_SOURCE
#include "supervise.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PAGE = 4096, FIRST_PIECE = 256 };

/* A number of a line of /proc/PID/status: the last in it, which is the innermost namespace's. */
static pid_t number_of(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    char *end;
    pid_t number = 0;
    if (!at)
        return 0;
    for (at += strlen(name); *at == '\t'; at = end) {
        number = (pid_t)strtol(at + 1, &end, 10);
        if (end == at + 1)
            return 0;
    }
    return *at == '\n' ? number : 0;
}

void know_target(struct target *target, pid_t thread, struct reader *reader)
{
    char place[64], text[8192];
    *target = (struct target){.thread = thread, .process = thread, .memory = -1, .reader = reader};
    snprintf(place, sizeof place, "/proc/%d/status", thread);
    int fd = open(place, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (got <= 0)
        return;
    text[got] = 0; /* the name comes first, and the kernel writes a line feed in it as \n */
    pid_t process = number_of(text, "\nTgid:");
    if (process > 0)
        target->process = process;
    target->parent = number_of(text, "\nPPid:");
    target->process_inside = number_of(text, "\nNStgid:");
    target->thread_inside = number_of(text, "\nNSpid:");
}

void forget_target(struct target *target)
{
    if (target->memory >= 0)
        close(target->memory);
    target->memory = -1;
}

/* Up to `length` bytes, the quick way. One piece a page: the call stops at the first piece that it cannot read. */
static size_t read_quickly(struct target *target, uint64_t address, char *into, size_t length)
{
    if (target->reader->fd >= 0)
        return read_inside(target->reader, target->thread_inside, address, into, length);
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
    ssize_t got = process_vm_readv(target->thread, &local, 1, remote, pieces, 0);
    return got < 0 ? 0 : (size_t)got;
}

/* The same, of memory that the process itself may not be allowed to read. */
static size_t read_anyway(struct target *target, uint64_t address, char *into, size_t length)
{
    char place[64];
    size_t all = 0;
    if (target->reader->fd >= 0)
        return 0; /* the first way was no other */
    if (target->memory < 0) {
        snprintf(place, sizeof place, "/proc/%d/mem", target->thread);
        target->memory = open(place, O_RDONLY | O_CLOEXEC);
    }
    while (target->memory >= 0 && all < length) {
        size_t part = PAGE - (address + all) % PAGE;
        if (part > length - all)
            part = length - all;
        ssize_t got = pread(target->memory, into + all, part, (off_t)(address + all));
        if (got <= 0)
            break;
        all += (size_t)got;
    }
    return all;
}

/* A string, without its end. CUT where it is longer than `limit`, `unread` where its memory ends before it does. */
size_t read_text(struct target *target, uint64_t address, char *into, size_t limit, uint32_t *flags, uint32_t unread)
{
    size_t got = 0;
    while (got < limit) {
        size_t wanted = got == 0 && limit > FIRST_PIECE ? FIRST_PIECE : limit - got;
        size_t more = read_quickly(target, address + got, into + got, wanted);
        char *end = memchr(into + got, 0, more);
        if (!end && more < wanted) {
            size_t rest = read_anyway(target, address + got + more, into + got + more, wanted - more);
            end = memchr(into + got + more, 0, rest);
            more += rest;
        }
        if (end)
            return (size_t)(end - into);
        got += more;
        if (more < wanted) {
            *flags |= unread;
            return got;
        }
    }
    *flags |= CUT;
    return got;
}

/* How many of the first `most` words there are; WORDS_UNREAD where neither their end nor so many could be read. */
static int read_pointers(struct target *target, uint64_t address, uint64_t *pointers, size_t most, uint32_t *flags)
{
    size_t wanted = most * sizeof *pointers, got = read_quickly(target, address, (char *)pointers, wanted);
    for (int anyway = 0;; anyway = 1) {
        for (size_t n = 0; n < got / sizeof *pointers; n++)
            if (!pointers[n])
                return (int)n;
        if (got == wanted)
            return (int)most;
        if (anyway) {
            *flags |= WORDS_UNREAD;
            return (int)(got / sizeof *pointers);
        }
        got += read_anyway(target, address + got, (char *)pointers + got, wanted - got);
    }
}

size_t read_words(struct target *target, uint64_t address, char *into, uint32_t *flags)
{
    uint64_t pointers[MAX_WORDS + 1];
    size_t used = 0;
    int count = address ? read_pointers(target, address, pointers, MAX_WORDS + 1, flags) : 0;
    for (int n = 0; n < count; n++) {
        size_t room = MAX_ALL_WORDS - used;
        if (n == MAX_WORDS || room < 2) {
            *flags |= CUT;
            break;
        }
        room--; /* for the end */
        used += read_text(target, pointers[n], into + used, room < MAX_WORD ? room : MAX_WORD, flags, WORDS_UNREAD);
        into[used++] = 0;
    }
    return used;
}

size_t read_link(const char *place, char *into)
{
    ssize_t got = readlink(place, into, PATH_MAX);
    return got < 0 ? 0 : (size_t)got;
}
