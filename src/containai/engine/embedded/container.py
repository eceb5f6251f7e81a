"""One container of the embedded engine, from its first process's hand-over to its end."""

from __future__ import annotations

import contextlib
import socket

from containai.engine.first_process import END_TIMEOUT_S, FirstProcess, Report
from containai.engine.protocol import ContainerSpec, Stdio
from containai.host import process
from containai.host.cgroups import Cgroup


class EmbeddedContainer(FirstProcess):
    """See ``engine.protocol.Container``."""

    def __init__(
        self,
        spec: ContainerSpec,
        stdio: Stdio,
        control: socket.socket,
        report: Report,
        *,
        monitor: process.Child,
        cgroup: Cgroup | None,
    ) -> None:
        super().__init__(spec, stdio, control, report)
        self._monitor = monitor
        self._cgroup = cgroup

    def destroy(self) -> None:
        """End every process, close every descriptor, remove the cgroup. Idempotent."""
        self.end_first_process()
        end_monitor(self._monitor)
        self.close_descriptors()
        if self._cgroup is not None:
            self._cgroup.kill()
            self._cgroup.destroy()
            self._cgroup = None


def end_monitor(monitor: process.Child) -> None:
    """End bubblewrap's process outside the container, which takes the container with it."""
    if monitor.poll() is None:
        with contextlib.suppress(process.TimeoutExpired):
            monitor.wait(timeout=0.5)
    if monitor.poll() is None:
        monitor.kill()
        monitor.wait(timeout=END_TIMEOUT_S)
    if monitor.stderr is not None:
        monitor.stderr.close()
