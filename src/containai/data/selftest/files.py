"""Attacks on files: of the host, of the system, and what a file can carry out of the container."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import subprocess
import tempfile
import time

from attack import TARGETS, Held, Said, Unavailable, apart, attack


def read(path: str) -> str:
    with open(path, "rb") as file:
        return file.read(100).decode(errors="replace")


for name in ("canary", "home", "state", "shadow"):

    @attack(f"files.read-{name}")
    def _(path=TARGETS[name]):
        return os.listdir(path) if os.path.isdir(path) else read(path)


@attack("files.host-tmp")
def _():
    return os.stat(TARGETS["decoy"])


@attack("files.through-a-link")
def _():
    os.symlink(TARGETS["canary"], "selftest-link")
    try:
        return read("selftest-link")
    finally:
        os.unlink("selftest-link")


@attack("files.through-the-root-of-process-1")
def _():
    return read("/proc/1/root" + TARGETS["canary"])


@attack("files.memory-of-process-1")
def _():
    with open("/proc/1/mem", "rb") as file:
        return file.fileno()


@attack("files.descriptors-of-process-1")
def _():
    return os.listdir("/proc/1/fd")


for label, path in (
    ("usr", "/usr/bin/selftest"),
    ("etc", "/etc/selftest"),
    ("root", "/selftest"),
    ("git", "/usr/bin/git"),
    ("passwd", "/etc/passwd"),
):

    @attack(f"files.write-{label}")
    def _(path=path):
        there = os.path.exists(path)
        with open(path, "ab") as file:  # what can be opened so can be written: nothing is spoilt for the proof
            file.write(b"" if there else b"x")
        if not there:
            os.unlink(path)
        return f"{path} can be written"


def write_again(path: str, text: str = "") -> str:
    """Write into a file of the kernel's: what stands there already, or ``text``."""
    with open(path, "r+" if not text else "w") as file:
        value = text or file.read()
        chosen = re.search(r"\[(\w+)\]", value)  # one word of several
        file.seek(0)
        file.write(chosen[1] if chosen else value or "\n")
    return f"wrote {path}"


for label, path, text in (
    ("core-pattern", "/proc/sys/kernel/core_pattern", ""),
    ("sysrq", "/proc/sysrq-trigger", "h"),
    ("modprobe", "/proc/sys/kernel/modprobe", ""),
    ("oom-score", "/proc/self/oom_score_adj", "500"),
):

    @attack(f"files.proc-{label}")
    def _(path=path, text=text):
        return write_again(path, text)


for label, path in (("kcore", "/proc/kcore"), ("kallsyms", "/proc/kallsyms"), ("keys", "/proc/keys")):

    @attack(f"files.proc-{label}")
    def _(path=path):
        got = read(path)
        if not got.strip("\0"):
            raise Held("it is empty")
        if path == "/proc/kallsyms":
            got = next((line for line in open(path) if line.split()[0].strip("0")), "")
            if not got:
                raise Held("every address is zero")
        return got


@attack("files.block-devices")
def _():
    found = [name for name in os.listdir("/dev") if name.startswith(("sd", "vd", "nvme", "loop", "mem", "kmsg", "kvm"))]
    if not found:
        raise Held("/dev has none")
    return found


@attack("files.sys")
def _():
    # A program that the kernel starts; whether it looks for equal pages; how it hands out large ones.
    settings = ("kernel/uevent_helper", "kernel/mm/ksm/run", "kernel/mm/transparent_hugepage/enabled")
    there = [f"/sys/{name}" for name in settings if os.path.exists(f"/sys/{name}")]
    return write_again((there or ["/sys/kernel/uevent_helper"])[0])


@attack("files.control-groups")
def _():
    for place in ("/sys/fs/cgroup", "/cgroup"):
        if os.path.isdir(place) and os.access(place, os.W_OK):
            return f"{place} can be written"
    raise Held("no control group can be written")


