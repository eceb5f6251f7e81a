/* The loop of the exec supervisor: a library in the launcher's process, which alone may read the agent's memory where
 * Yama restricts ptrace to descendants. It calls nothing of Python's, so no other thread of the launcher holds it up.
 *
 * For each exec: what is asked for is read from the target; the kernel is asked whether the target still waits (else
 * what was read may be another process's); the record is in the spool file; then, and only then, the exec goes on.
 * What could not be read does not go on: its record would say nothing.
 *
 * Trust: the target's memory can change after it was read. A record says what was asked for. A rule that is decided by
 * it (`decide`) is advice that holds against habits, and its records say so. Source: seccomp_unotify(2).
 */
#define _GNU_SOURCE
#include "supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __aarch64__
#define OUR_ARCH AUDIT_ARCH_AARCH64
#else
#define OUR_ARCH AUDIT_ARCH_X86_64
#endif
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS /* Linux 6.6 */
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

/* Says what the rules of the session make of a record: 0, or the number of the rule that matches, with DENY where it is
 * to be kept; below 0 where nobody can say. `program` is what the path leads to, opened O_PATH, or -1. */
typedef int decide_fn(const void *record, size_t size, int program);
enum { DENY = 1 << 16 };

/* Ask for the rules' word, and put it into the record. Returns the error of the exec, 0 where it may go on, or -1 where
 * nobody can say. */
static int ask(decide_fn *decide, struct record *record, int program)
{
    int said = decide(record, record->head.size, program);
    if (said < 0)
        return -1;
    record->head.flags |= (uint32_t)(said & (DENY - 1)) << RULE_SHIFT;
    if (!(said & DENY))
        return 0;
    record->head.flags |= DENIED;
    return EPERM;
}

static int answer(int listener, uint64_t id, int error)
{
    struct seccomp_notif_resp response = {.id = id, .error = -error};
    response.flags = error ? 0 : SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response) == 0 || errno == ENOENT ? 0 : errno;
}

/* Flags that are not of an exec: AT_EXECVE_CHECK asks whether one would be allowed, and runs nothing. The answer is what
 * a kernel before 6.14 says, so that who asks knows what to do, and every record is of an exec. */
static int is_no_exec(const struct seccomp_data *data)
{
    return data->arch == OUR_ARCH && data->nr == SYS_execveat &&
           (int)data->args[4] & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW);
}

/* Record one exec and answer it. Returns 0, or the error for which no record could be kept. */
static int handle(int listener, struct store *store, decide_fn *decide, int options, struct reader *reader,
                  struct record *record, const struct seccomp_notif *asked)
{
    int program = -1, denial = 0;
    if (is_no_exec(&asked->data))
        return answer(listener, asked->id, EINVAL);
    if (asked->data.arch == OUR_ARCH)
        program = fill(record, asked, reader, options);
    else
        record->head = (struct head){
            .size = sizeof record->head, .mark = MARK, .pid = (int32_t)asked->pid, .flags = PATH_UNREAD | WORDS_UNREAD};
    int waits = ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &asked->id) == 0;
    if (record->head.flags & (PATH_UNREAD | WORDS_UNREAD))
        denial = EFAULT;
    else if (waits && decide)
        denial = ask(decide, record, program);
    if (program >= 0)
        close(program);
    if (!waits)
        return 0;
    int why = denial < 0 ? ENOTRECOVERABLE : keep(store, record, reader->stop), failed;
    failed = answer(listener, asked->id, why ? EPERM : denial);
    return why ? why : failed;
}

/* Answer the execs of one filter until its last task is gone, or `stop` can be read. `decide` is NULL where the session
 * has no rules. `memory` is the socket of who reads for this process, or -1. Returns 0, or the error for which no record could be kept or no rule be asked: then execs have begun to
 * fail. ENOTRECOVERABLE: the rules; EPIPE: the log; ECANCELED: the session is over. */
int containai_supervise(int listener, int stop, struct store *store, decide_fn *decide, int options, int memory)
{
    struct reader reader = {.fd = memory, .stop = stop};
    struct pollfd wait[2] = {{.fd = listener, .events = POLLIN}, {.fd = stop, .events = POLLIN}};
    struct record *record = malloc(sizeof *record);
    if (!record)
        return ENOMEM;
    /* Wake the target on this processor, at once: halves the cost of an exec. */
    (void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
    int why = 0;
    while (why == 0) {
        if (poll(wait, 2, -1) < 0) {
            if (errno == EINTR)
                continue;
            break;
        }
        if (wait[1].revents || wait[0].revents & (POLLHUP | POLLERR | POLLNVAL))
            break;
        struct seccomp_notif asked;
        memset(&asked, 0, sizeof asked); /* the kernel insists on zeroes */
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked) != 0) {
            if (errno == ENOENT || errno == EINTR) /* the target was killed meanwhile */
                continue;
            break;
        }
        why = handle(listener, store, decide, options, &reader, record, &asked);
    }
    free(record);
    return why;
}
