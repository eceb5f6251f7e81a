/* Asks a loaded seccomp filter about many system calls, without one of them being carried out.
 *
 *   seccomp_prober filter FILE   loads FILE after an older filter of ours, the oracle, which answers every call with
 *                                the error ORACLE. Of two filters the stricter action wins, and of two errors the
 *                                newer filter's: so a call that FILE refuses shows FILE's error, and one that FILE
 *                                allows (or hands to a supervisor) shows ORACLE.
 *   seccomp_prober inherited     for a process that is filtered already: the oracle is newer here and answers
 *                                TRACE, which yields to any refusal and is ENOSYS without a tracer.
 *   seccomp_prober i386|x32|getpid FILE   loads FILE alone and makes one call of that kind, then exits with 3.
 *
 * Standard input: probes of seven u64, number and arguments. Standard output: an i64 each, the errno or 0.
 * Source: seccomp(2), on the precedence of actions; kernel/seccomp.c, seccomp_run_filters. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ORACLE = 4000, PROBES_MAX = 65536, OUT = 900, DONE = 77, X32_BIT = 0x40000000 };
static uint64_t probes[PROBES_MAX][7];
static int64_t answers[PROBES_MAX];
static struct sock_filter loaded[BPF_MAXINSNS];

#define NUMBER BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
#define FIRST_ARGUMENT BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0]))
#define SPARE(call, argument)                                                                                          \
    NUMBER, BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 3), FIRST_ARGUMENT,                                           \
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, argument, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void must(int ok, const char *what)
{
    if (ok)
        return;
    perror(what);
    exit(2);
}

static void install(struct sock_filter *filter, size_t count)
{
    struct sock_fprog program = {.len = (unsigned short)count, .filter = filter};
    must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0, "filter");
}

static size_t read_filter(const char *path)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = read(file, loaded, sizeof loaded);
    must(got > 0 && got % (ssize_t)sizeof loaded[0] == 0, path);
    close(file);
    return (size_t)got / sizeof loaded[0];
}

static size_t read_probes(void)
{
    size_t filled = 0;
    ssize_t got;
    while ((got = read(0, (char *)probes + filled, sizeof probes - filled)) > 0)
        filled += (size_t)got;
    must(got == 0 && filled % sizeof probes[0] == 0, "probes");
    return filled / sizeof probes[0];
}

static int single_call(const char *kind)
{
    long number = 39; /* getpid */
    if (strcmp(kind, "i386") == 0)
        __asm__ volatile("int $0x80" : "+a"((long){20}) : : "memory", "r8", "r9", "r10", "r11");
    else
        syscall(number | (strcmp(kind, "x32") == 0 ? X32_BIT : 0));
    return 3;
}

int main(int argc, char **argv)
{
    must(argc >= 2, "usage");
    int inherited = strcmp(argv[1], "inherited") == 0;
    size_t length = inherited || argc < 3 ? 0 : read_filter(argv[2]);
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs");
    if (!inherited && strcmp(argv[1], "filter") != 0) {
        if (length)
            install(loaded, length);
        return single_call(argv[1]);
    }
    size_t count = read_probes();
    must(dup2(1, OUT) == OUT, "dup2");
    struct sock_filter oracle[] = {
        SPARE(__NR_write, OUT),
        SPARE(__NR_exit_group, DONE),
        SPARE(__NR_prctl, PR_SET_SECCOMP),
        BPF_STMT(BPF_RET | BPF_K, inherited ? SECCOMP_RET_TRACE : SECCOMP_RET_ERRNO | ORACLE),
    };
    install(oracle, sizeof oracle / sizeof oracle[0]);
    if (!inherited)
        install(loaded, length);
    for (size_t i = 0; i < count; i++) {
        const uint64_t *p = probes[i];
        answers[i] = syscall((long)p[0], p[1], p[2], p[3], p[4], p[5], p[6]) == -1 ? errno : 0;
    }
    size_t written = 0;
    while (written < count * sizeof answers[0]) {
        ssize_t put = write(OUT, (char *)answers + written, count * sizeof answers[0] - written);
        if (put <= 0)
            break;
        written += (size_t)put;
    }
    syscall(__NR_exit_group, DONE);
    __builtin_unreachable();
}
