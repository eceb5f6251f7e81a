/* Following a path as the kernel would for the target: in its root, and in /proc with its eyes.
 *
 * The kernel follows most paths for us in one call. Where that call finds nothing, or a link that leads through /proc,
 * the path is walked name by name: /proc/self is another's in the target's /proc, where this process has no number. */
#define _GNU_SOURCE
#include "supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { MOST_LINKS = 40, PROC_ROOT_INODE = 1 }; /* Source: MAXSYMLINKS in namei.h, PROC_ROOT_INO in proc_fs.h of Linux */

struct walk {
    const struct target *target;
    int root, here;
    int in_proc; /* a name was looked up in /proc: that it is not there for us says nothing */
    int links;
    char *next;
    char rest[2 * PATH_MAX + 2];
};

static int open_directory(const char *place)
{
    return open(place, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static int open_at(int folder, const char *path, uint64_t how_to_resolve)
{
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = how_to_resolve | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, folder, path, &how, sizeof how);
}

static void move_to(struct walk *walk, int fd)
{
    if (walk->here != walk->root)
        close(walk->here);
    walk->here = fd;
}

static int is_root(const struct walk *walk)
{
    struct stat here, root;
    return fstat(walk->here, &here) == 0 && fstat(walk->root, &root) == 0 && here.st_dev == root.st_dev &&
           here.st_ino == root.st_ino;
}

/* Put the text of a link before what is left of the path. */
static int take_link(struct walk *walk, int link)
{
    char text[PATH_MAX];
    ssize_t got = readlinkat(link, "", text, sizeof text);
    size_t left = strlen(walk->next);
    if (got <= 0 || (size_t)got >= sizeof text || (size_t)got + left >= sizeof walk->rest) {
        errno = ELOOP;
        return -1;
    }
    memmove(walk->rest + got, walk->next, left + 1);
    memcpy(walk->rest, text, (size_t)got);
    walk->next = walk->rest;
    if (text[0] == '/')
        move_to(walk, walk->root);
    return 0;
}

/* The name in /proc that the target finds under this one. */
static int rename_in_proc(const struct walk *walk, char *name, size_t room)
{
    struct stat here;
    int process = walk->target->process_inside, thread = walk->target->thread_inside;
    if (fstat(walk->here, &here) != 0 || here.st_ino != PROC_ROOT_INODE)
        return 0;
    int self = strcmp(name, "self") == 0, thread_self = strcmp(name, "thread-self") == 0;
    if ((self || thread_self) && (process <= 0 || thread <= 0))
        return -1;
    if (self)
        snprintf(name, room, "%d", process);
    if (thread_self)
        snprintf(name, room, "%d/task/%d", process, thread);
    return 0;
}

/* One name of the path. Returns 0, or -1 with errno. */
static int step(struct walk *walk, char *name, size_t room, int must_be_directory)
{
    struct statfs system;
    struct stat entry;
    if (strcmp(name, ".") == 0)
        return 0;
    if (strcmp(name, "..") == 0 && is_root(walk))
        return 0;
    int proc = fstatfs(walk->here, &system) == 0 && system.f_type == PROC_SUPER_MAGIC;
    walk->in_proc |= proc;
    if (proc && rename_in_proc(walk, name, room) != 0)
        return -1;
    int fd = openat(walk->here, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &entry) != 0)
        goto failed;
    if (S_ISLNK(entry.st_mode)) {
        if (++walk->links > MOST_LINKS) {
            errno = ELOOP;
            goto failed;
        }
        int probe = proc ? open_at(walk->here, name, 0) : -1;
        if (!proc || probe >= 0 || errno != ELOOP) { /* a text, and no door to a file that has no name */
            if (probe >= 0)
                close(probe);
            int taken = take_link(walk, fd);
            close(fd);
            return taken;
        }
        close(fd);
        fd = openat(walk->here, name, O_PATH | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &entry) != 0)
            goto failed;
    }
    if (must_be_directory && !S_ISDIR(entry.st_mode)) {
        errno = ENOTDIR;
        goto failed;
    }
    move_to(walk, fd);
    return 0;
failed:
    if (fd >= 0) {
        int why = errno;
        close(fd);
        errno = why;
    }
    return -1;
}

/* Walk a path from a directory, which is closed. Returns what is there, opened O_PATH, or -1. */
static int walk_path(const struct target *target, int root, int from, const char *path, int *absent)
{
    struct walk walk = {.target = target, .root = root, .here = from};
    walk.next = walk.rest;
    memcpy(walk.rest, path, strlen(path) + 1);
    int failed = 0;
    while (!failed) {
        char name[NAME_MAX + 1];
        walk.next += strspn(walk.next, "/");
        size_t bytes = strcspn(walk.next, "/");
        if (bytes == 0)
            break;
        if (bytes >= sizeof name) {
            errno = ENAMETOOLONG;
            failed = 1;
            break;
        }
        memcpy(name, walk.next, bytes);
        name[bytes] = 0;
        walk.next += bytes;
        failed = step(&walk, name, sizeof name, *walk.next == '/') != 0;
    }
    if (!failed)
        return walk.here == root ? fcntl(root, F_DUPFD_CLOEXEC, 0) : walk.here;
    *absent = !walk.in_proc && (errno == ENOENT || errno == ENOTDIR);
    move_to(&walk, root);
    return -1;
}

/* What a path leads to, opened O_PATH; a relative one begins at the directory that `from` (a name in our /proc) is: that
 * may have no name any more, or one too long to be read. Returns -1 where it cannot be followed; *absent says that
 * nothing is there. */
int follow(const struct target *target, const char *path, const char *from, int *absent)
{
    char place[64];
    int relative = path[0] != '/';
    snprintf(place, sizeof place, "/proc/%d/root", target->thread);
    *absent = 0;
    int start = open_directory(relative ? from : place);
    if (start < 0)
        return -1; /* nothing is known about the path itself */
    int fd = open_at(start, path, relative ? RESOLVE_NO_SYMLINKS : RESOLVE_IN_ROOT);
    if (fd < 0 && (errno == ELOOP || errno == ENOENT || errno == ENOTDIR)) {
        int root = relative ? open_directory(place) : start;
        if (root >= 0)
            fd = walk_path(target, root, start, path, absent);
        else
            close(start);
        start = root;
    }
    if (start >= 0)
        close(start);
    return fd;
}
