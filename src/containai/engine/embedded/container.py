"""One container of the embedded engine, from its first process's hand-over to its end."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import struct

from containai.engine.embedded.readback import read_effective_config
from containai.engine.protocol import EffectiveConfig, ExitResult
from containai.errors import EngineError
from containai.host import process
from containai.host.cgroups import Cgroup
from containai.host.clock import monotonic_s

_END_TIMEOUT_S = 10.0


class EmbeddedContainer:
    """See ``engine.protocol.Container``."""

    def __init__(
        self,
        *,
        monitor: process.Child,
        control: socket.socket,
        pid: int,
        listeners: tuple[int, ...],
        notify_fd: int,
        terminal_fd: int,
        cgroup: Cgroup | None,
    ) -> None:
        self.pid = pid
        self.listeners = listeners
        self.notify_fd = notify_fd
        self.terminal_fd = terminal_fd
        self._monitor = monitor
        self._control = control
        self._cgroup = cgroup
        self._pidfd = os.pidfd_open(pid)
        self._result: ExitResult | None = None
        self.failed_exec_errno = 0

    def inspect(self) -> EffectiveConfig:
        """Read the effective configuration back from the kernel."""
        return read_effective_config(self.pid)

    def start(self) -> None:
        """Give the first process the word to run the agent."""
        self._tell(b"G")

    def signal(self, number: int) -> None:
        """Send a signal to the agent's process group; no effect after its end."""
        with contextlib.suppress(EngineError):
            self._tell(bytes((ord("K"), number)))

    def _tell(self, message: bytes) -> None:
        try:
            self._control.send(message)
        except OSError as error:
            raise EngineError("the container ended unexpectedly", code="engine.gone", details=str(error)) from error

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
        if len(message) == 5 and message[:1] == b"E":
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

    def destroy(self) -> None:
        """End every process, close every descriptor, remove the cgroup. Idempotent."""
        self._control.close()
        if self._pidfd >= 0:
            self.kill()
            # The kernel reports the first process as ended only after every other one is gone.
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            if not poll.poll(_END_TIMEOUT_S * 1000):
                raise EngineError("the container does not end", code="engine.stuck", details=f"process {self.pid}")
            os.close(self._pidfd)
            self._pidfd = -1
        end_monitor(self._monitor)
        for fd in (*self.listeners, self.notify_fd, self.terminal_fd):
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)
        self.listeners, self.notify_fd, self.terminal_fd = (), -1, -1
        if self._cgroup is not None:
            self._cgroup.kill()
            self._cgroup.destroy()
            self._cgroup = None

    def why_not_run(self) -> str:
        """Why the program could not be run, or nothing."""
        if not self.failed_exec_errno:
            return ""
        return f"{errno.errorcode.get(self.failed_exec_errno, '')}: {os.strerror(self.failed_exec_errno)}"


def end_monitor(monitor: process.Child) -> None:
    """End bubblewrap's process outside the container, which takes the container with it."""
    if monitor.poll() is None:
        with contextlib.suppress(process.TimeoutExpired):
            monitor.wait(timeout=0.5)
    if monitor.poll() is None:
        monitor.kill()
        monitor.wait(timeout=_END_TIMEOUT_S)
    if monitor.stderr is not None:
        monitor.stderr.close()


def _shell_status(wait_status: int) -> int:
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code
