"""An agent that takes what no limit of the kernel's holds: a guard ends it, its neighbour and the host work meanwhile.

Each attack stops by itself after a while, below what harms the machine that runs the tests: without its guard the session
ends with the attack's own status, which is how each test has been seen to fail.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from containai.audit.chain import find_break
from tests.e2e.test_resources import NET, ROOT, the_host_works
from tests.support.product import Product

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.usefixtures("nothing_left")]

MIB = 1024 * 1024
HOLD = "\ntime.sleep(25)\n"
BEGIN = """
import ctypes, fcntl, os, socket, struct, sys, time
MIB = 1 << 20
def write(fd, mib):
    for _ in range(mib): os.write(fd, bytes(MIB))
"""
NETLINK = """
kept = []
for _ in range(2000):  # at most some 700 MiB
    s = socket.socket(16, socket.SOCK_RAW, 0); s.setblocking(False); kept.append(s)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIB)
    for number in range(400):
        try: s.send(struct.pack("IHHIIB3x", 20, 18, 0x301, number, 0, 0))
        except OSError: break
"""
LOCKS = """
for number in range(800):  # at most 160 MiB
    fd = os.open("/tmp/locked", os.O_RDWR | os.O_CREAT, 0o600); os.unlink("/tmp/locked")
    for n in range(1000): fcntl.fcntl(fd, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 4000 - 2 * n, 1, 0))
"""
TCP = """
server = socket.socket(); server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * MIB)
server.bind(("127.0.0.1", 0)); server.listen(1000)
sent, kept = 0, []
while sent < 500 * MIB:
    pair = socket.create_connection(server.getsockname()), server.accept()[0]
    for s in pair:
        s.setblocking(False); kept.append(s)
        try:
            while True: sent += s.send(bytes(MIB))
        except OSError: pass
"""
FILTERS = """
import threading
n = 4094  # instructions that take long words of machine code
code = b"".join(struct.pack("HBBI", 0x34, 0, 0, 0x7FFFFFF0 - k) for k in range(n - 1)) + struct.pack("HBBI", 6, 0, 0, 0x7FFF0000)
code = ctypes.create_string_buffer(code); program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", n, ctypes.addressof(code)))
libc = ctypes.CDLL(None)
def fill():
    while libc.syscall(317, 1, 0, program) == 0: pass
    time.sleep(60)
for _ in range(350):  # at most some 220 MiB
    threading.Thread(target=fill, daemon=True).start()
"""
UNLINKED = """
fd = os.open("x", os.O_RDWR | os.O_CREAT, 0o600); os.unlink("x"); write(fd, 90)
"""
IN_A_SOCKET = """
fd = os.open("x", os.O_RDWR | os.O_CREAT, 0o600); os.unlink("x")
one, other = socket.socketpair(); os.posix_fallocate(fd, 0, 90 * MIB)
socket.send_fds(one, [b"x"], [fd]); os.close(fd)
"""
SHUT = """
os.mkdir("d"); fd = os.open("d/big", os.O_CREAT | os.O_WRONLY); os.chmod("d", 0); write(fd, 90); os.close(fd)
"""
RENAMED = """
import threading
fd = os.open(".", os.O_RDONLY)
for level in range(2):
    for n in range(2000): os.mknod(f"d{n}", dir_fd=fd)
    os.mkdir("p0", dir_fd=fd)
    def rename(fd=fd, n=0):
        while True:
            os.rename(f"p{n}", f"p{n + 1}", src_dir_fd=fd, dst_dir_fd=fd); n += 1; time.sleep(0.0003)
    below = os.open("p0", os.O_RDONLY, dir_fd=fd)
    threading.Thread(target=rename, daemon=True).start()
    fd = below
for n in range(90):
    big = os.open(f"f{n}", os.O_CREAT | os.O_WRONLY, dir_fd=fd); write(big, 1); os.fsync(big); os.close(big)
"""
EXCHANGED = """
libc, last = ctypes.CDLL(None), {}
watch = libc.inotify_init1(0)
for place in ("a", "b"):
    os.mkdir(place)
    for n in range(1500): os.mknod(f"{place}/d{n}")
    for n in range(100_000):  # a name that is listed late
        last[place] = f"{place}/x{n}".encode(); os.mkdir(last[place])
        if os.listdir(place).index(f"x{n}") > 1400: break
        os.rmdir(last[place])
fd = os.open(last["a"], os.O_RDONLY)
for place in ("a", "b"):
    assert libc.inotify_add_watch(watch, place.encode(), 0x20) > 0  # opened
