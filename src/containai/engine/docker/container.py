"""One container of the Docker engine, from its first process's hand-over to its end."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

from containai.engine.docker.door import Door
from containai.engine.docker.drift import find_engine_drift
from containai.engine.docker.podman import from_podman
from containai.engine.docker.staging import Staging
from containai.engine.first_process import FirstProcess, Report
from containai.engine.protocol import ContainerSpec, Stdio
from containai.engine.usher import Usher
from containai.errors import ContainaiError
from containai.host.docker import Daemon


class Removals:
    """Containers without a process that the daemon is removing, while the launcher does something else."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._threads: list[threading.Thread] = []
        self._problems: list[str] = []

    def begin(self, identity: str) -> None:
        """Have one removed."""
        thread = threading.Thread(target=self._remove, args=(identity,), name="docker-remove")
        self._threads.append(thread)
        thread.start()

    def _remove(self, identity: str) -> None:
        try:
            self._daemon.remove(identity)
        except ContainaiError as error:
            self._problems.append(f"{error.summary}: {identity[:12]}: {error.details}")

    def settle(self) -> tuple[str, ...]:
        """Wait for all of them; in words, which are still there. Idempotent."""
        while self._threads:
            self._threads.pop().join()
        return tuple(self._problems)


class DockerContainer(FirstProcess):
    """See ``engine.protocol.Container``."""

    def __init__(
        self,
        spec: ContainerSpec,
        stdio: Stdio,
        control: socket.socket,
        report: Report,
        *,
        daemon: Daemon,
        removals: Removals,
        identity: str,
        asked: Mapping[str, Any],
        door: Door,
        usher: Usher | None,
        staging: Staging,
        podman: bool = False,
        read_inside: bool = False,
    ) -> None:
        super().__init__(spec, stdio, control, report, read_inside=read_inside)
        self._daemon, self._removals, self._identity, self._asked = daemon, removals, identity, asked
        self._door, self._usher, self._staging = door, usher, staging
        self._podman = podman
        self._exists = True

    def engine_drift(self) -> tuple[str, ...]:
        """What Docker says about the container that is not as asked for."""
        found = self._daemon.inspect(self._identity)
        return find_engine_drift(self._asked, from_podman(found, self._asked) if self._podman else found, self.pid)

    def welcome(self, visitor: Callable[[int], None]) -> None:
        """Let programs in that Docker starts in the container (``docker exec``), each with its listener."""
        self._door.open_to(visitor)

    def destroy(self) -> None:
        """End every process, close every descriptor, have the container removed. Idempotent."""
        self._door.close()
        self.end_first_process()
        if self._usher is not None:
            self._usher.close()
        self.close_descriptors()
        if self._exists:
            self._removals.begin(self._identity)
            self._exists = False
        with contextlib.suppress(OSError):
            self._staging.remove()
