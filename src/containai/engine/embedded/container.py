"""One container of the embedded engine, from its first process's hand-over to its end."""

from __future__ import annotations

import socket

from containai.engine.embedded.monitor import Monitor
from containai.engine.first_process import FirstProcess, Report
from containai.engine.protocol import ContainerSpec, Stdio
from containai.host.cgroups import Cgroup, Freezer, find_freezer

_PATIENCE_S = 0.5


class EmbeddedContainer(FirstProcess):
    """See ``engine.protocol.Container``."""

    def __init__(
        self,
        spec: ContainerSpec,
        stdio: Stdio,
        control: socket.socket,
        report: Report,
        *,
        monitor: Monitor,
        cgroup: Cgroup | None,
    ) -> None:
        super().__init__(spec, stdio, control, report)
        self._monitor = monitor
        self._cgroup = cgroup

    def find_freezer(self) -> Freezer | None:
        """The kernel kills what stands still, too: the leash and the death signal hold meanwhile."""
        return find_freezer(self.pid)

    def destroy(self) -> None:
        """End every process, close every descriptor, remove the cgroup. Idempotent."""
        self.end_first_process()
        self._monitor.end(_PATIENCE_S)
        self.close_descriptors()
        if self._cgroup is not None:
            self._cgroup.kill()
            self._cgroup.destroy()
            self._cgroup = None