def flee(at=0):
    while True:  # what measures comes: off to where it is not
        got = os.read(watch, 4096)
        while got:
            came, _, _, named = struct.unpack_from("iIII", got); got = got[16 + named :]
            if not named and came - 1 == at:
                libc.renameat2(-100, last["a"], -100, last["b"], 2); at = 1 - at
if os.fork() == 0: flee()
big = os.open("big", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
for n in range(90): write(big, 1); time.sleep(0.01)
os.fsync(big)
"""


def attack(product: Product, code: str, *options: str) -> dict[str, Any]:
    """Run an attack with a neighbour beside it; what came of it, once the log and the work that was done before hold."""
    script = f"echo work > work; git add work; git commit -qm work; exec python3 - <<'END'\n{BEGIN}{code}{HOLD}\nEND\n"
    child = product.start(script, "--name", "attacker", *NET, *options)
    try:
        neighbour = replace(product, home=product.home.parent / "neighbour", variables={}).run("echo there > n", *NET)
        assert neighbour.status == 0, neighbour.stderr
        assert product.git("cat-file", "-p", f"{neighbour.result['branch']}:n") == "there"
        the_host_works(product.home / "host")
        said, errors = child.communicate(timeout=120)
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate(timeout=30)
    assert said, errors.decode(errors="replace")
    result: dict[str, Any] = json.loads(said)
    assert product.git("cat-file", "-p", f"{result['branch']}:work") == "work"
    with open(result["event_log"], "rb") as log:
        assert find_break(log) is None
    assert json.loads(Path(result["event_log"]).read_text().splitlines()[-1])["event"] == "session-end"
    return result


def configure(product: Product, text: str) -> None:
    place = product.home / ".config/containai"
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.toml").write_text(text)


@pytest.mark.user
@pytest.mark.parametrize(
    ("code", "why"),
    [
        pytest.param(NETLINK, "bytes wait in its sockets", id="netlink"),
        pytest.param(LOCKS, "50,000 locks", id="locks"),
        pytest.param(FILTERS, "512 seccomp filters", id="filters"),
        pytest.param(TCP, "bytes wait in its sockets", id="tcp", marks=pytest.mark.needs("cgroup-v1")),
    ],
)
def test_memory_of_the_kernels_that_is_not_counted(product: Product, code: str, why: str) -> None:
    """What is not counted as the session's: 128 MiB of memory, and as much as half of it, or 64 MiB, beside it."""
    result = attack(product, code, "--memory", "128m")
    assert result["reason"] == "guard", result
    assert why in result["problem"]


@pytest.mark.user
@pytest.mark.parametrize(
    ("code", "why"),
    [
        pytest.param(UNLINKED, "67,108,864 at most", id="unlinked"),
        pytest.param(IN_A_SOCKET, "hold files that cannot be seen", id="in-a-socket"),
        pytest.param(RENAMED, "the disk", id="renamed"),  # seen whole in one of three looks, or never
        pytest.param(EXCHANGED, "67,108,864 at most", id="exchanged", marks=pytest.mark.needs("root")),
        pytest.param(SHUT, "67,108,864 at most" if os.geteuid() == 0 else "cannot be measured", id="shut"),
    ],
)
def test_disk_that_no_path_shows(product: Product, code: str, why: str) -> None:
    """90 MiB, and 64 MiB are granted."""
    configure(product, '[limits]\nworkspace = "64m"\n')
    result = attack(product, code)
    assert result["reason"] == "guard", result
    assert "filled the disk" in result["problem"]
    assert why in result["problem"]


@contextlib.contextmanager
def mounted_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """A file system with 4000 files, in a file."""
    image, place = folder / "disk.img", folder / "disk"
    place.mkdir()
    with open(image, "wb") as file:
        file.truncate(size_bytes)
    for argv in (("mkfs.ext4", "-q", "-N", "4000", "-m", "0", image), ("mount", "-o", "loop", image, place)):
        subprocess.run(argv, check=True, timeout=60, stdin=subprocess.DEVNULL)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True, timeout=60)


ALL_FILES = """
made = 0
try:
    for n in range(10_000): os.close(os.open(f"{n}", os.O_CREAT | os.O_WRONLY)); made += 1
except OSError: pass
"""
ALL_SPACE = """
fd = os.open("x", os.O_RDWR | os.O_CREAT, 0o600); os.unlink("x")
try: write(fd, 2000)
except OSError: pass
"""


