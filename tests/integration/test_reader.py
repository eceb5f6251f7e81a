"""The first process reads memory for the launcher (native/reader.c): what it hands on, and what it does not hang by.

Without Docker, as in test_join.py; the launcher's part, and that of its supervisor, is the test's.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from containai.audit.reading import read_events
from containai.audit.writer import EventLog
from containai.engine.first_process import receive_report
from containai.session.engines import SUPERVISE_LIBRARY, native_file
from containai.supervise.loop import ExecSupervisor
from tests.integration.test_join import FIRST, Joined, join, streams

pytestmark = [pytest.mark.user, pytest.mark.timeout(60)]

NAMESPACE = (*FIRST, "--mount-proc")
MOST = 4096
ALLOW_ALL = struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000)  # Source: linux/filter.h: one instruction, BPF_RET
# Two pages, of which the second cannot be read; then it waits for a line.
HOLD = """
import ctypes, mmap, os, sys
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
at = libc.mmap(None, 12288, 3, 0x22, -1, 0)
ctypes.memmove(at, bytes(range(256)) * 32, 8192)
libc.mprotect(ctypes.c_void_p(at + 8192), 4096, 0)
print(os.getpid(), at, flush=True)
sys.stdin.readline()
"""
# A page whose first reader waits until somebody brings it (userfaultfd), and nobody does; then it waits for a line.
STALL = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
at = libc.mmap(None, 4096, 3, 0x22, -1, 0)
fd = libc.syscall(323, 0)
api = (ctypes.c_uint64 * 3)(0xAA, 0, 0)
area = (ctypes.c_uint64 * 4)(at, 4096, 1, 0)
for request, held in ((0xC018AA3F, api), (0xC020AA00, area)):
    if fd < 0 or libc.ioctl(fd, ctypes.c_ulong(request), held) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))
print(os.getpid(), at, flush=True)
sys.stdin.readline()
"""


class Reader:
    """The supervisor's end."""

    def __init__(self, fd: int) -> None:
        self.socket = socket.socket(fileno=fd)
        self.socket.settimeout(20)
        self._number = 0

    def ask(self, process: int, address: int, length: int) -> None:
        """Send a request, as native/reading.h has it."""
        self._number += 1
        self.socket.send(struct.pack("<QQiI", self._number, address, process, length))

    def read(self, process: int, address: int, length: int) -> bytes:
        """Ask, and take the answer."""
        self.ask(process, address, length)
        answer = self.socket.recv(65536)
        number, got = struct.unpack_from("<QQ", answer)
        assert (number, got) == (self._number, len(answer) - 16)
        return answer[16:]


@contextmanager
def agent(joined: Joined, program: str, **changes: object) -> Iterator[tuple[Reader, int, int, int]]:
    """A program of the agent's that has said its number and an address; the reader, those two, and its input."""
    read_input, write_input = os.pipe()
    with streams() as (fds, output):
        joined.hand([sys.executable, "-c", program], [read_input, *fds[1:]], read_inside=True, **changes)
        os.close(read_input)
        report = receive_report(joined.control)
        assert len(report.fds) == 1, report.problem
        reader = Reader(report.fds[0])
        joined.control.settimeout(20)
        joined.control.send(b"G")
        said = os.read(output, 100).split()
        assert len(said) == 2, said
        try:
            yield reader, int(said[0]), int(said[1]), write_input
        finally:
            os.close(write_input)
            reader.socket.close()


def test_memory_is_handed_on_as_far_as_it_can_be_read(tmp_path: Path) -> None:
    held = bytes(range(256)) * 32
    with join(tmp_path, *NAMESPACE) as joined, agent(joined, HOLD) as (reader, process, at, write):
        assert reader.read(process, at, 256) == held[:256]
        assert reader.read(process, at + 4000, 200) == held[4000:4200], "over the end of a page"
        assert reader.read(process, at, 0xFFFFFFFF) == held[:MOST], "no more than an answer holds"
        # PROT_NONE keeps the process off, and /proc/PID/mem not; what is mapped nowhere nobody can read.
        assert reader.read(process, at + 8192 - 10, MOST)[:10] == held[-10:]
        for address in (0, 1 << 47, 1 << 63, 2**64 - 1, 0xFFFF800000000000):
            assert reader.read(process, address, 64) == b"", hex(address)
        for number in (0, -1, 1, 999_999):  # the first process itself is closed, to itself, too
            assert number == 1 or reader.read(number, at, 64) == b""
        os.write(write, b"\n")
        assert joined.control.recv(64) == b"E" + bytes(4)
        assert joined.child.wait(20) == 0


@pytest.mark.parametrize("request_", [b"", b"x", bytes(23), bytes(25), bytes(4096)])
def test_what_is_no_request_ends_the_reader_and_not_the_agent(tmp_path: Path, request_: bytes) -> None:
    with join(tmp_path, *NAMESPACE) as joined, agent(joined, HOLD) as (reader, _, _, write):
        if request_:
            reader.socket.send(request_)
        else:
            reader.socket.shutdown(socket.SHUT_WR)
        assert reader.socket.recv(100) == b"", "no answer, and the end"
        os.write(write, b"\n")
        assert joined.control.recv(64) == b"E" + bytes(4)
        assert joined.child.wait(20) == 0


