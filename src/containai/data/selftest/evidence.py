"""Attacks on the record: programs started in odd ways, and the log itself. The launcher looks for each in its log."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading

from attack import TARGETS, Held, Unavailable, attack, in_child

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


@attack("evidence.read-the-log")
def _():
    with open(LOG, "rb") as file:
        return file.read(1)


@attack("evidence.write-the-log")
def _():
    with open(LOG, "ab") as file:
        file.write(b"{}\n")
    return "a line of the agent's"
