/* The exec supervisor's loop, in parts: reading the target, following its path, the record, the spool, the answers. */
#ifndef CONTAINAI_SUPERVISE_H
#define CONTAINAI_SUPERVISE_H

#include <linux/limits.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { MAX_WORDS = 64, MAX_WORD = 1024, MAX_ALL_WORDS = 4096, MAX_RECORD = 5 * PATH_MAX + MAX_ALL_WORDS };
/* Flags of a record. PATH_UNREAD and WORDS_UNREAD: the memory that holds them could not be read to its end. */
enum { CUT = 1, FOUND = 2, LOOKED = 4, NOEXEC = 8, DENIED = 16, PATH_UNREAD = 32, WORDS_UNREAD = 64, RULE_SHIFT = 16 };

/* The beginning of a record; read by supervise/spool.py, field by field. */
struct head {
    uint32_t size;
    uint32_t flags;
    uint64_t nanoseconds;
    int32_t pid;    /* the process; `thread` is the thread of it that asks, where that is not its first */
    int32_t thread;
    int32_t parent;
    /* Lengths in bytes, in this order behind the head; of the last two, each text ends with NUL. */
    uint16_t path, cwd, resolved, interpreters, words, mark;
};
_Static_assert(sizeof(struct head) == 40, "supervise/spool.py reads it so");

enum { MARK = 0x5845 }; /* that it is a record, of this form */

struct record {
    struct head head;
    char text[MAX_RECORD];
};

/* reading.c: who reads memory for this process, where the kernel does not let it: the container's first process. */
struct reader {
    int fd;   /* a socket of it, or -1: it is read here */
    int stop; /* readable: nothing is waited for any more */
    uint64_t asked; /* the number of the last request */
    int failed;     /* it did not answer */
};
size_t read_inside(struct reader *reader, pid_t thread, uint64_t address, char *into, size_t length);

/* target.c: the process that waits. `thread` asks; what is not known is 0. The numbers `inside` are the container's. */
struct target {
    pid_t thread, process, parent, thread_inside, process_inside;
    int memory; /* /proc/PID/mem, where it was needed; or -1 */
    struct reader *reader;
};
void know_target(struct target *target, pid_t thread, struct reader *reader);
void forget_target(struct target *target);
size_t read_text(struct target *target, uint64_t address, char *into, size_t limit, uint32_t *flags, uint32_t unread);
size_t read_words(struct target *target, uint64_t address, char *into, uint32_t *flags);
size_t read_link(const char *place, char *into);

/* resolve.c: where a path leads for the target. */
int follow(const struct target *target, const char *path, const char *from, int *absent);

/* record.c: what is asked for. */
enum { LOOK_AT_INTERPRETERS = 1 };
int fill(struct record *record, const struct seccomp_notif *asked, struct reader *reader, int options);

/* store.c: the file of records. What Python shares with the loop: supervise/loop.py, field by field. */
struct store {
    uint64_t most;  /* bytes: a file of more is begun anew, when all in it has been moved into the log */
    uint64_t begun; /* the number of the file's first byte, counted from the session's first */
    uint64_t moved; /* the number of the first byte that is not in the log yet; Python's to write */
    int32_t fd;
    int32_t bell;   /* an eventfd: there is more in the file */
    int32_t room;   /* an eventfd, not blocking: `moved` or `failed` is another */
    int32_t failed; /* nothing will be moved any more; Python's to write */
};
_Static_assert(sizeof(struct store) == 40, "supervise/loop.py makes it so");
int keep(struct store *store, const struct record *record, int stop);

#endif
