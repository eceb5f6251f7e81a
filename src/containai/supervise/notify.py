"""The kernel's seccomp notification interface: receive, look, answer. The only ioctls of the supervisor.

Source: seccomp_unotify(2), linux/seccomp.h.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_NOTIFICATION = struct.Struct("<QIIiIQ6Q")  # id, pid, flags, nr, arch, instruction pointer, args
_RESPONSE = struct.Struct("<QqiI")  # id, val, error, flags
_RECV = 0xC0502100
_SEND = 0xC0182101
_ID_VALID = 0x40082102
_SET_FLAGS = 0x40082104
_CONTINUE = 1
_SYNC_WAKE_UP = 1

_AUDIT_ARCH_X86_64 = 0xC000003E
_EXECVE, _EXECVEAT = 59, 322
_AT_EMPTY_PATH = 0x1000

_PAGE = 4096
_POINTER = struct.Struct("<Q")

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecAttempt:
    """An exec that waits for the supervisor's answer.

    Trust: ``path`` and ``argv`` come from the target's memory, which another of its threads can
    change after this was read: good for a record, not for a decision that must hold (I9).
    """

    notification: int
    pid: int
    path: str
    argv: tuple[str, ...]
    truncated: bool


class NotifyListener:
    """The supervisor's end of one container's filter."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        # Wake the target on this processor, at once: halves the cost of an exec. Linux 6.6.
        try:
            fcntl.ioctl(fd, _SET_FLAGS, _SYNC_WAKE_UP)
        except OSError:
            pass

    def attempts(self, stop_fd: int) -> Iterator[ExecAttempt]:
        """Every attempt until the last task of the container has gone, or ``stop_fd`` is readable."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(stop_fd, select.POLLIN)
        buffer = bytearray(_NOTIFICATION.size)
        while True:
            events = dict(poll.poll())
            if stop_fd in events or events.get(self._fd, 0) & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
                return
            buffer[:] = bytes(_NOTIFICATION.size)  # the kernel insists on zeroes
            try:
                fcntl.ioctl(self._fd, _RECV, buffer, True)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EINTR):  # the target was killed meanwhile
                    continue
                return
            number, pid, _, syscall, arch, _, *args = _NOTIFICATION.unpack(buffer)
            yield _read_attempt(number, pid, syscall, arch, args)

    def still_valid(self, attempt: ExecAttempt) -> bool:
        """Whether the target still waits: if not, what was read may be another process's memory."""
        try:
            fcntl.ioctl(self._fd, _ID_VALID, _POINTER.pack(attempt.notification))
        except OSError:
            return False
        return True

    def let_continue(self, attempt: ExecAttempt) -> None:
        """Let the kernel carry out the exec."""
        self._respond(_RESPONSE.pack(attempt.notification, 0, 0, _CONTINUE))

    def refuse(self, attempt: ExecAttempt, number: int = errno.EPERM) -> None:
        """Make the exec fail with an errno."""
        self._respond(_RESPONSE.pack(attempt.notification, 0, -number, 0))

    def _respond(self, response: bytes) -> None:
        try:
            fcntl.ioctl(self._fd, _SEND, response)
        except OSError as error:
            if error.errno != errno.ENOENT:  # ENOENT: the target was killed meanwhile
                raise


_MAX_PATH = 4096
_MAX_ARGUMENTS = 64
_MAX_ARGUMENT_BYTES = 1024
_MAX_VECTOR_BYTES = 4096


def _read_attempt(number: int, pid: int, syscall: int, arch: int, args: list[int]) -> ExecAttempt:
    path, cut = "", False
    argv: tuple[str, ...] = ()
    if arch == _AUDIT_ARCH_X86_64 and syscall in (_EXECVE, _EXECVEAT):
        path_at, argv_at = (args[0], args[1]) if syscall == _EXECVE else (args[1], args[2])
        path = _read_text(pid, path_at, _MAX_PATH)[0]
        if syscall == _EXECVEAT and not path and args[4] & _AT_EMPTY_PATH:
            path = _link(f"/proc/{pid}/fd/{args[0]}")
        argv, cut = _read_vector(pid, argv_at)
    return ExecAttempt(notification=number, pid=pid, path=path, argv=argv, truncated=cut)


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _read_vector(pid: int, address: int) -> tuple[tuple[str, ...], bool]:
    """The argument vector, bounded; and whether anything was left out."""
    raw = _read_memory(pid, address, (_MAX_ARGUMENTS + 1) * _POINTER.size) if address else b""
    texts: list[str] = []
    left = _MAX_VECTOR_BYTES
    cut = False
    for (pointer,) in _POINTER.iter_unpack(raw[: len(raw) - len(raw) % _POINTER.size]):
        if pointer == 0:
            break
        if len(texts) == _MAX_ARGUMENTS or left <= 0:
            return tuple(texts), True
        text, shortened = _read_text(pid, pointer, min(_MAX_ARGUMENT_BYTES, left))
        left -= len(text) + 1
        texts.append(text)
        cut = cut or shortened
    return tuple(texts), cut


def _read_text(pid: int, address: int, limit: int) -> tuple[str, bool]:
    """A C string of the target, and whether it was longer than ``limit``."""
    data = _read_memory(pid, address, min(limit, 256))
    if b"\0" not in data and len(data) == 256 and limit > 256:
        data += _read_memory(pid, address + 256, limit - 256)
    text, end, _ = data.partition(b"\0")
    return text.decode("utf-8", "backslashreplace"), not end


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _read_memory(pid: int, address: int, length: int) -> bytes:
    """Up to ``length`` bytes; fewer where the target's mapping ends."""
    buffer = ctypes.create_string_buffer(length)
    local = _IoVec(ctypes.addressof(buffer), length)
    # One remote piece a page: the call stops at the first piece that it cannot read.
    pieces, at, left = [], address, length
    while left > 0:
        part = min(left, _PAGE - at % _PAGE)
        pieces.append(_IoVec(at, part))
        at, left = at + part, left - part
    remote = (_IoVec * len(pieces))(*pieces)
    got = _libc.process_vm_readv(pid, ctypes.byref(local), 1, remote, len(pieces), 0)
    return buffer.raw[:got] if got > 0 else b""
