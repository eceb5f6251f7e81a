/* tether: run a host program that cannot outlive the launcher.
 *
 *   tether --parent PID [--leash FD] [--join FILE]... [--stage-on DIR [--stage SOURCE NAME | --copy SOURCE NAME UID]...]
 *          [--uid N --gid N] -- PROGRAM [ARG]...
 *
 * --leash  for bubblewrap, which must not be killed before its other half has begun: see leash.c. Without it the kernel
 *          kills the program when the launcher's thread that started it ends
 * --join   a cgroup.procs file that the process enters first
 * --stage  (root only) makes SOURCE reachable as DIR/NAME in a private mount namespace, for a
 *          program that will run as a user who cannot walk to SOURCE
 * --copy   (root only) the same for a file that the user may not even read: a copy of his own, in
 *          memory, which ends with the mount namespace
 */
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

static void join_cgroup(const char *procs_file)
{
    int fd = open(procs_file, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "0", 1) != 1)
        fail(procs_file);
    close(fd);
}

static void begin_staging(const char *directory)
{
    if (unshare(CLONE_NEWNS) != 0)
        fail("unshare");
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        fail("making mounts private");
    if (mount("tmpfs", directory, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0711,size=32m") != 0)
        fail(directory);
}

static void stage(const char *directory, const char *source, const char *name)
{
    char target[PATH_MAX];
    struct stat found;
    if (snprintf(target, sizeof target, "%s/%s", directory, name) >= (int)sizeof target)
        fail_plain("stage: path too long");
    if (stat(source, &found) != 0)
        fail(source);
    if (S_ISDIR(found.st_mode)) {
        if (mkdir(target, 0755) != 0)
            fail(target);
    } else {
        int fd = open(target, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
        if (fd < 0)
            fail(target);
        close(fd);
    }
    if (mount(source, target, NULL, MS_BIND | MS_REC, NULL) != 0)
        fail(source);
}

static unsigned long number(const char *text)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno != 0 || *text == '\0' || *end != '\0' || value >= UINT_MAX)
        fail_plain("tether: not a number");
    return value;
}

static void copy(const char *directory, const char *source, const char *name, unsigned long owner)
{
    char target[PATH_MAX], chunk[65536];
    ssize_t got;
    if (snprintf(target, sizeof target, "%s/%s", directory, name) >= (int)sizeof target)
        fail_plain("copy: path too long");
    int from = open(source, O_RDONLY | O_CLOEXEC);
    int to = open(target, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (from < 0 || to < 0 || fchown(to, (uid_t)owner, (gid_t)owner) != 0)
        fail(source);
    while ((got = read(from, chunk, sizeof chunk)) > 0)
        if (write(to, chunk, (size_t)got) != got)
            fail(target);
    if (got < 0)
        fail(source);
    close(from);
    close(to);
}

static void become(unsigned long uid, unsigned long gid)
{
    if (setgroups(0, NULL) != 0 || setresgid((gid_t)gid, (gid_t)gid, (gid_t)gid) != 0 ||
        setresuid((uid_t)uid, (uid_t)uid, (uid_t)uid) != 0)
        fail("changing user");
    if (setresuid(0, 0, 0) == 0)
        fail_plain("tether: root could be regained");
}

int tether_main(int argc, char **argv)
{
    const char *stage_directory = NULL;
    unsigned long uid = 0, gid = 0, parent = 0;
    int at = 0, leash = -1;
    for (; at < argc && strcmp(argv[at], "--") != 0; at++) {
        const char *option = argv[at];
        int left = argc - at - 1;
        if (strcmp(option, "--parent") == 0 && left >= 1)
            parent = number(argv[++at]);
        else if (strcmp(option, "--leash") == 0 && left >= 1)
            leash = (int)number(argv[++at]);
        else if (strcmp(option, "--join") == 0 && left >= 1)
            join_cgroup(argv[++at]);
        else if (strcmp(option, "--stage-on") == 0 && left >= 1)
            begin_staging(stage_directory = argv[++at]);
        else if (strcmp(option, "--stage") == 0 && left >= 2 && stage_directory) {
            stage(stage_directory, argv[at + 1], argv[at + 2]);
            at += 2;
        } else if (strcmp(option, "--copy") == 0 && left >= 3 && stage_directory) {
            copy(stage_directory, argv[at + 1], argv[at + 2], number(argv[at + 3]));
            at += 3;
        } else if (strcmp(option, "--uid") == 0 && left >= 1)
            uid = number(argv[++at]);
        else if (strcmp(option, "--gid") == 0 && left >= 1)
            gid = number(argv[++at]);
        else
            fail_plain("tether: unknown option");
    }
    if (at + 1 >= argc || parent == 0)
        fail_plain("tether: --parent PID ... -- PROGRAM [ARG]... expected");
    if (uid != 0)
        become(uid, gid);
    (void)setsid(); /* a Ctrl-C is the launcher's to handle, not every child's */
    if (leash >= 0)
        ready_leash(leash);
    /* After the change of user, which would clear it. The parent may have died before. */
    else if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        fail("prctl");
    if ((unsigned long)getppid() != parent)
        fail_plain("tether: the launcher is gone");
    execvp(argv[at + 1], argv + at + 1);
    fail(argv[at + 1]);
}
