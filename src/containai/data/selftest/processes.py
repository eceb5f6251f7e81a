"""Attacks on processes: those of the host, the launcher, process 1, and what processes share."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import socket
import struct

from attack import TARGETS, Held, LookedAt, apart, attack, buffer, call


@attack("processes.see-the-host")
def _():
    words = [open(f"/proc/{pid}/cmdline").read() for pid in os.listdir("/proc") if pid.isdigit()]
    found = [text for text in words if TARGETS["token"] in text]
    if not found:
        raise Held(f"{len(words)} processes, all of this session")
    return found


@attack("processes.kill-the-hosts")
def _():
    os.kill(TARGETS["victim"], signal.SIGKILL)
    # A process of this container may have that number: the launcher looks whether its own one still lives.
    return "a process with that number was signalled"


@attack("processes.kill-process-1")
def _():
    os.kill(1, signal.SIGKILL)
    try:
        os.kill(1, 0)
    except ProcessLookupError:
        return "process 1 is gone"
    raise Held("the kernel drops signals to the first process of a PID namespace")


@attack("processes.trace-process-1")
def _():
    return apart(lambda: call("ptrace", 0x4206, 1, 0, 0))  # PTRACE_SEIZE, which does not stop it; it ends with the child


def memory_of_process_1() -> int:
    """Where it can be written; if that is not told, where a static program lies."""
    with contextlib.suppress(OSError):
        for line in open("/proc/1/maps"):
            place, rights = line.split()[:2]
            if rights.startswith("rw"):
                return int(place.partition("-")[0], 16)
    return 0x400000


def copy_memory(name: str, held: ctypes.Array, place: int) -> int:
    ours, theirs = (buffer(struct.pack("<QQ", start, 8)) for start in (ctypes.addressof(held), place))
    return call(name, 1, ours, 1, theirs, 1, 0)


@attack("processes.read-process-1")
def _():
    return copy_memory("process_vm_readv", buffer(bytes(8)), memory_of_process_1())


@attack("processes.write-process-1")
def _():
    held, place = buffer(bytes(8)), memory_of_process_1()
    try:  # what is there is written again; if that is not known, where nothing is
        copy_memory("process_vm_readv", held, place)
    except (OSError, LookedAt):
        place = 0
    return copy_memory("process_vm_writev", held, place)


@attack("processes.descriptors-of-process-1")
def _():
    def take() -> int:
        process = os.pidfd_open(1)
        for number in range(256):
            with contextlib.suppress(LookedAt):  # it has none of that number
                return call("pidfd_getfd", process, number, 0)
        raise LookedAt("process 1 has no descriptor that could be taken")

    return apart(take)


@attack("processes.compare-with-process-1")
def _():
    return call("kcmp", os.getpid(), 1, 1, 0, 0)  # KCMP_VM


@attack("processes.shared-memory-of-the-host")
def _():
    libc = ctypes.CDLL(None, use_errno=True)
    found = libc.shmget(TARGETS["shm_key"], 0, 0)
    if found < 0:
        raise OSError(ctypes.get_errno(), "shmget")
    return found


@attack("processes.abstract-socket-of-the-host")
def _():
    with socket.socket(socket.AF_UNIX) as link:
        link.connect("\0" + TARGETS["token"])
        return "connected"


@attack("processes.socket-file-of-the-host")
def _():
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(TARGETS["socket"])
        return "connected"


@attack("processes.real-time")
def _():
    def first() -> str:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        return "real-time priority"

    return apart(first)


@attack("processes.higher-priority")
def _():
    def higher() -> int:
        os.setpriority(os.PRIO_PROCESS, 0, -5)
        return os.getpriority(os.PRIO_PROCESS, 0)

    return apart(higher)


@attack("processes.raise-a-limit")
def _():
    def higher() -> str:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard + 1))
        except ValueError as error:
            raise Held(str(error)) from error
        return "a hard limit was raised"

    return apart(higher)


@attack("processes.core-dump")
def _():
    def enough() -> str:
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
        except ValueError as error:
            raise Held(str(error)) from error
        return "a core dump, which would hold whatever was in memory, can be had"

    return apart(enough)


@attack("processes.namespaces-of-the-host")
def _():
    mine = {name: os.readlink(f"/proc/self/ns/{name}") for name in TARGETS["namespaces"]}
    shared = [name for name, host in TARGETS["namespaces"].items() if mine[name] == host]
    if shared == ["user"] and os.path.exists("/.dockerenv"):
        raise Held("all but that of users, which Docker shares: its ids are an ordinary user's")
    if not shared:
        raise Held(f"none of {', '.join(mine)} is the host's")
    return shared
