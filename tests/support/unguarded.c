/* containai-shim without its guards: stands in for native/guard.c, for tests that must see an attack succeed.
 *
 * Neither AppArmor, no_new_privs, Landlock nor the filter is put on, and core dumps stay possible. The launcher gets the
 * listener that it asks for, but from a process that does nothing: what the agent starts is delivered to nobody.
 */
#define _GNU_SOURCE
#include "shim.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

void confine_apparmor(const char *profile)
{
    (void)profile;
}

void confine_limits(const struct spec *spec)
{
    for (size_t i = 0; i < spec->limit_count; i++)
        if (spec->limits[i].resource != RLIMIT_CORE)
            (void)setrlimit((__rlimit_resource_t)spec->limits[i].resource, &spec->limits[i].value);
}

void confine_landlock(const struct spec *spec)
{
    (void)spec;
}

int confine_seccomp(const struct spec *spec)
{
    struct sock_fprog program = {
        .len = (unsigned short)(spec->filter_bytes / sizeof(struct sock_filter)),
        .filter = (struct sock_filter *)spec->filter,
    };
    int told[2], listener = -1;
    if (!spec->supervised)
        return -1;
    if (pipe(told) != 0)
        fail("pipe");
    long child = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0); /* a descriptor that it makes is ours as well */
    if (child < 0)
        fail("clone");
    if (child == 0) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
            _exit(1);
        listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
        if (write(told[1], &listener, sizeof listener) != sizeof listener)
            _exit(1);
        for (;;)
            pause();
    }
    if (read(told[0], &listener, sizeof listener) != sizeof listener || listener < 0)
        fail("a listener for nobody");
    close(told[0]);
    close(told[1]);
    return listener;
}