for label, path in (
    ("docker", "/var/run/docker.sock"),
    ("containerd", "/run/containerd/containerd.sock"),
    ("dbus", "/run/dbus/system_bus_socket"),
    ("systemd", "/run/systemd/private"),
):

    @attack(f"files.socket-{label}")
    def _(path=path):
        return os.stat(path)


NOBODY = 65534


def effective_user(program: str, *words: str) -> Said:
    """Whether a program runs as its owner, for a user who is not that."""

    def start() -> str:
        own = os.getuid()
        with contextlib.suppress(OSError):  # one who may change users asks for another than the owner
            os.setgroups([])
            os.setresuid(NOBODY, NOBODY, NOBODY)
            own = NOBODY
        # It cannot end before it has been looked at: there is no room for what it says.
        full_read, full = os.pipe()
        os.set_blocking(full, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(full, bytes(4096))
        os.set_blocking(full, True)
        child = subprocess.Popen([program, *words], stdin=subprocess.DEVNULL, stdout=full, stderr=full)
        try:
            for _ in range(200):
                status = dict(line.split(":\t", 1) for line in open(f"/proc/{child.pid}/status") if ":\t" in line)
                if status["Name"].strip() == os.path.basename(program)[:15]:
                    break
                time.sleep(0.01)
            else:
                raise Unavailable(f"{program} did not start")
            real, effective = status["Uid"].split()[:2]
        finally:
            child.kill()
            os.close(full_read)
            child.wait()
        if effective == real:
            raise Held(f"it runs as {effective}")
        return f"started by {own}, {program} runs as {effective}"

    return apart(start)


@attack("files.set-user-id")
def _():
    shutil.copy("/bin/sh", "/tmp/selftest-sh")
    os.chmod("/tmp/selftest-sh", 0o6755)
    return effective_user("/tmp/selftest-sh", "-c", "echo")


@attack("files.set-user-id-of-the-system")
def _():
    for path in ("/usr/bin/su", "/usr/bin/passwd", "/usr/bin/mount", "/usr/bin/chsh"):
        if os.path.exists(path) and os.stat(path).st_mode & stat.S_ISUID:
            return effective_user(path, "--help")
    raise Held("neither su nor passwd, mount or chsh is one")


@attack("files.hard-link-out")
def _():
    # Wherever the agent may write: in a mount of its own no link leads out of it.
    refused = "it can write nowhere"
    for folder in ("/workspace", "/tmp", "/var/tmp", os.path.expanduser("~")):
        for path in ("/etc/passwd", "/usr/bin/git", "/usr/bin/env"):
            link = f"{folder}/selftest-link"
            try:
                os.link(path, link)
            except OSError as error:
                refused = errno.errorcode.get(error.errno, str(error))
            else:
                os.unlink(link)
                return f"a hard link from {path} into {folder}"
    raise Held(refused)


@attack("files.device-mounts")
def _():
    bad = []
    for line in open("/proc/self/mountinfo"):
        fields = line.split()
        place, options = fields[4], fields[5].split(",")
        devices = place in ("/dev", "/dev/pts")  # made by the engine, and nothing can be added there
        writable = "rw" in options and os.path.isdir(place) and os.access(place, os.W_OK) and not devices
        if writable and ("nodev" not in options or "nosuid" not in options):
            bad.append(place)
    if bad == ["/workspace"] and os.path.exists("/.dockerenv") and "NoNewPrivs:\t1" in open("/proc/self/status").read():
        raise Held("nosuid and nodev but in Docker's bind mount, where no_new_privs and the filter stand for them")
    if bad:
        return f"writable, and set-user-id programs or device nodes count there: {bad}"
    raise Held("nosuid and nodev wherever it can write")


@attack("files.above-the-workspace")
def _():
    with tempfile.NamedTemporaryFile(dir="/workspace/.."):
        return "a file beside the workspace"
