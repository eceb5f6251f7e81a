"""What a process holds without a path is found, or it is told that something is hidden."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from containai.host import holdings
from containai.host.cgroups.layout import Layout
from containai.host.clock import monotonic_s
from containai.host.holdings import (
    Holdings,
    locks_of_no_other,
    locks_of_the_machine,
    look,
    tasks_beside,
    unread_netlink_bytes,
)

pytestmark = pytest.mark.user
MIB = 1024 * 1024
BEGIN = """
import ctypes, fcntl, mmap, os, socket, struct, sys, threading, time
def hidden(size=4 << 20):
    fd = os.open("held", os.O_RDWR | os.O_CREAT, 0o600)
    os.write(fd, bytes(size)); os.fsync(fd); os.unlink("held")
    return fd
def ready():
    print("ready", flush=True)
    time.sleep(600)
"""


class Holder:
    """Runs a program in a folder, and looks at it alone."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place, self._monkeypatch = place, monkeypatch
        self.children: list[subprocess.Popen[bytes]] = []

    def look(self, code: str, *, most_locks: int = -1) -> Holdings:
        child = subprocess.Popen(
            [sys.executable, "-c", BEGIN + code], cwd=self.place, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        self.children.append(child)
        assert child.stdout
        assert child.stdout.readline() == b"ready\n"
        tasks = tuple(int(task) for task in os.listdir(f"/proc/{child.pid}/task"))
        self._monkeypatch.setattr(holdings, "tasks_beside", lambda _: tasks)
        return look(1, self.place, most_locks=most_locks)


@pytest.fixture
def holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Holder]:
    made = Holder(tmp_path, monkeypatch)
    yield made
    for child in made.children:
        child.kill()
        child.communicate(timeout=30)


def test_a_process_that_holds_nothing(holder: Holder) -> None:
    assert holder.look("ready()", most_locks=10) == Holdings(unlinked_bytes=0, locks=0, whole=True)


def test_an_open_file_without_a_name_is_counted_once(holder: Holder) -> None:
    found = holder.look("fd = hidden(); os.dup(fd)\nopen('named', 'wb').write(bytes(1 << 20))\nready()")
    assert 4 * MIB <= found.unlinked_bytes < 5 * MIB
    assert found.whole


def test_a_thread_with_descriptors_of_its_own(holder: Holder) -> None:
    code = """
def apart():
    assert ctypes.CDLL(None).unshare(0x400) == 0  # CLONE_FILES
    hidden(); print("ready", flush=True); time.sleep(600)
threading.Thread(target=apart).start(); time.sleep(600)
"""
    assert holder.look(code).unlinked_bytes >= 4 * MIB


def test_a_file_that_is_only_mapped(holder: Holder) -> None:
    found = holder.look("fd = hidden(); kept = mmap.mmap(fd, 4096); os.close(fd); ready()")
    # Python keeps a duplicate of the descriptor: without it only root is told how much that is.
    assert found.unlinked_bytes >= 4 * MIB
    mapped = """
fd = hidden(); libc = ctypes.CDLL(None); libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
assert libc.mmap(None, 4096, 1, 1, fd, 0) != 2 ** 64 - 1
os.close(fd); ready()
"""
    found = holder.look(mapped)
    if os.geteuid() == 0:
        assert found.unlinked_bytes >= 4 * MIB
    else:
        assert not found.whole


def test_a_program_without_a_name(holder: Holder) -> None:
    code = """
import shutil
shutil.copyfile("/bin/sleep", "mine"); os.chmod("mine", 0o700)
with open("mine", "ab") as file: file.write(bytes(4 << 20)); os.fsync(file.fileno())
if os.fork() == 0: time.sleep(0.5); os.unlink("mine"); print("ready", flush=True); os._exit(0)
os.execv("./mine", ["mine", "600"])
"""
    assert holder.look(code).unlinked_bytes >= 4 * MIB


