/* bound: limit what a container can take of what the kernel counts by user, for a session that runs as its launcher's.
 *
 *   bound PID NAME=VALUE...
 *
 * Each NAME is a file of /proc/sys/user, such as max_inotify_instances. It is written in the user namespace of process
 * PID: the kernel counts there, and in each namespace above it. Only who holds CAP_SYS_RESOURCE in the namespace can
 * change it again; in the container nobody does.
 *
 * Source: user_namespaces(7), namespaces(7): the limits of /proc/sys/user are those of the opener's user namespace.
 */
#define _GNU_SOURCE
#include "shim.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
    char path[64];
    if (argc < 2)
        fail_plain("usage: containai-shim bound PID NAME=VALUE...");
    snprintf(path, sizeof path, "/proc/%ld/ns/user", atol(argv[0]));
    int namespace = open(path, O_RDONLY | O_CLOEXEC);
    if (namespace < 0 || setns(namespace, CLONE_NEWUSER) != 0)
        fail(path);
    for (int i = 1; i < argc; i++)
        write_limit(argv[i]);
    return 0;
}
