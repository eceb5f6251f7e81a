/* init SPEC_FD CONTROL_FD [STDIN STDOUT STDERR]: the container's first process. The last three are
 * the agent's streams, where it does not get a terminal of its own; this process uses none of them.
 *
 *   1. read the specification
 *   2. make what the launcher needs from inside: listening sockets, a terminal
 *   3. put the guards on: AppArmor, limits, no_new_privs, Landlock, seccomp
 *   4. hand the descriptors over; the kernel adds this process's id
 *   5. wait for the launcher's word, given after it has read the guards back from the kernel;
 *      end of file instead means that it refused or died
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
        char bytes[CMSG_SPACE((MAX_LISTENERS + 2) * sizeof(int))];
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

static void await_word(int control)
{
    char word;
    ssize_t got;
    do
        got = read(control, &word, 1);
    while (got < 0 && errno == EINTR);
    if (got != 1 || word != 'G')
        _exit(EXIT_REFUSED);
}

int init_main(int argc, char **argv)
{
    struct spec spec;
    int fds[MAX_LISTENERS + 2], streams[3], terminal_slave = -1;
    size_t count = 0;
    if (argc != 2 && argc != 5)
        fail_plain("usage: containai-shim init SPEC_FD CONTROL_FD [STDIN STDOUT STDERR]");
    int control = atoi(argv[1]);
    if (fcntl(control, F_SETFD, FD_CLOEXEC) != 0)
        fail("control socket");
    report_to(control);
    read_spec(atoi(argv[0]), &spec); /* 1 */
    for (size_t i = 0; i < spec.port_count; i++) /* 2 */
        fds[count++] = listen_on(spec.ports[i]);
    if (spec.terminal)
        fds[count++] = open_terminal(&terminal_slave);
    else if (argc != 5)
        fail_plain("specification: neither streams nor a terminal");
    for (int i = 0; i < 3; i++)
        streams[i] = spec.terminal ? terminal_slave : atoi(argv[2 + i]);
    confine_apparmor(spec.apparmor); /* 3 */
    confine_limits(&spec);
    confine_landlock(&spec);
    int listener = confine_seccomp(&spec);
    if (listener >= 0)
        fds[count++] = listener;
    hand_over(control, fds, count); /* 4 */
    await_word(control);            /* 5 */
    /* Only now: the launcher, if it is an ordinary user, can read back only a dumpable process. */
    if (prctl(PR_SET_DUMPABLE, 0) != 0)
        fail("prctl");
    run_agent(&spec, control, streams); /* 6 */
}
