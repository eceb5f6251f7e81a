/* The specification: records of one tag byte, a 32-bit little-endian length and that many bytes.
 *
 *   A  an argument          E  a variable, NAME=VALUE     W  working directory
 *   P  a port (u16)         R  a limit (u32, u64, u64)    M  AppArmor profile
 *   H  Landlock: handled file, network and scope rights (3 × u64)
 *   L  Landlock: rights (u64) below a path                F  seccomp filter, compiled
 *   N  the filter has a listener                          T  the agent gets a terminal
 *   I  the launcher has to be read to: see reader.c
 *   a  an argument of the preparation, e  a variable of it
 *   D  a directory to make: mode (u32), path
 *   C  a file to make: mode (u32), length of its path (u32), path, content
 *
 * Written by engine/spec_format.py, which stands on the trusted side.
 */
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_SPEC_BYTES = 8 * 1024 * 1024 };

static char *read_all(int fd, size_t *size)
{
    struct stat found;
    if (fstat(fd, &found) != 0)
        fail("specification");
    if (found.st_size <= 0 || found.st_size > MAX_SPEC_BYTES)
        fail_plain("specification: unexpected size");
    *size = (size_t)found.st_size;
    char *bytes = malloc(*size);
    if (!bytes)
        fail("specification");
    for (size_t got = 0; got < *size;) {
        ssize_t part = pread(fd, bytes + got, *size - got, (off_t)got);
        if (part < 0 && errno == EINTR)
            continue;
        if (part <= 0)
            fail("specification");
        got += (size_t)part;
    }
    close(fd);
    return bytes;
}

static char *text(const char *bytes, size_t length)
{
    char *copy = malloc(length + 1);
    if (!copy)
        fail("specification");
    memcpy(copy, bytes, length);
    copy[length] = '\0';
    if (strlen(copy) != length)
        fail_plain("specification: NUL byte in a text");
    return copy;
}

static void *grow(void *items, size_t count, size_t size)
{
    void *larger = reallocarray(items, count, size);
    if (!larger)
        fail("specification");
    return larger;
}

static uint64_t u64(const char *bytes)
{
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static void need(int held)
{
    if (!held)
        fail_plain("specification: malformed record");
}

static uint32_t u32(const char *bytes)
{
    uint32_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static void take_made(struct spec *spec, int is_directory, const char *bytes, size_t length)
{
    struct made made = {.is_directory = is_directory};
    size_t head = is_directory ? 4 : 8;
    need(length > head);
    size_t path_length = is_directory ? length - head : u32(bytes + 4);
    need(path_length > 0 && path_length <= length - head);
    made.mode = u32(bytes);
    made.path = text(bytes + head, path_length);
    made.content = bytes + head + path_length;
    made.bytes = length - head - path_length;
    spec->made = grow(spec->made, spec->made_count + 1, sizeof *spec->made);
    spec->made[spec->made_count++] = made;
}

static void append(char ***list, size_t *count, char *item)
{
    *list = grow(*list, *count + 2, sizeof **list);
    (*list)[(*count)++] = item;
    (*list)[*count] = NULL;
}

static void take(struct spec *spec, char tag, const char *bytes, size_t length)
{
    struct program *program = tag == 'a' || tag == 'e' ? &spec->preparation : &spec->agent;
    switch (tag) {
    case 'A':
    case 'a':
        append(&program->argv, &program->args, text(bytes, length));
        break;
    case 'E':
    case 'e':
        append(&program->envp, &program->vars, text(bytes, length));
        break;
    case 'W':
        spec->cwd = text(bytes, length);
        break;
    case 'M':
        spec->apparmor = text(bytes, length);
        break;
    case 'P':
        need(length == 2 && spec->port_count < MAX_LISTENERS);
        memcpy(&spec->ports[spec->port_count++], bytes, 2);
        break;
    case 'R':
        need(length == 20);
        spec->limits = grow(spec->limits, spec->limit_count + 1, sizeof *spec->limits);
        spec->limits[spec->limit_count++] = (struct limit){
            (int)u32(bytes), {.rlim_cur = u64(bytes + 4), .rlim_max = u64(bytes + 12)}};
        break;
    case 'H':
        need(length == 24);
        spec->handled_fs = u64(bytes);
        spec->handled_net = u64(bytes + 8);
        spec->scoped = u64(bytes + 16);
        break;
    case 'L':
        need(length > 8);
        spec->rules = grow(spec->rules, spec->rule_count + 1, sizeof *spec->rules);
        spec->rules[spec->rule_count++] = (struct path_rule){u64(bytes), text(bytes + 8, length - 8)};
        break;
    case 'F':
        spec->filter = bytes;
        spec->filter_bytes = length;
        break;
    case 'D':
    case 'C':
        take_made(spec, tag == 'D', bytes, length);
        break;
    case 'N':
        spec->supervised = 1;
        break;
    case 'I':
        spec->reads = 1;
        break;
    case 'T':
        spec->terminal = 1;
        break;
    default:
        fail_plain("specification: unknown record");
    }
}

void read_spec(int fd, struct spec *spec)
{
    size_t size;
    const char *bytes = read_all(fd, &size);
    memset(spec, 0, sizeof *spec);
    for (struct program *each = &spec->agent; each; each = each == &spec->agent ? &spec->preparation : NULL) {
        each->envp = grow(NULL, 1, sizeof *each->envp);
        each->envp[0] = NULL;
    }
    for (size_t at = 0; at < size;) {
        uint32_t length;
        need(size - at >= 5);
        memcpy(&length, bytes + at + 1, 4);
        need(length <= size - at - 5);
        take(spec, bytes[at], bytes + at + 5, length);
        at += 5 + (size_t)length;
    }
    /* Without these a container would start without a guard: refuse instead. */
    if (spec->agent.args == 0 || !spec->cwd || !spec->filter_bytes || !spec->handled_fs || !spec->limit_count)
        fail_plain("specification: incomplete");
}

static void make_file(const struct made *made)
{
    int fd = open(made->path, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, made->mode);
    if (fd < 0)
        fail(made->path);
    for (size_t done = 0; done < made->bytes;) {
        ssize_t part = write(fd, made->content + done, made->bytes - done);
        if (part < 0 && errno != EINTR)
            fail(made->path);
        done += part > 0 ? (size_t)part : 0;
    }
    close(fd);
}

/* In the order of the records, so that a directory stands before what it holds. */
void make_files(const struct spec *spec)
{
    umask(0);
    for (size_t i = 0; i < spec->made_count; i++) {
        const struct made *made = &spec->made[i];
        if (!made->is_directory)
            make_file(made);
        else if (mkdir(made->path, made->mode) != 0 && errno != EEXIST)
            fail(made->path);
    }
}
