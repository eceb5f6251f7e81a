"""What an agent could try against the process that reads its memory. Runs in a session: ``hostile.py WHAT``."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
EXECVE, PRCTL, TGKILL, PRLIMIT = 59, 157, 234, 302
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF, WRITE_FILE = 444, 446, 1 << 1
PR_SET_DUMPABLE, RLIMIT_NOFILE = 4, 7


def call(number: int, *arguments: int) -> int:
    """A system call's error, or 0."""
    back = libc.syscall(number, *(ctypes.c_long(argument) for argument in arguments))
    return ctypes.get_errno() if back < 0 else 0


def execute(path: int, words: list[int]) -> int:
    """The error of an exec of this address; 0 where it ran."""
    pointers = (ctypes.c_uint64 * (len(words) + 1))(*words, 0)
    child = os.fork()
    if child == 0:
        os._exit(call(EXECVE, path, ctypes.addressof(pointers), 0))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def text(data: bytes) -> int:
    """The address of a text, for good."""
    kept.append(ctypes.create_string_buffer(data))
    return ctypes.addressof(kept[-1])


kept: list[ctypes.Array[ctypes.c_char]] = []


def truncated() -> int:
    """The address of a file's page that is there no more."""
    with open("/tmp/truncated", "wb+") as file:
        file.truncate(8192)
        held = mmap.mmap(file.fileno(), 8192)
        file.truncate(0)
    address = ctypes.addressof(ctypes.c_char.from_buffer(held))
    globals()["held"] = held
    return address


def memory() -> None:
    """Addresses that lead nowhere, and more words than anybody counts."""
    echo = text(b"/usr/bin/echo")
    for name, address in (
        ("truncated", truncated()),
        ("kernel", 0xFFFF800000000000),
        ("no-address", 0x8000000000000000),
        ("last", 0xFFFFFFFFFFFFFFFF),
    ):
        print(name, execute(address, [text(b"path-" + name.encode())]), flush=True)
        print(name, execute(echo, [echo, address]), flush=True)
    print("many", execute(text(b"/usr/bin/true"), [echo, *[text(b"x" * 1500)] * 1000]), flush=True)


def landlocked() -> None:
    """A sandbox of the agent's own: the first process stands outside of it, and reads all the same."""
    handled = (ctypes.c_uint64 * 1)(WRITE_FILE)
    ruleset = libc.syscall(LANDLOCK_CREATE_RULESET, ctypes.c_void_p(ctypes.addressof(handled)), ctypes.c_long(8), 0)
    print("landlocked", ruleset < 0 or call(LANDLOCK_RESTRICT_SELF, ruleset, 0), flush=True)
    os.execv("/usr/bin/echo", ["echo", "in-a-sandbox"])


def undumpable() -> None:
    """A process that closes its memory to all of its user."""
    call(PRCTL, PR_SET_DUMPABLE, 0)
    echo = text(b"/usr/bin/echo")
    print("undumpable", execute(echo, [echo, text(b"unseen")]), flush=True)


def first_process() -> None:
    """Signals for it and for each of its threads; its memory and descriptors."""
    threads = [int(name) for name in os.listdir("/proc/1/task")]
    print("threads", len(threads))
    for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGTERM, signal.SIGCHLD):
        os.kill(1, number)
        for thread in threads:
            call(TGKILL, 1, thread, number)
    for path in ("/proc/1/mem", "/proc/1/fd", "/proc/1/environ"):
        try:
            os.close(os.open(path, os.O_RDONLY))
            print(path, "opened")
        except OSError as error:
            print(path, error.errno)


def starve() -> None:
    """It may have no more descriptors: one user may say so of his own processes."""
    limit = (ctypes.c_uint64 * 2)(0, 0)
    print("starved", call(PRLIMIT, 1, RLIMIT_NOFILE, ctypes.addressof(limit), 0), flush=True)


if __name__ == "__main__":
    ways = {
        "memory": memory,
        "landlock": landlocked,
        "undumpable": undumpable,
        "first": first_process,
        "starve": starve,
    }
    ways[sys.argv[1]]()
