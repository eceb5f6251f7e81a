"""The launcher's talk with a container's first process, ``containai-shim``: the same for every engine."""

from __future__ import annotations

import array
import contextlib
import errno
import os
import select
import signal
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from containai.engine.protocol import ContainerSpec, EffectiveConfig, ExitResult, Stdio
from containai.engine.readback import read_effective_config
from containai.errors import EngineError
from containai.host.cgroups import Freezer
from containai.host.clock import monotonic_s
from containai.record import dataclass

if TYPE_CHECKING:
    from containai.engine.usher import Usher

END_TIMEOUT_S = 10.0
REPORT_TIMEOUT_S = 30.0
_MAX_FDS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the first process said once all its guards were on.

    Attributes:
        pid: Its process id, vouched for by the kernel; 0 when it did not come so far.
        fds: The descriptors that it handed over; closed on exec.
        problem: Why it did not come so far, where it could say it.
    """

    pid: int
    fds: tuple[int, ...]
    problem: str = ""


def memory_file(content: bytes) -> int:
    """A descriptor of a file in memory with this content."""
    fd = os.memfd_create("containai", os.MFD_CLOEXEC)
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def receive_report(control: socket.socket) -> Report:
    """Wait for the report.

    Preconditions: ``SO_PASSCRED`` is set on ``control``.

    Raises:
        EngineError: It did not come in time.
    """
    control.settimeout(REPORT_TIMEOUT_S)
    room = socket.CMSG_SPACE(_MAX_FDS * 4) + socket.CMSG_SPACE(struct.calcsize("3i"))
    try:
        message, ancillary, _, _ = control.recvmsg(512, room, socket.MSG_CMSG_CLOEXEC)
    except OSError as error:
        raise EngineError(
            "the container did not report", code="engine.create", details=str(error), remedy=["containai doctor"]
        ) from error
    pid, fds = 0, array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        elif level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            pid = struct.unpack("3i", data)[0]
    if message != b"R" or pid <= 0:
        for fd in fds:
            os.close(fd)
        said = message[1:].decode(errors="replace").strip() if message[:1] == b"F" else ""
        return Report(pid=0, fds=(), problem=said)
    control.settimeout(None)
    return Report(pid=pid, fds=tuple(fds))


class FirstProcess:
    """A container as its first process shows it (see ``engine.protocol.Container``); engines add its end.

    Raises:
        EngineError: The wrong number of descriptors came; they are closed.
    """

    def __init__(
        self, spec: ContainerSpec, stdio: Stdio, control: socket.socket, report: Report, *, read_inside: bool = False
    ) -> None:
        expected = len(spec.listeners) + stdio.terminal + bool(spec.preparation) + spec.supervised + read_inside
        if len(report.fds) != expected:
            for fd in report.fds:
                os.close(fd)
            raise EngineError(
                "the container handed over the wrong descriptors",
                code="engine.create",
                details=f"{len(report.fds)} instead of {expected}",
            )
        rest = list(report.fds[len(spec.listeners) :])
        self.pid = report.pid
        self.listeners = report.fds[: len(spec.listeners)]
        self.terminal_fd = rest.pop(0) if stdio.terminal else -1
        self.preparation_fd = rest.pop(0) if spec.preparation else -1
        self.notify_fd = rest.pop(0) if spec.supervised else -1
        self.memory_fd = rest.pop(0) if read_inside else -1
        self.failed_exec_errno = 0
        self._control = control
        self._pidfd = os.pidfd_open(report.pid)
        self._result: ExitResult | None = None
        self._preparing: Usher | None = None

    def inspect(self) -> EffectiveConfig:
        """Read the effective configuration back from the kernel."""
        return read_effective_config(self.pid)

    def engine_drift(self) -> tuple[str, ...]:
        """No engine stands between the launcher and the kernel."""
        return ()

    def welcome(self, visitor: Callable[[int], None]) -> None:
        """Nobody can enter from outside."""

    def prepare(self) -> None:
        """Give the first process the word to run the preparation."""
        if self.notify_fd >= 0:
            from containai.engine.usher import Usher  # not for every engine

            self._preparing = Usher(os.dup(self.notify_fd))
        self._tell(b"P")

    def start(self) -> None:
        """Give the first process the word to run the agent."""
        self._end_preparing()
        self._result = None
        self._tell(b"G")

    def _end_preparing(self) -> None:
        if self._preparing is not None:
            self._preparing.close()
            self._preparing = None

    def signal(self, number: int) -> None:
        """Send a signal to the agent's process group; no effect after its end."""
        with contextlib.suppress(EngineError):
            self._tell(bytes((ord("K"), number)))

    def _tell(self, message: bytes) -> None:
        try:
            self._control.send(message)
        except OSError as error:
            raise EngineError(
                "the container ended unexpectedly",
                code="engine.gone",
                details=str(error),
                remedy=["containai recover", "containai doctor"],
            ) from error

    def wait(self, deadline_s: float | None, wake_fd: int = -1) -> ExitResult | None:
        """Wait for the end; None at the deadline, or when ``wake_fd`` becomes readable."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._pidfd, select.POLLIN)
        if wake_fd >= 0:
            poll.register(wake_fd, select.POLLIN)
        while self._result is None:
            left_ms = None if deadline_s is None else max(0, round((deadline_s - monotonic_s()) * 1000))
            ready = {fd for fd, _ in poll.poll(left_ms)}
            if self._control.fileno() in ready:
                self._hear()
            elif self._pidfd in ready:  # killed from outside: nothing was said
                self._result = ExitResult(status=128 + signal.SIGKILL)
            elif not ready or wake_fd in ready:
                return None
        return self._result

    def _hear(self) -> None:
        try:
            message = self._control.recv(64)
        except OSError:
            message = b""
        if len(message) == 5 and message[:1] in (b"E", b"Z"):
            self._result = ExitResult(status=_shell_status(struct.unpack("<i", message[1:])[0]))
        elif len(message) == 5 and message[:1] == b"X":
            self.failed_exec_errno = struct.unpack("<i", message[1:])[0]
        else:
            self._result = ExitResult(status=128 + signal.SIGKILL)

    def kill(self) -> None:
        """End every process of the container at once; safe from any thread."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def find_freezer(self) -> Freezer | None:
        """None: an engine whose container would stand still for ever when the launcher is killed has none."""
        return None

    def await_end(self) -> None:
        """Wait until every process is gone, once it was killed.

        Raises:
            EngineError: The kernel does not end them.
        """
        # The kernel reports the first process as ended only after every other one is gone.
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if not poll.poll(END_TIMEOUT_S * 1000):
            raise EngineError(
                "the container does not end",
                code="engine.stuck",
                details=f"process {self.pid}",
                remedy=["containai recover   # when the launcher is gone"],
            )

    def end_first_process(self) -> None:
        """End every process of the container and close the talk. Idempotent.

        Raises:
            EngineError: The kernel does not end it.
        """
        self._control.close()
        self._end_preparing()
        if self._pidfd >= 0:
            self.kill()
            self.await_end()
            os.close(self._pidfd)
            self._pidfd = -1

    def close_descriptors(self) -> None:
        """Close what the first process handed over. Idempotent."""
        for fd in (*self.listeners, self.notify_fd, self.memory_fd, self.terminal_fd, self.preparation_fd):
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)
        self.listeners = ()
        self.notify_fd = self.memory_fd = self.terminal_fd = self.preparation_fd = -1

    def why_not_run(self) -> str:
        """Why the program could not be run, or nothing."""
        if not self.failed_exec_errno:
            return ""
        return f"{errno.errorcode.get(self.failed_exec_errno, '')}: {os.strerror(self.failed_exec_errno)}"


def _shell_status(wait_status: int) -> int:
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code