def test_a_reader_that_waits_holds_up_neither_the_agents_end_nor_the_containers(tmp_path: Path) -> None:
    """Here for a launcher that takes no answer; where a file system is slow, it waits for that."""
    with join(tmp_path, *NAMESPACE) as joined, agent(joined, HOLD) as (reader, process, at, write):
        reader.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                reader.ask(process, at, MOST)
        os.write(write, b"\n")
        assert joined.control.recv(64) == b"E" + bytes(4)
        assert joined.child.wait(20) == 0


@pytest.mark.needs("root")
def test_a_page_that_somebody_has_to_bring_cannot_be_read(tmp_path: Path) -> None:
    """The agent's filter refuses userfaultfd; this one does not, and the reader does not wait for it either."""
    namespace = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    with (
        join(tmp_path, *namespace) as joined,
        agent(joined, STALL, seccomp_filter=ALLOW_ALL) as (reader, process, at, write),
    ):
        assert reader.read(process, at, 64) == b""
        os.write(write, b"\n")
        assert joined.control.recv(64) == b"E" + bytes(4)


@contextmanager
def supervised(
    tmp_path: Path, answer: Callable[[socket.socket], None] | None
) -> Iterator[tuple[Joined, ExecSupervisor, EventLog]]:
    """An agent that runs touch, and a supervisor whose reader is another than the first process; None: it itself."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    log = EventLog(tmp_path / "events.jsonl", "0" * 12)
    with join(tmp_path, *NAMESPACE) as joined, streams() as (fds, _), ours, theirs:
        agent_filter = native_file("agent.bpf").read_bytes()
        joined.hand(["/usr/bin/touch", "ran"], fds, read_inside=True, supervised=True, seccomp_filter=agent_filter)
        report = receive_report(joined.control)
        listener, memory = report.fds
        supervisor = ExecSupervisor(
            listener,
            log,
            lambda _: None,
            library=native_file(SUPERVISE_LIBRARY),
            spool=tmp_path / "spool",
            memory_fd=memory if answer is None else theirs.fileno(),
        )
        supervisor.start()
        thread = threading.Thread(target=answer or (lambda _: None), args=(ours,))
        thread.start()
        joined.control.settimeout(20)
        joined.control.send(b"G")
        yield joined, supervisor, log
        supervisor.stop()
        thread.join(20)
        for fd in report.fds:
            os.close(fd)
    log.close()


def test_a_supervisor_records_what_the_first_process_read(tmp_path: Path) -> None:
    with supervised(tmp_path, None) as (joined, supervisor, log):
        assert joined.control.recv(64) == b"E" + bytes(4)
        supervisor.stop()
        (event,) = read_events(log.path)
        assert (event["path"], event["argv"]) == ("/usr/bin/touch", ["/usr/bin/touch", "ran"])
        assert (tmp_path / "ran").exists()


def _close(reader: socket.socket) -> None:
    reader.close()


def _answer(form: str, number: int, got: int, more: int) -> Callable[[socket.socket], None]:
    """Something else than what was asked for: with another number, or of another length."""

    def answer(reader: socket.socket) -> None:
        asked, _, _, _ = struct.unpack("<QQiI", reader.recv(24))
        reader.send(struct.pack(form, asked + number, got) + b"/usr/bin/touch".ljust(got + more, b"\0"))

    return answer


LIES = {
    "closes": _close,
    "another number": _answer("<QQ", 1, 256, 0),
    "longer than it says": _answer("<QQ", 0, 20, 5),
    "shorter than it says": _answer("<QQ", 0, 25, -5),
    "longer than asked": _answer("<QQ", 0, 257, 0),
    "no head": _answer("<IQ", 0, 0, 0),
    "nothing read": _answer("<QQ", 0, 0, 0),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_is_no_answer_is_nothing_that_was_read(tmp_path: Path, lie: str) -> None:
    with supervised(tmp_path, LIES[lie]) as (joined, supervisor, log):
        assert joined.control.recv(64)[:1] == b"X"  # EFAULT
        supervisor.stop()
        (event,) = read_events(log.path)
        assert "path" in event["unreadable"]
        assert (event["verdict"], event["argv"]) == ("deny", [])
        assert not (tmp_path / "ran").exists()


def test_a_supervisor_does_not_wait_for_an_answer_beyond_the_end(tmp_path: Path) -> None:
    asked = threading.Event()

    def never(reader: socket.socket) -> None:
        reader.recv(24)
        asked.set()

    with supervised(tmp_path, never) as (joined, supervisor, log):
        assert asked.wait(20)
        supervisor.stop()
        assert [event["unreadable"] for event in read_events(log.path)] == [["path", "argv"]]
        assert joined.control.recv(64)[:1] == b"X"
        assert not (tmp_path / "ran").exists()
