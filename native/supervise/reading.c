/* Reading the target's memory through the container's first process (native/reader.c), where Yama keeps it from this one.
 *
 * Trust: that process is ours, undumpable and of a static program, and what it sends is what the kernel gave it. Its
 * answers are bounded all the same, and a wait for one ends with the session. */
#define _GNU_SOURCE
#include "../reading.h"
#include "supervise.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

/* One answer to the last request; below 0 where none will come. */
static ssize_t await_answer(const struct reader *reader, char *into, size_t length)
{
    static _Thread_local struct reading_answer answer;
    struct pollfd wait[2] = {{.fd = reader->fd, .events = POLLIN}, {.fd = reader->stop, .events = POLLIN}};
    for (;;) {
        if (poll(wait, 2, -1) < 0 && errno != EINTR)
            return -1;
        if (wait[1].revents)
            return -1;
        if (!wait[0].revents)
            continue;
        ssize_t got = recv(reader->fd, &answer, sizeof answer, MSG_DONTWAIT);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got < ANSWER_HEAD || answer.got != (uint64_t)got - ANSWER_HEAD || answer.got > length)
            return -1;
        if (answer.number != reader->asked)
            return -1;
        memcpy(into, answer.memory, answer.got);
        return (ssize_t)answer.got;
    }
}

/* Up to `length` bytes, as far as they can be read. Who did not answer once is not asked again: nothing more is read. */
size_t read_inside(struct reader *reader, pid_t thread, uint64_t address, char *into, size_t length)
{
    size_t all = 0;
    while (all < length && !reader->failed) {
        size_t part = length - all < MOST_READ ? length - all : MOST_READ;
        struct reading_request request = {
            .number = ++reader->asked, .address = address + all, .thread = thread, .length = (uint32_t)part};
        ssize_t got = -1;
        if (send(reader->fd, &request, sizeof request, MSG_NOSIGNAL) == sizeof request)
            got = await_answer(reader, into + all, part);
        if (got < 0)
            reader->failed = 1;
        else
            all += (size_t)got;
        if (got != (ssize_t)part)
            break;
    }
    return all;
}