@pytest.mark.needs("root", "loop")
@pytest.mark.parametrize(
    ("code", "why"),
    [
        pytest.param(ALL_FILES, "the disk has room for", id="files"),
        pytest.param(ALL_SPACE, "bytes left", id="space"),
    ],
)
def test_a_disk_that_is_taken_whole(product: Product, tmp_path: Path, code: str, why: str) -> None:
    """Far below its limit. What it did before comes home, though the disk was full."""
    with mounted_disk(tmp_path, 800 * MIB) as disk:
        there = replace(product, variables={"XDG_STATE_HOME": os.fspath(disk)})
        result = attack(there, code)
        assert result["reason"] == "guard", result
        assert why in result["problem"]
        assert result["kept"] is None
        again = there.run("echo again > n", *NET)
        assert product.git("cat-file", "-p", f"{again.result['branch']}:n") == "again"


@pytest.mark.needs("root", "loop")
@pytest.mark.parametrize("code", [pytest.param(ALL_FILES, id="files"), pytest.param(ALL_SPACE, id="space")])
def test_recovery_with_a_full_disk(product: Product, tmp_path: Path, code: str) -> None:
    """The launcher is killed while nothing can be written; others fill what its agent left. Its work comes home.

    Without the reserve recovery cannot write its log.
    """
    script = f"echo work > work; git add work; git commit -qm work; exec python3 - <<'END'\n{BEGIN}{code}time.sleep(600)\nEND\n"
    blind = (sys.executable, "-c", "from tests.support.weakened import main; main()", "no_disk_guard")
    with mounted_disk(tmp_path, 200 * MIB) as disk:
        product = replace(product, variables={"XDG_STATE_HOME": os.fspath(disk), "PYTHONPATH": os.fspath(ROOT)})
        child = replace(product, launcher=blind).start(script, *NET)
        try:
            await_full(disk, child)
        finally:
            os.kill(child.pid, signal.SIGKILL)
            child.communicate(timeout=60)
        await_no_agent(disk)
        fill(disk)
        ran = product.command("recover")
        assert ran.status == 0, ran.stderr
        (branch,) = (name for name in product.branches() if name != "main")
        assert product.git("cat-file", "-p", f"{branch}:work") == "work"


def await_full(disk: Path, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert child.poll() is None, child.communicate()[1]
        found = os.statvfs(disk)
        if found.f_favail == 0 or found.f_bavail * found.f_frsize < MIB:
            return
        time.sleep(0.1)
    raise AssertionError("the disk was never full")


def await_no_agent(disk: Path) -> None:
    """Its processes end with the launcher, a little later; its open file with them."""
    (session,) = (disk / "containai/sessions").iterdir()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        groups = Path("/sys/fs/cgroup").rglob(f"containai-{session.name}-agent/cgroup.procs")
        if not any(group.read_text() for group in groups):
            return
        time.sleep(0.1)
    raise AssertionError("the agent lives on")


def fill(disk: Path) -> None:
    """Take all that is left."""
    try:
        with open(disk / "fill", "wb", buffering=0) as file:
            while file.write(bytes(MIB)):
                pass
    except OSError:
        pass
    try:
        for number in range(100_000):
            (disk / f"fill-{number}").touch()
    except OSError:
        pass
    found = os.statvfs(disk)
    assert found.f_bavail * found.f_frsize < MIB or found.f_favail == 0


@pytest.mark.user
def test_all_the_connections_that_are_granted(product: Product) -> None:
    """Three services, and a shell that lets the launcher open 1024 files: it has descriptors left for its guards.

    Before, 600 connections took all of them: what ran was not resolved any more, and the disk not measured.
    """
    configure(product, '[limits]\nworkspace = "64m"\n')
    servers = [socket.create_server(("127.0.0.1", 0), backlog=512) for _ in range(3)]
    ports = [server.getsockname()[1] for server in servers]
    code = f"""
kept = []
for port in {ports}:
    for _ in range(200):
        s = socket.create_connection(("127.0.0.1", port), timeout=10); kept.append(s)
time.sleep(1)
import subprocess
os.symlink("/usr/bin/true", "/tmp/other"); subprocess.run(["/tmp/other"])
write(os.open("big", os.O_CREAT | os.O_RDWR), 90)
"""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        granted = [word for port in ports for word in ("--allow-local", f"127.0.0.1:{port}")]
        result = attack(product, code, *granted)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for server in servers:
            server.close()
    assert result["reason"] == "guard", result
    assert "filled the disk" in result["problem"]
    events = [json.loads(line) for line in Path(result["event_log"]).read_text().splitlines()]
    (other,) = (event for event in events if event.get("path") == "/tmp/other")
    assert os.path.realpath("/usr/bin/true") == other["resolved"]
    assert other["parent"] > 0
