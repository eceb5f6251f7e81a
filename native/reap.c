/* The life of the first process once a program runs: the preparation, where there is one, then the agent.
 *
 * To the launcher it sends: X and an errno when the program cannot be run; E and a wait status when
 * the agent has ended, Z and one when the preparation has and no process of it is left. From the launcher it takes: K and a signal number. When the launcher is gone
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

static _Noreturn void become(
    const struct program *program, const char *cwd, int terminal, const int streams[3], int error_pipe, const sigset_t *mask)
{
    if (setsid() < 0 || (terminal && ioctl(streams[0], TIOCSCTTY, 0) != 0))
        goto failed;
    for (int fd = 0; fd < 3; fd++)
        if (dup2(streams[fd], fd) < 0)
            goto failed;
    for (int fd = 3; fd < 256; fd++) /* whatever was inherited on the way here */
        if (fd != error_pipe)
            close(fd);
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    if (sigprocmask(SIG_SETMASK, mask, NULL) != 0 || chdir(cwd) != 0)
        goto failed;
    umask(022); /* the launcher's own is stricter */
    environ = program->envp;
    if (prctl(PR_SET_DUMPABLE, 1) == 0)
        execvpe(program->argv[0], program->argv, program->envp);
failed:;
    int reason = errno;
    if (write(error_pipe, &reason, sizeof reason) != sizeof reason)
        _exit(EXIT_REFUSED);
    _exit(reason == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN);
}

/* Reap every child that has ended; true, with its status, when the program was among them. */
static int reap(pid_t program, int *status)
{
    int ended = 0, any;
    for (pid_t pid; (pid = waitpid(-1, &any, WNOHANG)) > 0;)
        if (pid == program) {
            *status = any;
            ended = 1;
        }
    return ended;
}

static void obey(int control, pid_t program)
{
    unsigned char order[2];
    ssize_t got = recv(control, order, sizeof order, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
        _exit(EXIT_REFUSED); /* the launcher is gone */
    if (got == 2 && order[0] == 'K')
        kill(-program, order[1]);
}

/* Run a program to its end; its wait status. Its streams end with it. */
static int run(const struct program *program, const struct spec *spec, int terminal, int control, const int streams[3])
{
    sigset_t watched, before;
    int error_pipe[2], status = 0, reason = 0;
    sigemptyset(&watched);
    sigaddset(&watched, SIGCHLD);
    sigprocmask(SIG_BLOCK, &watched, &before);
    int children = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
    if (children < 0 || pipe2(error_pipe, O_CLOEXEC) != 0)
        fail("starting a program");
    pid_t child = fork();
    if (child < 0)
        fail("starting a program");
    if (child == 0)
        become(program, spec->cwd, terminal, streams, error_pipe[1], &before);
    close(error_pipe[1]);
    if (read(error_pipe[0], &reason, sizeof reason) == sizeof reason)
        tell(control, 'X', reason);
    close(error_pipe[0]);
    for (int i = 0; i < 3; i++)
        close(streams[i]);

    struct pollfd watch[2] = {{.fd = control, .events = POLLIN}, {.fd = children, .events = POLLIN}};
    while (!reap(child, &status)) {
        struct signalfd_siginfo drained;
        if (poll(watch, 2, -1) < 0 && errno != EINTR)
            _exit(EXIT_REFUSED);
        while (read(children, &drained, sizeof drained) > 0) {
        }
        if (watch[0].revents)
            obey(control, child);
    }
    close(children);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return status;
}

void run_preparation(const struct spec *spec, int control, int output)
{
    /* What follows ends every process that this one may signal: in a container, and nowhere else, those are its own. */
    if (getpid() != 1)
        fail_plain("preparation: not the first process of a container");
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC), errors = fcntl(output, F_DUPFD_CLOEXEC, 3);
    if (null < 0 || errors < 0)
        fail("preparation");
    int status = run(&spec->preparation, spec, 0, control, (const int[3]){null, output, errors});
    /* Whatever it left running: the kernel signals all at once, and none that is being forked escapes. */
    kill(-1, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) {
    }
    tell(control, 'Z', status);
}

void run_agent(const struct spec *spec, int control, const int streams[3])
{
    int status = run(&spec->agent, spec, spec->terminal, control, streams);
    tell(control, 'E', status);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}
