"""Attacks on the record: programs started in odd ways, and the log itself. The launcher looks for each in its log."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import shutil
import subprocess
import threading

from attack import LIBC, TARGETS, Held, Unavailable, attack, in_child

TOKEN = TARGETS["token"]
LOG = os.path.join(TARGETS["state"], "sessions", os.environ["CONTAINAI_SESSION"], "events.jsonl")


def recorded(started: bool) -> None:
    if not started:
        raise Unavailable("the program did not start")
    raise Held("started; the launcher looks for it in its log")


@attack("evidence.plain-exec")
def _():
    recorded(subprocess.run(["/bin/true", f"{TOKEN}-plain"], timeout=10).returncode == 0)


@attack("evidence.exec-of-a-script")
def _():
    with open("/tmp/selftest-script", "w") as file:
        file.write("#!/bin/sh\nexit 0\n")
    os.chmod("/tmp/selftest-script", 0o755)
    recorded(subprocess.run(["/tmp/selftest-script", f"{TOKEN}-script"], timeout=10).returncode == 0)


@attack("evidence.exec-from-memory")
def _():
    descriptor = os.memfd_create("selftest")
    with open("/bin/true", "rb") as program:
        os.write(descriptor, program.read())
    recorded(in_child(lambda: os.execve(descriptor, ["x", f"{TOKEN}-memfd"], {})) == 0)


@attack("evidence.exec-by-descriptor")
def _():
    descriptor = os.open("/bin/true", os.O_RDONLY)
    recorded(in_child(lambda: os.execve(descriptor, ["x", f"{TOKEN}-descriptor"], {})) == 0)


@attack("evidence.exec-by-the-loader")
def _():
    loader = next((p for p in ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1") if os.path.exists(p)), None)
    if loader is None:
        raise Unavailable("the loader is elsewhere")
    recorded(subprocess.run([loader, "/bin/true", f"{TOKEN}-loader"], timeout=10).returncode == 0)


@attack("evidence.exec-through-the-root-link")
def _():
    words = ["/proc/self/root/bin/true", f"{TOKEN}-root"]
    recorded(subprocess.run(words, timeout=10).returncode == 0)


@attack("evidence.exec-of-a-copy")
def _():
    shutil.copy("/bin/true", "/tmp/selftest-copy")
    recorded(subprocess.run(["/tmp/selftest-copy", f"{TOKEN}-copy"], timeout=10).returncode == 0)


@attack("evidence.exec-by-a-thread")
def _():
    status: list[int] = []

    def child() -> int:
        thread = threading.Thread(target=lambda: os.execv("/bin/true", ["true", f"{TOKEN}-thread"]))
        thread.start()
        thread.join()
        return 3

    status.append(in_child(child))
    recorded(status == [0])


@attack("evidence.exec-without-arguments-in-reach")
def _():
    """More words than are recorded: the record says that it is cut."""
    words = ["/bin/true", f"{TOKEN}-many", *("x" for _ in range(3000))]
    recorded(subprocess.run(words, timeout=10).returncode == 0)


def started(execute) -> None:
    """Have a child execute a program that the supervisor may not be able to read: then it does not start."""

    def child() -> int:
        try:
            execute()
        except OSError as error:
            return error.errno or 99
        return ctypes.get_errno()

    status = in_child(child)
    if status == errno.EFAULT:
        raise Held("EFAULT: it did not start; the launcher looks for that in its log")
    recorded(status == 0)


@attack("evidence.exec-from-memory-that-is-not-read")
def _():
    """Where its path and its words stand, a process may write, and not read."""
    texts = (b"/bin/true", b"true", f"{TOKEN}-write-only".encode())
    page = mmap.mmap(-1, mmap.PAGESIZE)
    page.write(b"\0".join(texts) + b"\0")
    first = ctypes.addressof(ctypes.c_char.from_buffer(page))
    places = [first + sum(len(text) + 1 for text in texts[:n]) for n in range(len(texts))]
    words = (ctypes.c_void_p * 3)(*places[1:], None)

    def execute() -> None:
        LIBC.mprotect(ctypes.c_void_p(first), mmap.PAGESIZE, mmap.PROT_WRITE)
        LIBC.execve(ctypes.c_void_p(first), words, None)

    started(execute)


@attack("evidence.exec-by-a-process-that-is-not-read")
def _():
    """Undumpable: nobody but root reads its memory."""

    def execute() -> None:
        LIBC.prctl(4, 0)  # PR_SET_DUMPABLE
        os.execv("/bin/true", ["true", f"{TOKEN}-undumpable"])

    started(execute)


@attack("evidence.exec-under-a-false-name")
def _():
    """The record has to name the file, not the link."""
    os.symlink("/proc/thread-self/root/bin/true", "/tmp/selftest-link")
    recorded(subprocess.run(["/tmp/selftest-link", f"{TOKEN}-link"], timeout=10).returncode == 0)


@attack("evidence.plant-for-the-last-commit")
def _():
    """A repository inside the workspace, in git's index, whose configuration names a program for git to start."""

    def git(*words: str) -> None:
        subprocess.run(["git", *words], check=True, capture_output=True, timeout=60)

    inner = "selftest-inner"
    git("init", "-q", inner)
    git("-C", inner, "-c", "user.name=a", "-c", "user.email=a@b.invalid", "commit", "-q", "--allow-empty", "-m", "a")
    git("add", inner)
    git("-C", inner, "config", "core.fsmonitor", f"/bin/true {TOKEN}-planted")
    raise Held("planted; the launcher looks for it in its log")


@attack("evidence.read-the-log")
def _():
    with open(LOG, "rb") as file:
        return file.read(1)


@attack("evidence.write-the-log")
def _():
    with open(LOG, "ab") as file:
        file.write(b"{}\n")
    return "a line of the agent's"
