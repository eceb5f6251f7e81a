/* The file that holds the records until they are in the log; bounded, so that who executes much waits for the log, and
 * fills no disk with what is there already. */
#define _GNU_SOURCE
#include "supervise.h"

#include <errno.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

/* Wait until all that was written has been moved. Returns 0, or an error: EPIPE where nothing is moved any more, ECANCELED
 * where the session is over. */
static int wait_for_writer(struct store *store, uint64_t written, int stop)
{
    struct pollfd wait[2] = {{.fd = store->room, .events = POLLIN}, {.fd = stop, .events = POLLIN}};
    while (__atomic_load_n(&store->moved, __ATOMIC_ACQUIRE) != written) {
        uint64_t rung;
        if (__atomic_load_n(&store->failed, __ATOMIC_ACQUIRE))
            return EPIPE;
        if (poll(wait, 2, -1) < 0 && errno != EINTR)
            return errno;
        if (wait[1].revents)
            return ECANCELED;
        /* The value is looked at after the bell was silenced: it is rung behind each change. */
        if (wait[0].revents && read(store->room, &rung, sizeof rung) < 0 && errno != EAGAIN)
            return errno;
        wait[0].revents = 0;
    }
    return 0;
}

/* Put a record into the file, whole or not at all. Returns 0 or an error. */
int keep(struct store *store, const struct record *record, int stop)
{
    struct stat now;
    if (fstat(store->fd, &now) != 0)
        return errno;
    if (now.st_size > 0 && (uint64_t)now.st_size + record->head.size > store->most) {
        uint64_t written = store->begun + (uint64_t)now.st_size;
        int why = wait_for_writer(store, written, stop);
        if (why)
            return why;
        /* In this order: who finds the same beginning before and after it reads has read of one file. */
        if (ftruncate(store->fd, 0) != 0)
            return errno;
        __atomic_store_n(&store->begun, written, __ATOMIC_RELEASE);
        now.st_size = 0;
    }
    ssize_t written = write(store->fd, record, record->head.size);
    int why = written < 0 ? errno : ENOSPC;
    if (written != (ssize_t)record->head.size) {
        if (written > 0 && ftruncate(store->fd, now.st_size) != 0)
            why = errno;
        return why;
    }
    uint64_t one = 1;
    return write(store->bell, &one, sizeof one) < 0 ? errno : 0;
}