def test_a_descriptor_on_its_way_through_a_socket_is_told(holder: Holder) -> None:
    code = """
one, other = socket.socketpair()
fd = hidden(); socket.send_fds(one, [b"x"], [fd]); os.close(fd); ready()
"""
    found = holder.look(code)
    assert found.unlinked_bytes == 0
    assert not found.whole


def test_a_process_that_does_not_let_itself_be_looked_at(holder: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root sees it all the same; an ordinary user does not, and says so where it is a process of the container's."""
    code = "hidden(); assert ctypes.CDLL(None).prctl(4, 0) == 0; ready()"  # PR_SET_DUMPABLE
    monkeypatch.setattr(holdings, "_is_inside", lambda _: True)
    found = holder.look(code)
    if os.geteuid() == 0:
        assert found.unlinked_bytes >= 4 * MIB
    else:
        assert not found.whole
        monkeypatch.setattr(holdings, "_is_inside", lambda _: False)
        assert look(1, holder.place).whole


LOCKS = """
fd = os.open("locked", os.O_RDWR | os.O_CREAT, 0o600)
for n in range(1500): fcntl.lockf(fd, fcntl.LOCK_EX, 1, 2 * n)
own = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 1, 0)
for n in range(700):
    other = os.open("others", os.O_RDWR | os.O_CREAT, 0o600) if n == 0 else other
    fcntl.fcntl(other, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 2 * n, 1, 0))  # F_OFD_SETLK
ready()
"""


def test_locks_of_both_kinds_are_counted(holder: Holder) -> None:
    before = locks_of_the_machine(1 << 30)
    found = holder.look(LOCKS, most_locks=10_000)
    assert found.locks == 2200
    assert locks_of_the_machine(1 << 30) >= before + 2100  # others may end meanwhile
    assert locks_of_the_machine(100) == 101
    assert look(1, holder.place, most_locks=1000).locks > 1000
    assert look(1, holder.place).locks == 0


def test_a_lock_is_counted_once_however_many_descriptors_show_it(holder: Holder) -> None:
    code = """
held = [os.open("shared", os.O_RDWR | os.O_CREAT, 0o600) for n in range(50)]
for fd in held: fcntl.flock(fd, fcntl.LOCK_SH)  # they look alike
spans = os.open("spans", os.O_RDWR | os.O_CREAT, 0o600)
for n in range(30): fcntl.lockf(spans, fcntl.LOCK_EX, 1, 2 * n)
for n in range(9): os.dup(spans); os.dup(held[0])
def apart():
    assert ctypes.CDLL(None).unshare(0x400) == 0  # CLONE_FILES
    ready()
for n in range(20): threading.Thread(target=time.sleep, args=(600,)).start()
threading.Thread(target=apart).start(); time.sleep(600)
"""
    assert holder.look(code, most_locks=85) == Holdings(unlinked_bytes=0, locks=80, whole=True)
    assert look(1, holder.place, most_locks=79).locks == 80


def test_a_table_that_threads_share_is_looked_at_once(holder: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
for n in range(100): os.open("held", os.O_RDWR | os.O_CREAT, 0o600)
for n in range(20): threading.Thread(target=time.sleep, args=(600,)).start()
ready()
"""
    monkeypatch.setattr(holdings, "_MOST_HELD", 300)
    assert holder.look(code).whole


LONG_PATH = """
top = os.getcwd()
for level in range(14): os.mkdir("\\n" * 255); os.chdir("\\n" * 255)  # four bytes each in maps
fd = os.open("f", os.O_RDWR | os.O_CREAT, 0o600); os.ftruncate(fd, 4096)
kept = [mmap.mmap(fd, 4096, mmap.MAP_SHARED, n % 2 and 1 or 3) for n in range(3000)]  # neighbours are not merged
os.chdir(top)
"""


def test_long_lines_about_memory_are_not_kept(holder: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    """40 MiB of them: what is beyond the bound is told, and nothing grows by it."""
    monkeypatch.setattr(holdings, "_MOST_READ_BYTES", 16 * MIB)
    tracemalloc.start()
    try:
        found = holder.look(LONG_PATH + "ready()")
        assert tracemalloc.get_traced_memory()[1] < 2 * MIB
    finally:
        tracemalloc.stop()
    assert not found.whole


def test_of_a_long_line_both_ends_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holdings, "_CHUNK", 7)  # what ends a line comes in pieces
    for length in range(3_000, 3_540):  # wherever the cut falls
        (tmp_path / "f").write_bytes(b"short\nhead " + b"x" * length + b" (deleted)\nlast\n")
        found = holdings._Look(device=0, mapped_device=b"", most_locks=0, deadline_s=monotonic_s() + 60)
        short, long, last = holdings._bounded_lines(found, tmp_path / "f")
        assert (short, last) == (b"short", b"last")
        assert long.startswith(b"head x")
        assert long.endswith(b"x (deleted)")
        assert len(long) < 1_100


@pytest.mark.parametrize(("bound", "most"), [("_MOST_HELD", 50), ("_LOOK_S", -1.0)])
def test_what_is_beyond_a_bound_is_told(
    holder: Holder, monkeypatch: pytest.MonkeyPatch, bound: str, most: float
) -> None:
    code = "kept = [os.open('held', os.O_RDWR | os.O_CREAT, 0o600) for n in range(100)]\nready()"
    assert holder.look(code).whole
    monkeypatch.setattr(holdings, bound, most)
    assert not look(1, holder.place).whole


def test_what_an_epoll_watches_is_not_read(holder: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
import select
fd, poll = os.eventfd(0), select.epoll()
for n in range(900): poll.register(os.dup(fd))
fcntl.flock(os.open("held", os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_EX)
ready()
"""
    seen: list[bytes] = []
    lines = holdings._bounded_lines

    def noted(*how: Any) -> Iterator[bytes]:
        for line in lines(*how):
            seen.append(line)
            yield line

    monkeypatch.setattr(holdings, "_bounded_lines", noted)
    assert holder.look(code, most_locks=10).locks == 1
    assert len([line for line in seen if line.startswith(b"tfd:")]) == 1


def test_locks_that_others_have_taken(holder: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose are told apart by who took them, if he lives; those of open file descriptions cannot be."""
    inside: list[int] = []
    monkeypatch.setattr(holdings, "_listed", lambda *_: tuple(inside))
    before = locks_of_no_other(1, 1 << 30)
    holder.look(LOCKS, most_locks=10_000)
    assert 650 <= locks_of_no_other(1, 1 << 30) - before <= 750
    inside.append(holder.children[0].pid)
    assert 2150 <= locks_of_no_other(1, 1 << 30) - before <= 2250
    inside.clear()
    passed_on = """
held = [os.open("passed", os.O_RDWR | os.O_CREAT, 0o600) for n in range(300)]
if os.fork() == 0:
    for fd in held: fcntl.flock(fd, fcntl.LOCK_SH)
    os._exit(0)
os.wait(); ready()
"""
    holder.look(passed_on)
    assert 950 <= locks_of_no_other(1, 1 << 30) - before <= 1050


def test_unread_answers_of_the_kernel(holder: Holder) -> None:
    before = unread_netlink_bytes(os.getpid(), 1 << 40)
    sockets = [socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) for _ in range(20)]
    for one in sockets:
        one.setblocking(False)
        for number in range(40):
            try:
                one.send(struct.pack("IHHIIB3x", 20, 18, 0x301, number, 0, 0))  # RTM_GETLINK, a dump
            except OSError:
                break
    try:
        assert unread_netlink_bytes(os.getpid(), 1 << 40) > before + 20 * 1000
        assert unread_netlink_bytes(os.getpid(), 0) > 0
    finally:
        for one in sockets:
            one.close()


def test_the_threads_of_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert os.getpid() in tasks_beside(os.getpid())
    monkeypatch.setattr(holdings, "read_layout", lambda _: Layout(hierarchies=(), membership={}))
    with pytest.raises(OSError, match="no control group"):
        tasks_beside(os.getpid())
    monkeypatch.undo()
    gone = subprocess.Popen(["true"])
    gone.wait()
    with pytest.raises(OSError, match=str(gone.pid)):
        look(gone.pid, tmp_path)
