"""The short containers around the agent's: one prepares the workspace, one brings the work out."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from pathlib import Path

from containai.audit.writer import EventLog
from containai.engine.protocol import Container, ContainerSpec, Engine, ExitResult, Stdio
from containai.engine.verify import find_drift
from containai.errors import ContainaiError, DriftError, EngineError, WorkspaceError
from containai.git_return.quarantine import Quarantine
from containai.git_return.server import ReturnServer
from containai.host.clock import monotonic_s
from containai.record import dataclass
from containai.session.disk import RESERVE_BYTES, DiskGuard
from containai.session.engines import SUPERVISE_LIBRARY, native_file
from containai.session.filling import CheckoutGuard
from containai.session.signals import EndingSignals, Interrupted
from containai.supervise.housekeeping import OwnPrograms
from containai.supervise.loop import ExecSupervisor
from containai.supervise.spool import Denials, spool_name

_MAX_OUTPUT_BYTES = 256 * 1024
_CHUNK = 16384


@dataclass(frozen=True, slots=True, kw_only=True)
class Chore:
    """What a housekeeping container did.

    Trust: ``output`` and ``errors`` were written inside and may be the agent's making; show them only sanitised.
    """

    status: int
    output: bytes
    errors: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedPlaces:
    """What a container is watched with.

    Attributes:
        folder: The session's, where its records go.
        workspace: The session's, whose size is watched.
    """

    folder: Path
    workspace: Path


def verified(engine: Engine, spec: ContainerSpec, container: Container) -> Container:
    """Read a fresh container's guards back (I11).

    Raises:
        DriftError: It is not what was planned; it has been destroyed.
    """
    try:
        drift = (*find_drift(spec, container.inspect(), engine.expectation), *container.engine_drift())
        if drift:
            raise DriftError(
                "the container differs from its plan, and was destroyed",
                details="\n".join(drift),
                remedy=["containai doctor"],
            )
    except BaseException:
        container.destroy()
        raise
    return container


def run_chore(
    engine: Engine,
    spec: ContainerSpec,
    quarantine: Quarantine,
    log: EventLog,
    timeout_s: float,
    signals: EndingSignals | None = None,
    patience: int = 0,
    watch: WatchedPlaces | None = None,
    ahead: PendingChore | None = None,
) -> Chore:
    """Run one housekeeping container to its end.

    Args:
        ahead: The container for it, where it has been made ahead. One that does not wait any more, or never came
            about, is replaced.
        signals: The user's requests to end; None where nobody asks.
        patience: How many of them are let pass.
        watch: What it is watched with, if it is: its disk, and the execs of a supervised one.

    Raises:
        WorkspaceError: It took longer than ``timeout_s``, or filled the disk.
        AuditError: Its execs could not be recorded.
        Interrupted: The user asked often enough.
    """
    with contextlib.ExitStack() as undo:
        made, container = _complete(engine, spec, ahead)
        undo.callback(container.destroy)
        server = ReturnServer(container.listeners[0], quarantine, log)
        undo.callback(server.stop)
        server.start()
        overseer = None if watch is None else _oversee(container, spec, log, watch)
        if overseer is not None:
            undo.callback(overseer.stop)
            overseer.start()
        container.start()
        result = await_chore(container, spec.label, timeout_s, signals, patience)
    if overseer is not None and overseer.failure is not None:
        raise overseer.failure
    return Chore(status=result.status, output=made.output.result(), errors=made.errors.result())


def await_chore(
    container: Container, label: str, timeout_s: float, signals: EndingSignals | None, patience: int = 0
) -> ExitResult:
    """Wait for what runs in a container; arguments and exceptions as those of ``run_chore``."""
    deadline = monotonic_s() + timeout_s
    result = container.wait(deadline, signals.wake_fd if signals else -1)
    while result is None and signals is not None and (number := signals.take()) is not None:
        if patience == 0:
            raise Interrupted(number, label)
        patience -= 1
        result = container.wait(deadline, signals.wake_fd)
    if result is None:
        raise WorkspaceError(
            f"the {label} step took longer than {timeout_s:g} s",
            code="workspace.timeout",
            remedy=["try again when the machine is less busy; or with less of the tree: --sparse FOLDER"],
        )
    return result


class PendingChore:
    """A housekeeping container that is being made or waits for its start, and what it will have written.

    Both outputs are sockets: unlike a pipe, one cannot be opened anew through ``/proc`` by another process of the
    container.
    """

    def __init__(self, engine: Engine, spec: ContainerSpec) -> None:
        with contextlib.ExitStack() as given:
            stdin = os.open(os.devnull, os.O_RDONLY)
            given.callback(os.close, stdin)
            ours: list[socket.socket] = []
            theirs: list[int] = []
            for _ in range(2):
                here, there = socket.socketpair()
                given.callback(there.close)
                ours.append(here)
                theirs.append(there.fileno())
            self.output, self.errors = (Collector(end.detach()) for end in ours)
            self._pending = engine.begin(spec, Stdio(stdin=stdin, stdout=theirs[0], stderr=theirs[1]))

    def complete(self) -> Container:
        """Wait until it is made, with all guards on.

        Raises:
            EngineError: It could not be made; nothing is left behind.
        """
        return self._pending.complete()

    def abandon(self) -> None:
        """Take it back. No effect once it is complete."""
        self._pending.abandon()


def _complete(engine: Engine, spec: ContainerSpec, ahead: PendingChore | None) -> tuple[PendingChore, Container]:
    """The container, verified: the one that was made ahead, where it still waits."""
    if ahead is not None and (waiting := _waiting(ahead)) is not None:
        return ahead, verified(engine, spec, waiting)
    made = PendingChore(engine, spec)
    return made, verified(engine, spec, made.complete())


def _waiting(ahead: PendingChore) -> Container | None:
    """What was made ahead; None where that failed, or it has ended: while the agent ran, it may have been to blame."""
    try:
        container = ahead.complete()
    except EngineError:
        return None
    if container.wait(monotonic_s()) is None:
        return container
    container.destroy()
    return None


def _oversee(
    container: Container, spec: ContainerSpec, log: EventLog, watch: WatchedPlaces
) -> _Overseer | CheckoutGuard:
    if spec.supervised:
        return _Overseer(container, spec, log, watch)
    return CheckoutGuard(container, watch.folder, watch.workspace, spec.limits.workspace_bytes)


class _Overseer:
    """What watches a supervised housekeeping container; a guard that can no longer do its work ends it."""

    def __init__(self, container: Container, spec: ContainerSpec, log: EventLog, watch: WatchedPlaces) -> None:
        self.failure: ContainaiError | None = None
        self._container = container
        self._supervisor = ExecSupervisor(
            container.notify_fd,
            log,
            self._fail,
            library=native_file(SUPERVISE_LIBRARY),
            spool=watch.folder / spool_name(spec.label),
            denials=Denials(files=frozenset(spec.denied)).for_housekeeping(),
            rules=OwnPrograms(spec.command[0]),
            container=spec.label,
            memory_fd=container.memory_fd,
        )
        # A copy of every file, packed; and what the agent could still write in the moment when it was ended for that.
        most_bytes = 2 * spec.limits.workspace_bytes + 4 * RESERVE_BYTES
        self._disk = DiskGuard(
            watch.folder,
            watch.workspace,
            container.pid,
            most_bytes,
            self._fail,
            reserve_bytes=RESERVE_BYTES // 8,
            reserve_files=0,  # what is kept for the end is for this
        )

    def start(self) -> None:
        self._supervisor.start()
        self._disk.start()

    def stop(self) -> None:
        self._disk.stop()
        self._supervisor.stop()

    def _fail(self, error: ContainaiError) -> None:
        self.failure = error
        self._container.kill()


class Collector:
    """Reads a stream to its end, keeping a bounded beginning.

    Args:
        fd: A pipe or a socket, the reader's from now on.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._kept = b""
        self._thread = threading.Thread(target=self._read, daemon=True, name="chore-output")
        self._thread.start()

    def _read(self) -> None:
        with os.fdopen(self._fd, "rb", buffering=0) as stream:
            while chunk := stream.read(_CHUNK):
                self._kept = (self._kept + chunk)[:_MAX_OUTPUT_BYTES]

    def result(self) -> bytes:
        """What there was, once the pipe has ended."""
        self._thread.join(5.0)
        return self._kept
