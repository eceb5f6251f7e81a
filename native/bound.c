/* bound: limit what a container can take of what the kernel counts for more than that container.
 *
 *   bound PID TERMINALS [NAME=VALUE]...
 *
 * TERMINALS  how many there can be in the container's /dev/pts
 * NAME       a file of /proc/sys/user, such as max_inotify_instances. It is written in the user namespace of process
 *            PID: the kernel counts there, and in each namespace above it
 *
 * Only who has all capabilities in the container's namespaces can change these again; in the container nobody does.
 * Called before anything of the agent's runs there.
 *
 * Source: user_namespaces(7), namespaces(7); Documentation/filesystems/devpts.rst.
 */
#define _GNU_SOURCE
#include "shim.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

static int open_namespace(const char *pid, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/ns/%s", atol(pid), name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        fail(path);
    return fd;
}

/* Bubblewrap mounts in the user namespace above the container's (--disable-userns): that one owns the mounts. */
static void limit_terminals(int mounts, const char *most)
{
    char options[64];
    int owner = ioctl(mounts, NS_GET_USERNS);
    if (owner < 0 || setns(owner, CLONE_NEWUSER) != 0 || setns(mounts, CLONE_NEWNS) != 0)
        fail("the container's mounts");
    /* The other options as they are: a remount sets all of them. */
    snprintf(options, sizeof options, "ptmxmode=0666,mode=0620,max=%ld", atol(most));
    if (mount("devpts", "/dev/pts", NULL, MS_REMOUNT | MS_NOSUID | MS_NOEXEC | MS_RELATIME, options) != 0)
        fail("/dev/pts");
}

static void write_limit(char *limit)
{
    char file[PATH_MAX], held[32] = {0};
    char *value = strchr(limit, '=');
    if (!value)
        fail_plain("bound: NAME=VALUE expected");
    *value++ = '\0';
    if (snprintf(file, sizeof file, "/proc/sys/user/%s", limit) >= (int)sizeof file)
        fail_plain("bound: name too long");
    int fd = open(file, O_RDWR | O_CLOEXEC);
    if (fd < 0 || write(fd, value, strlen(value)) < 0)
        fail(file);
    if (pread(fd, held, sizeof held - 1, 0) < 0)
        fail(file);
    if (atol(held) != atol(value))
        fail_plain("bound: the kernel holds another value");
    close(fd);
}

int bound_main(int argc, char **argv)
{
    int status;
    if (argc < 2)
        fail_plain("usage: containai-shim bound PID TERMINALS [NAME=VALUE]...");
    int user = open_namespace(argv[0], "user"), mounts = open_namespace(argv[0], "mnt");
    pid_t child = fork(); /* of the two, each leaves namespaces that the other needs */
    if (child == 0) {
        limit_terminals(mounts, argv[1]);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        fail("fork");
    if (status != 0)
        return EXIT_REFUSED; /* it has said why */
    if (argc > 2 && setns(user, CLONE_NEWUSER) != 0)
        fail("the container's user namespace");
    for (int i = 2; i < argc; i++)
        write_limit(argv[i]);
    return 0;
}
