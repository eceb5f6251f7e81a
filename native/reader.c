/* Reads the memory of the container's processes for the launcher, where that may not do so itself.
 *
 * Yama lets a process read its descendants alone. In a container that a daemon makes the launcher is nobody's ancestor,
 * but the first process is everybody's. So it keeps a thread that answers the launcher's supervisor: so many bytes, at
 * this address, of that thread. A thread and no child, which would be no ancestor; and not the loop in reap.c, which
 * has to go on where a page is slow to come.
 *
 * Trust: who asks is the launcher, the only one who holds the other end of the socket. What is read is the agent's: it
 * is handed on, and nothing here depends on it. The kernel decides what this process may read.
 *
 * Each request opens the memory anew, since what is open belongs to a memory and not to a number: another process
 * could have the number by now. That it is still the one that waits, the supervisor asks the kernel afterwards.
 */
#define _GNU_SOURCE
#include "reading.h"
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STACK_BYTES = 64 * 1024 };

/* As far as it can be read: the kernel goes page by page, and says how far it came. */
static size_t read_memory(const struct reading_request *request, char *into)
{
    char place[64];
    size_t all = 0, length = request->length < MOST_READ ? request->length : MOST_READ;
    if (request->thread <= 0)
        return 0;
    snprintf(place, sizeof place, "/proc/%d/mem", request->thread);
    int memory = open(place, O_RDONLY | O_CLOEXEC);
    while (memory >= 0 && all < length) {
        ssize_t got = pread(memory, into + all, length - all, (off_t)(request->address + all));
        if (got <= 0)
            break;
        all += (size_t)got;
    }
    if (memory >= 0)
        close(memory);
    return all;
}

static void *answer_requests(void *held)
{
    static struct reading_answer answer;
    int launcher = *(int *)held;
    for (;;) {
        struct reading_request request;
        ssize_t got = recv(launcher, &request, sizeof request, MSG_TRUNC); /* its whole length */
        if (got < 0 && errno == EINTR)
            continue;
        if (got != sizeof request)
            break; /* the launcher needs no more; that it is gone the control socket says */
        answer.number = request.number;
        answer.got = read_memory(&request, answer.memory);
        if (send(launcher, &answer, ANSWER_HEAD + answer.got, MSG_NOSIGNAL) < 0)
            break;
    }
    close(launcher); /* who still waited for an answer knows */
    return NULL;
}

int open_reader(int *ours)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        fail("socket of the reader");
    *ours = ends[0];
    return ends[1];
}

void start_reader(int socket)
{
    static int held;
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    held = socket;
    /* It takes no signal: that a child has ended is told to who waits for it. */
    sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0 || pthread_attr_init(&attributes) != 0 ||
        pthread_attr_setstacksize(&attributes, STACK_BYTES) != 0 ||
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) != 0 ||
        pthread_create(&thread, &attributes, answer_requests, &held) != 0 ||
        pthread_sigmask(SIG_SETMASK, &before, NULL) != 0)
        fail_plain("the reader's thread");
}
