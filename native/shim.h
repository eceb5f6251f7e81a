/* containai-shim: the few steps that must happen in the process that becomes the agent.
 *
 * One static program with four parts:
 *   tether  (outside) ties a host process to its launcher's life, cgroups and user, then runs it
 *   bound   (outside) limits in a container's namespaces what the kernel counts beyond it
 *   init    (inside)  is the container's first process: puts every guard on, hands the launcher
 *                     the descriptors that it needs, waits for its word, then runs the agent;
 *   join    (inside)  the same, where the container is made by a daemon: see init.c and reader.c
 */
#ifndef CONTAINAI_SHIM_H
#define CONTAINAI_SHIM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

enum { EXIT_REFUSED = 125, EXIT_CANNOT_RUN = 126, EXIT_NOT_FOUND = 127 };
enum { MAX_LISTENERS = 32, MAX_HANDED = MAX_LISTENERS + 4 }; /* a terminal, a pipe, a listener and a socket besides */

struct path_rule {
    uint64_t access;
    const char *path;
};

/* A directory (no content) or a file, made by the first process itself where the agent may write. */
struct made {
    const char *path;
    const char *content;
    size_t bytes;
    uint32_t mode;
    int is_directory;
};

struct limit {
    int resource;
    struct rlimit value;
};

/* What is run inside, with its whole environment. */
struct program {
    char **argv;
    char **envp;
    size_t args, vars;
};

/* What the launcher wants, as read from the specification (see spec.c for the format). */
struct spec {
    struct program agent;
    struct program preparation; /* no arguments: there is none */
    const char *cwd;
    const char *apparmor;
    uint16_t ports[MAX_LISTENERS];
    size_t port_count;
    struct limit *limits;
    size_t limit_count;
    struct path_rule *rules;
    size_t rule_count;
    struct made *made;
    size_t made_count;
    uint64_t handled_fs, handled_net, scoped;
    const void *filter;
    size_t filter_bytes;
    int supervised;
    int reads;
    int terminal;
};

/* fail.c: says why on standard error, or on the control socket once there is one. */
void report_to(int control);
_Noreturn void fail(const char *what);
_Noreturn void fail_plain(const char *what);

/* spec.c */
void read_spec(int fd, struct spec *spec);

void make_files(const struct spec *spec);

/* guard.c: each ends the process when it cannot do its work. */
void confine_apparmor(const char *profile);
void confine_limits(const struct spec *spec);
void confine_landlock(const struct spec *spec);
int confine_seccomp(const struct spec *spec); /* returns the notification listener, or -1 */

/* leash.c */
void ready_leash(int leash);
void arm_leash(int leash);

/* reap.c */
void run_preparation(const struct spec *spec, int control, int output);
_Noreturn void run_agent(const struct spec *spec, int control, const int streams[3]);

/* reader.c: reads memory for the launcher, in a thread of its own. Start it with all guards on: each thread has its own. */
int open_reader(int *ours); /* returns the launcher's end */
void start_reader(int socket);

int tether_main(int argc, char **argv);
int bound_main(int argc, char **argv);
int init_main(int argc, char **argv);
int join_main(int argc, char **argv);

#endif
