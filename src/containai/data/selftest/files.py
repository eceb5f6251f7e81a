"""Attacks on files: of the host, of the system, and what a file can carry out of the container."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile

from attack import TARGETS, Held, Unavailable, attack


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
    os.symlink(TARGETS["canary"], "/tmp/selftest-link")
    return read("/tmp/selftest-link")


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
        with open(path, "ab") as file:
            file.write(b"x")
        return f"wrote {path}"


for label, path, text in (
    ("core-pattern", "/proc/sys/kernel/core_pattern", "|/tmp/x"),
    ("sysrq", "/proc/sysrq-trigger", "h"),
    ("modprobe", "/proc/sys/kernel/modprobe", "/tmp/x"),
    ("oom-score", "/proc/self/oom_score_adj", "500"),
):

    @attack(f"files.proc-{label}")
    def _(path=path, text=text):
        with open(path, "w") as file:
            file.write(text)
        return f"wrote {path}"


for label, path in (("kcore", "/proc/kcore"), ("kallsyms", "/proc/kallsyms"), ("keys", "/proc/keys")):

    @attack(f"files.proc-{label}")
    def _(path=path):
        got = read(path)
        if not got.strip("\0"):
            raise Held("it is empty")
        return got


@attack("files.block-devices")
def _():
    found = [name for name in os.listdir("/dev") if name.startswith(("sd", "vd", "nvme", "loop", "mem", "kmsg", "kvm"))]
    if not found:
        raise Held("/dev has none")
    return found


@attack("files.sys")
def _():
    with open("/sys/kernel/uevent_helper", "w") as file:
        file.write("/tmp/x")
    return "the kernel starts a program of the agent's"


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


@attack("files.set-user-id")
def _():
    shutil.copy("/bin/sh", "/tmp/selftest-sh")
    os.chmod("/tmp/selftest-sh", 0o6755)
    told = subprocess.run(["/tmp/selftest-sh", "-p", "-c", "id -u"], capture_output=True, text=True, timeout=10)
    if told.stdout.strip() in ("", str(os.getuid())):
        raise Held(f"it runs as {told.stdout.strip() or 'nobody: ' + told.stderr.strip()[:60]}")
    return told.stdout


@attack("files.set-user-id-of-the-system")
def _():
    tool = next((p for p in ("/usr/bin/su", "/bin/su", "/usr/bin/passwd", "/usr/bin/mount") if os.path.exists(p)), None)
    if tool is None:
        raise Unavailable("there is no set-user-id program here")
    words = [tool, "-c", "id -u"] if tool.endswith("su") else [tool, "--help"]
    told = subprocess.run(words, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL)
    if told.stdout.strip() == "0":
        return "it ran a command as root"
    raise Held(told.stderr.strip()[:80] or "no privilege")


@attack("files.hard-link-out")
def _():
    os.link("/etc/passwd", "/workspace/selftest-link")
    return "a hard link from the system into the workspace"


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
