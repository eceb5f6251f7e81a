/* The container's first process. What it works with comes to it in one of two ways:
 *
 *   init SPEC_FD CONTROL_FD LEASH_FD [STDIN STDOUT STDERR]   inherited, from an engine that is its ancestor
 *   join SOCKET                                              over a socket of the launcher's, from one that is a daemon
 *
 * The last three are the agent's streams, where it does not get a terminal of its own; this process
 * uses none of them.
 *
 *   1. read the specification; make the directories and files that are the agent's own
 *   2. make what the launcher needs from inside: listening sockets, a terminal, what the preparation prints to
 *   3. put the guards on: AppArmor, limits, no_new_privs, Landlock, seccomp
 *   4. hand the descriptors over; the kernel adds this process's id
 *   5. wait for the launcher's word, given after it has read the guards back from the kernel;
 *      end of file instead means that it refused or died. Before it, the launcher may have the preparation run:
 *      the container's own git, of which nothing is left when the agent begins
 *   6. run the agent
 */
#define _GNU_SOURCE
#include "shim.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

static int listen_on(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 256) != 0)
        fail("listening inside the container");
    return fd;
}

static int open_terminal(int *slave)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    char name[64];
    if (master < 0 || unlockpt(master) != 0 || ptsname_r(master, name, sizeof name) != 0)
        fail("terminal");
    *slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (*slave < 0)
        fail("terminal");
    return master;
}

static void hand_over(int control, const int *fds, size_t count)
{
    char word[1] = {'R'};
    struct iovec part = {.iov_base = word, .iov_len = sizeof word};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(MAX_HANDED * sizeof(int))];
    } held;
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    memset(&held, 0, sizeof held);
    if (count > 0) {
        message.msg_control = held.bytes;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    }
    if (sendmsg(control, &message, MSG_NOSIGNAL) != sizeof word)
        fail("handing over");
    for (size_t i = 0; i < count; i++)
        close(fds[i]);
}

static char hear_word(int control)
{
    char word;
    ssize_t got;
    do
        got = read(control, &word, 1);
    while (got < 0 && errno == EINTR);
    return got == 1 ? word : '\0';
}

/* G: run the agent. P before it, once: run the preparation. */
static void await_word(const struct spec *spec, int control, int output)
{
    char word = hear_word(control);
    /* Only now: the launcher, if it is an ordinary user, can read back only a dumpable process. */
    if (prctl(PR_SET_DUMPABLE, 0) != 0)
        fail("prctl");
    if (word == 'P' && output >= 0) {
        run_preparation(spec, control, output);
        word = hear_word(control);
    }
    if (word != 'G')
        _exit(EXIT_REFUSED);
}

static _Noreturn void guard_and_run(int control, int spec_fd, const int *given)
{
    struct spec spec;
    int fds[MAX_HANDED], streams[3], printed[2] = {-1, -1}, terminal_slave = -1, reader = -1;
    size_t count = 0;
    report_to(control);
    read_spec(spec_fd, &spec); /* 1 */
    make_files(&spec);
    for (size_t i = 0; i < spec.port_count; i++) /* 2 */
        fds[count++] = listen_on(spec.ports[i]);
    if (spec.terminal)
        fds[count++] = open_terminal(&terminal_slave);
    else if (!given)
        fail_plain("specification: neither streams nor a terminal");
    for (int i = 0; i < 3; i++)
        streams[i] = spec.terminal ? terminal_slave : given[i];
    if (spec.preparation.args > 0) {
        if (pipe2(printed, O_CLOEXEC) != 0)
            fail("pipe");
        fds[count++] = printed[0];
    }
    confine_apparmor(spec.apparmor); /* 3 */
    confine_limits(&spec);
    confine_landlock(&spec);
    int listener = confine_seccomp(&spec);
    if (listener >= 0)
        fds[count++] = listener;
    if (spec.reads)
        fds[count++] = open_reader(&reader);
    hand_over(control, fds, count);         /* 4 */
    await_word(&spec, control, printed[1]); /* 5 */
    if (spec.reads)
        start_reader(reader);
    run_agent(&spec, control, streams); /* 6 */
}

int init_main(int argc, char **argv)
{
    int streams[3];
    if (argc != 3 && argc != 6)
        fail_plain("usage: containai-shim init SPEC_FD CONTROL_FD LEASH_FD [STDIN STDOUT STDERR]");
    int control = atoi(argv[1]);
    if (fcntl(control, F_SETFD, FD_CLOEXEC) != 0)
        fail("control socket");
    arm_leash(atoi(argv[2]));
    for (int i = 0; argc == 6 && i < 3; i++)
        streams[i] = atoi(argv[3 + i]);
    guard_and_run(control, atoi(argv[0]), argc == 6 ? streams : NULL);
}

/* The specification's descriptor, then the three streams where there are any. */
static size_t take_over(int control, int fds[4])
{
    char word[1];
    struct iovec part = {.iov_base = word, .iov_len = sizeof word};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(4 * sizeof(int))];
    } held;
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    message.msg_control = held.bytes;
    message.msg_controllen = sizeof held.bytes;
    ssize_t got;
    do
        got = recvmsg(control, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    struct cmsghdr *header = got == 1 && word[0] == 'S' ? CMSG_FIRSTHDR(&message) : NULL;
    if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS || message.msg_flags & MSG_CTRUNC)
        fail_plain("the launcher said nothing");
    size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(fds, CMSG_DATA(header), count * sizeof(int));
    return count;
}

int join_main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fds[4];
    if (argc != 1 || strlen(argv[0]) >= sizeof address.sun_path)
        fail_plain("usage: containai-shim join SOCKET");
    memcpy(address.sun_path, argv[0], strlen(argv[0]));
    int control = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (control < 0 || connect(control, (struct sockaddr *)&address, sizeof address) != 0)
        fail(argv[0]);
    size_t count = take_over(control, fds);
    if (count != 1 && count != 4)
        fail_plain("the launcher gave the wrong descriptors");
    guard_and_run(control, fds[0], count == 4 ? fds + 1 : NULL);
}
