/* The guards that a process puts on itself, for good. */
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5) /* Linux 5.19 */
#endif

/* Landlock as of ABI 6; the headers of the build machine may be older than the kernel. */
struct ruleset_attr {
    uint64_t handled_access_fs, handled_access_net, scoped;
};
struct path_beneath_attr {
    uint64_t allowed_access;
    int32_t parent_fd;
} __attribute__((packed));
enum { CREATE_RULESET = 444, ADD_RULE = 445, RESTRICT_SELF = 446, RULE_PATH_BENEATH = 1 };

/* Rights that make sense for a file; the kernel refuses the others in a file's rule. */
enum { FILE_RIGHTS = (1 << 0) | (1 << 1) | (1 << 2) | (1 << 14) | (1 << 15) };

void confine_apparmor(const char *profile)
{
    char order[256];
    if (!profile)
        return;
    int length = snprintf(order, sizeof order, "changeprofile %s", profile);
    int fd = open("/proc/self/attr/apparmor/current", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        fd = open("/proc/self/attr/current", O_WRONLY | O_CLOEXEC);
    if (length >= (int)sizeof order || fd < 0 || write(fd, order, (size_t)length) != length)
        fail("AppArmor profile");
    close(fd);
}

void confine_limits(const struct spec *spec)
{
    for (size_t i = 0; i < spec->limit_count; i++) {
        __rlimit_resource_t resource = (__rlimit_resource_t)spec->limits[i].resource;
        struct rlimit wanted = spec->limits[i].value, held;
        if (getrlimit(resource, &held) != 0)
            fail("resource limit");
        if (wanted.rlim_max > held.rlim_max) /* a limit is only ever lowered */
            wanted.rlim_cur = wanted.rlim_max = held.rlim_max;
        if (setrlimit(resource, &wanted) != 0)
            fail("resource limit");
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        fail("no_new_privs");
}

static void allow_path(int ruleset, const struct path_rule *rule)
{
    struct stat found;
    struct path_beneath_attr beneath = {.allowed_access = rule->access};
    beneath.parent_fd = open(rule->path, O_PATH | O_CLOEXEC);
    if (beneath.parent_fd < 0) {
        if (errno == ENOENT)
            return; /* what is not there needs no right */
        fail(rule->path);
    }
    if (fstat(beneath.parent_fd, &found) != 0)
        fail(rule->path);
    if (!S_ISDIR(found.st_mode))
        beneath.allowed_access &= FILE_RIGHTS;
    if (syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, &beneath, 0) != 0)
        fail(rule->path);
    close(beneath.parent_fd);
}

void confine_landlock(const struct spec *spec)
{
    struct ruleset_attr handled = {spec->handled_fs, spec->handled_net, spec->scoped};
    /* An older kernel knows a shorter structure and accepts ours when the rest is zero. */
    int ruleset = (int)syscall(CREATE_RULESET, &handled, sizeof handled, 0);
    if (ruleset < 0)
        fail("Landlock ruleset");
    for (size_t i = 0; i < spec->rule_count; i++)
        allow_path(ruleset, &spec->rules[i]);
    if (syscall(RESTRICT_SELF, ruleset, 0) != 0)
        fail("Landlock");
    close(ruleset);
}

int confine_seccomp(const struct spec *spec)
{
    struct sock_fprog program = {
        .len = (unsigned short)(spec->filter_bytes / sizeof(struct sock_filter)),
        .filter = (struct sock_filter *)spec->filter,
    };
    if (spec->filter_bytes % sizeof(struct sock_filter) != 0 ||
        spec->filter_bytes / sizeof(struct sock_filter) > BPF_MAXINSNS)
        fail_plain("seccomp filter: malformed");
    unsigned long flags = spec->supervised ? SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV : 0;
    long listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
    if (listener < 0)
        fail("seccomp filter");
    return spec->supervised ? (int)listener : -1;
}
