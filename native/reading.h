/* What the launcher's supervisor asks a container's first process, and is answered: the memory of one of its processes.
 * Both ends are ours, built at once, on one machine. */
#ifndef CONTAINAI_READING_H
#define CONTAINAI_READING_H

#include <stdint.h>

enum { MOST_READ = 4096 };

struct reading_request {
    uint64_t number; /* which the answer repeats */
    uint64_t address;
    int32_t thread; /* as the container numbers it */
    uint32_t length;
};
_Static_assert(sizeof(struct reading_request) == 24, "no bytes of the stack go out");

/* Sent as long as it is filled: `got` bytes of memory behind the head. */
struct reading_answer {
    uint64_t number;
    uint64_t got;
    char memory[MOST_READ];
};
enum { ANSWER_HEAD = 16 };

#endif
