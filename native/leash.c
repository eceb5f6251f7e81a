/* leash: a pipe whose other end the launcher alone holds, by which the kernel ends bubblewrap with the launcher.
 *
 * Bubblewrap's outer process makes its other half in new namespaces, which waits for a word and for nothing else. A death
 * signal that kills the outer one before the word leaves the other waiting for ever: it is the first process of a PID
 * namespace, and only a process outside can kill that. So the outer one has no death signal. What it does until our
 * first process runs ends by itself, whatever becomes of the launcher; then that process
 *
 *   1. asks to be killed with the outer one
 *   2. arms the leash: when the launcher's end closes, the kernel kills the outer one
 *   3. looks whether it has closed before
 *
 * Source: fcntl(2), F_SETOWN, F_SETSIG and O_ASYNC; prctl(2), PR_SET_PDEATHSIG.
 */
#define _GNU_SOURCE
#include "shim.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Outside, where the process that will be bubblewrap's outer one has a name, and as the user whom it may signal. */
void ready_leash(int leash)
{
    if (fcntl(leash, F_SETOWN, getpid()) != 0 || fcntl(leash, F_SETSIG, SIGKILL) != 0)
        fail("leash");
}

/* Inside. The descriptor stays open in this process, and reaches no program. */
void arm_leash(int leash)
{
    struct pollfd end = {.fd = leash};
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) /* 1 */
        fail("prctl");
    if (fcntl(leash, F_SETFD, FD_CLOEXEC) != 0 || fcntl(leash, F_SETFL, O_ASYNC) != 0) /* 2 */
        fail("leash");
    if (poll(&end, 1, 0) != 0) /* 3 */
        fail_plain("the launcher is gone");
}
