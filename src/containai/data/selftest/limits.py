"""Attacks on resources, in a session of their own with little memory: none of them may reach the host."""

from __future__ import annotations

import os
import signal
import threading

from attack import TARGETS, Held, attack, in_child, say

MIB = 1024 * 1024


@attack("limits.processes")
def _():
    def bomb() -> int:
        threading.stack_size(64 * 1024)
        stop = threading.Event()
        count = 0
        try:
            while count < 2 * TARGETS["pids"]:
                threading.Thread(target=stop.wait, daemon=True).start()
                count += 1
        except RuntimeError:
            return 1
        return 0

    if in_child(bomb) == 0:
        return f"{2 * TARGETS['pids']} threads"
    raise Held(f"fewer than {2 * TARGETS['pids']}")


@attack("limits.memory")
def _():
    def hog() -> int:
        kept = []
        try:
            for _ in range(TARGETS["memory"] // MIB * 2 // 16):
                kept.append(b"x" * (16 * MIB))
        except MemoryError:
            return 1
        return 0

    status = in_child(hog)
    if status == 0:
        return "twice the memory that was granted"
    raise Held("killed by the kernel" if status == -signal.SIGKILL else f"status {status}")


@attack("limits.open-files")
def _():
    descriptors = []
    try:
        while len(descriptors) < 2 * TARGETS["open_files"]:
            descriptors.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        raise Held(f"{error.strerror} after {len(descriptors)}") from error
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return f"{len(descriptors)} open files"


for label, place in (("tmp", "/tmp"), ("home", os.path.expanduser("~")), ("shared-memory", "/dev/shm"), ("run", "/run")):

    @attack(f"limits.{label}")
    def _(place=place):
        whole = os.statvfs(place)
        size = whole.f_blocks * whole.f_frsize
        if size > TARGETS["tmpfs"]:
            return f"{place} holds {size} bytes"
        path = f"{place}/selftest-fill"
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
        except OSError:
            raise Held("it cannot be written") from None
        try:
            os.posix_fallocate(descriptor, 0, size + MIB)  # more than there is: refused before a page is taken
        finally:
            os.close(descriptor)
            os.unlink(path)
        return f"more than {size} bytes in {place}"


@attack("limits.flood-of-execs")
def _():
    say("limits.flood-of-execs", "held", "begun")  # what ends the session has got through
    for _ in range(TARGETS["flood"]):
        pid = os.fork()
        if pid == 0:
            try:
                os.execv("/nonexistent/selftest-flood", [TARGETS["token"] + "-flood"])
            except OSError:
                os._exit(0)
        os.waitpid(pid, 0)
    raise Held("the launcher looks whether the log is whole")


@attack("limits.flood-of-output")
def _():
    say("limits.flood-of-output", "held", "begun")
    for _ in range(200):
        os.write(1, b"x" * 10_000 + b"\n")
    raise Held("2 MB; the launcher looks whether the session went on")
