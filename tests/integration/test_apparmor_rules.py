"""Each rule of the profile containai-agent, both ways: what root can do without it, and not within it.

``aa-exec`` puts one program under the profile alone, without the namespaces, seccomp filter and Landlock of a session, which
deny most of this too. That a session's agent is under the profile is tested in ``test_apparmor.py``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROFILE = Path(__file__).resolve().parents[2] / "src/containai/data/apparmor/containai-agent"

pytestmark = [pytest.mark.timeout(120), pytest.mark.needs("apparmor", "root")]

PTRACE = """
import ctypes, os, signal, sys
child = os.fork()
if not child:
    signal.pause()
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4
answer = libc.ptrace(16, child, 0, 0)  # PTRACE_ATTACH
os.kill(child, signal.SIGKILL)
sys.exit(answer != 0)
"""
SOCKET = "import socket; socket.socket(socket.{}, socket.{}, {}).close()"

# The rule, and a program that only it stops.
DENIED = [
    ("mount", "mount -t tmpfs t /mnt"),
    ("remount", "mount -o remount,size=8m /run/mounted"),
    ("umount", "umount /run/mounted"),
    ("pivot_root", "mkdir -p /run/mounted/old && cd /run/mounted && pivot_root . old"),
    ("capability", "chown 1:1 /run/mounted"),
    ("ptrace", f"{sys.executable} -c '{PTRACE}'"),
    ("network raw", f"{sys.executable} -c '{SOCKET.format('AF_INET', 'SOCK_RAW', 1)}'"),
    ("network packet", f"{sys.executable} -c '{SOCKET.format('AF_PACKET', 'SOCK_RAW', 0)}'"),
    ("network netlink raw", f"{sys.executable} -c '{SOCKET.format('AF_NETLINK', 'SOCK_RAW', 0)}'"),
    ("signal to one outside", "kill -0 $OUTSIDE"),
    ("write /proc", "echo 0 >/proc/self/oom_score_adj"),
    ("write /proc/sys", "echo 3 >/proc/sys/vm/drop_caches"),
    ("leave the profile", "echo changeprofile unconfined >/proc/self/attr/current; ! grep -q enforce /proc/self/attr/current"),
    ("write /sys", "echo 128 >/sys/block/vda/queue/read_ahead_kb"),
    *((f"read {path}", f"head -c 8 {path} >/dev/null") for path in (
        "/proc/kallsyms", "/proc/kcore", "/proc/timer_list", "/proc/kpagecount", "/proc/kpageflags",
        "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe",
        "/sys/fs/cgroup/cgroup.procs", "/sys/kernel/security/lsm",
        "/dev/vda",
    )),
    *((f"open {path}", f"exec 3<{path}") for path in ("/dev/mem", "/dev/kmsg", "/proc/kmsg")),
]  # fmt: skip

ALLOWED = [
    ("files", "echo x >/tmp/made-by-apparmor-test && cat /tmp/made-by-apparmor-test && rm /tmp/made-by-apparmor-test"),
    ("programs", "true && sh -c true"),
    ("its own /proc", "cat /proc/self/status /proc/meminfo >/dev/null"),
    ("signals among themselves", "sleep 60 & kill -TERM $!; wait $!; test $? = 143"),
    ("TCP", f"{sys.executable} -c '{SOCKET.format('AF_INET', 'SOCK_STREAM', 0)}'"),
    ("unix sockets", f"{sys.executable} -c 'import socket; a, b = socket.socketpair(); a.send(b\"x\"); b.recv(1)'"),
]


@pytest.fixture
def loaded() -> Iterator[None]:
    listing = Path("/sys/kernel/security/apparmor/profiles")
    before = "containai-agent (" in listing.read_text()
    subprocess.run(["apparmor_parser", "-r", PROFILE], check=True, timeout=60)
    yield
    if not before:
        subprocess.run(["apparmor_parser", "-R", PROFILE], check=True, timeout=60)


@pytest.fixture
def outside() -> Iterator[int]:
    with subprocess.Popen(["sleep", "100"]) as sleeper:
        yield sleeper.pid
        sleeper.kill()


def attempt(script: str, outside: int, *, confined: bool) -> bool:
    """Whether it works, in a mount namespace of its own with something mounted on /run/mounted."""
    words = ["aa-exec", "-p", "containai-agent", "--"] if confined else []
    setup = 'mkdir -p /run/mounted && mount -t tmpfs t /run/mounted && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", setup, "sh", *words, "sh", "-c", script],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "OUTSIDE": str(outside)},
        stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode == 0


@pytest.mark.parametrize("script", [script for _, script in DENIED], ids=[name for name, _ in DENIED])
def test_denied(loaded: None, outside: int, script: str) -> None:
    assert attempt(script, outside, confined=False), (
        "this would show nothing: it does not work without the profile either"
    )
    assert not attempt(script, outside, confined=True)


@pytest.mark.parametrize("script", [script for _, script in ALLOWED], ids=[name for name, _ in ALLOWED])
def test_allowed(loaded: None, outside: int, script: str) -> None:
    assert attempt(script, outside, confined=True)
