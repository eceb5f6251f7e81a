/* The life of the first process once the agent runs.
 *
 * To the launcher it sends: X and an errno when the program cannot be run; E and a wait status when
 * the agent has ended. From the launcher it takes: K and a signal number. When the launcher is gone
 * the container ends: this process exits, and the kernel ends every other one.
 */
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void tell(int control, char tag, int value)
{
    char message[5] = {tag};
    memcpy(message + 1, &value, sizeof value);
    if (send(control, message, sizeof message, MSG_NOSIGNAL) < 0)
        _exit(EXIT_REFUSED);
}

static _Noreturn void become_agent(const struct spec *spec, const int streams[3], int error_pipe, const sigset_t *mask)
{
    if (setsid() < 0 || (spec->terminal && ioctl(streams[0], TIOCSCTTY, 0) != 0))
        goto failed;
    for (int fd = 0; fd < 3; fd++)
        if (dup2(streams[fd], fd) < 0)
            goto failed;
    for (int fd = 3; fd < 256; fd++) /* whatever was inherited on the way here */
        if (fd != error_pipe)
            close(fd);
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    if (sigprocmask(SIG_SETMASK, mask, NULL) != 0 || chdir(spec->cwd) != 0)
        goto failed;
    umask(022); /* the launcher's own is stricter */
    environ = spec->envp;
    if (prctl(PR_SET_DUMPABLE, 1) == 0)
        execvpe(spec->argv[0], spec->argv, spec->envp);
failed:;
    int reason = errno;
    if (write(error_pipe, &reason, sizeof reason) != sizeof reason)
        _exit(EXIT_REFUSED);
    _exit(reason == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN);
}

/* Reap every child that has ended; true, with its status, when the agent was among them. */
static int reap(pid_t agent, int *status)
{
    int ended = 0, any;
    for (pid_t pid; (pid = waitpid(-1, &any, WNOHANG)) > 0;)
        if (pid == agent) {
            *status = any;
            ended = 1;
        }
    return ended;
}

static void obey(int control, pid_t agent)
{
    unsigned char order[2];
    ssize_t got = recv(control, order, sizeof order, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
        _exit(EXIT_REFUSED); /* the launcher is gone */
    if (got == 2 && order[0] == 'K')
        kill(-agent, order[1]);
}

void run_agent(const struct spec *spec, int control, const int streams[3])
{
    sigset_t watched, before;
    int error_pipe[2], status = 0, reason = 0;
    sigemptyset(&watched);
    sigaddset(&watched, SIGCHLD);
    sigprocmask(SIG_BLOCK, &watched, &before);
    int children = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
    if (children < 0 || pipe2(error_pipe, O_CLOEXEC) != 0)
        fail("starting the agent");
    pid_t agent = fork();
    if (agent < 0)
        fail("starting the agent");
    if (agent == 0)
        become_agent(spec, streams, error_pipe[1], &before);
    close(error_pipe[1]);
    if (read(error_pipe[0], &reason, sizeof reason) == sizeof reason)
        tell(control, 'X', reason);
    close(error_pipe[0]);
    for (int i = 0; i < 3; i++) /* the agent's streams end with the agent */
        close(streams[i]);

    struct pollfd watch[2] = {{.fd = control, .events = POLLIN}, {.fd = children, .events = POLLIN}};
    while (!reap(agent, &status)) {
        struct signalfd_siginfo drained;
        if (poll(watch, 2, -1) < 0 && errno != EINTR)
            _exit(EXIT_REFUSED);
        while (read(children, &drained, sizeof drained) > 0) {
        }
        if (watch[0].revents)
            obey(control, agent);
    }
    tell(control, 'E', status);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}
