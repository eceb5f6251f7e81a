"""What is checked and why it matters: one text for findings and for docs/preflight.md. PURE."""

from __future__ import annotations

from containai.record import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One check: what is asked of the host, and why."""

    id: str
    what: str
    why: str


HOST: tuple[Entry, ...] = (
    Entry(
        id="architecture",
        what="x86_64",
        why="the seccomp profile names system calls by number; on another architecture it would let others through",
    ),
    Entry(
        id="kernel",
        what="Linux 5.19 or later",
        why="the supervisor's hold on an exec must not be broken by a signal (SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)",
    ),
    Entry(
        id="seccomp",
        what="seccomp with the actions errno, kill_process and user_notif",
        why="the profile keeps system calls from the agent, and notification lets a supervisor outside see each exec",
    ),
    Entry(
        id="apparmor",
        what="where the kernel has AppArmor: the profile containai-agent, loaded in enforce mode; in Docker for"
        " an ordinary user containai-agent-reading, of the same file",
        why="mandatory access control holds where another layer has a mistake; it denies writes to /proc and /sys",
    ),
    Entry(
        id="landlock",
        what="Landlock ABI 4 or later; ABI 1 beside AppArmor",
        why="it says once more which files may be read, written and executed, and keeps ptrace inside the container",
    ),
    Entry(
        id="ptrace_scope",
        what="kernel.yama.ptrace_scope of 1, or 2 as root, where the kernel has Yama",
        why="with 0 a process may read the memory, and so the secrets, of any other process of the same user; where the"
        " launcher may not read what a process is about to execute, nothing could be recorded. Yama lets it read its"
        " own descendants up to 1, others as root, and nobody with 3; in Docker, where the processes are the daemon's"
        " descendants, the container's first process reads for an ordinary user",
    ),
    Entry(
        id="tmpfs",
        what="a tmpfs inside a container, mounted nosuid and nodev, and noexec kept where it is set",
        why="what is secret or temporary lies in memory, where no device, setuid file or program can be planted",
    ),
)

ENGINE: tuple[Entry, ...] = (
    Entry(
        id="namespaces",
        what="the session's own user makes a container with every namespace and with mounts inside; it is really tried",
        why="the container's namespaces and mounts are made without privileges, in a user namespace",
    ),
    Entry(
        id="cgroups",
        what="a cgroup whose limits of processes, memory, swap and CPU the kernel keeps; it is really tried",
        why="without limits a session could take the whole host down",
    ),
    Entry(id="bubblewrap", what="bubblewrap 0.8 or later", why="it makes the container's namespaces and mounts"),
    Entry(
        id="squid",
        what="Squid 5 or later (a session with --network-proxy none starts without it)",
        why="it decides where the agent may connect, and logs each connection",
    ),
    Entry(
        id="git",
        what="git 2.30 or later",
        why="the agent works on a clone, and its commits come back through git",
    ),
    Entry(
        id="state",
        what="a state directory that can be written, with 64 MiB free",
        why="a session's record, log and workspace are kept there",
    ),
    Entry(
        id="installation",
        what="the shim and the seccomp filters that the package's build compiled",
        why="they put the guards on inside the container",
    ),
)

DOCKER: tuple[Entry, ...] = (
    Entry(
        id="docker",
        what="this machine's Docker daemon, root's own, behind /var/run/docker.sock, or Podman there; where nobody is"
        " there, Podman behind /run/podman/podman.sock; DOCKER_HOST is not followed",
        why="a daemon elsewhere cannot be guarded from here, and one that a variable names could give any answer",
    ),
    Entry(
        id="docker-version",
        what="Docker 25.0.5 or later, or Podman 5.4.2 or later",
        why="older Dockers let containers without a network ask for names (CVE-2024-29018); no older Podman was tried",
    ),
    Entry(
        id="docker-security",
        what="a daemon with seccomp and AppArmor, neither rootless nor with userns-remap",
        why="what the daemon does not put on, no container of it has",
    ),
    Entry(
        id="docker-limits",
        what="a daemon that can limit memory, swap, CPU time and processes",
        why="without limits a session could take the whole host down",
    ),
    Entry(
        id="image",
        what="an image of ours, or the one that --image names, for linux/amd64 and without volumes",
        why="its programs are all that a session has; a volume would be writable and outlive the session",
    ),
    *(entry for entry in ENGINE if entry.id in ("squid", "git", "state", "installation")),
)

NO_ENGINE = Entry(
    id="engine",
    what="an engine that this version has",
    why="an engine that was named is never replaced by another",
)

WHY = {entry.id: entry.why for entry in (*HOST, *ENGINE, *DOCKER, NO_ENGINE)}
