"""The short containers around the agent's: one prepares the workspace, one brings the work out."""

from __future__ import annotations

import contextlib
import os
import threading

from containai.audit.writer import EventLog
from containai.engine.protocol import Container, ContainerSpec, Engine, ExitResult, Stdio
from containai.engine.verify import find_drift
from containai.errors import DriftError, WorkspaceError
from containai.git_return.quarantine import Quarantine
from containai.git_return.server import ReturnServer
from containai.host.clock import monotonic_s
from containai.record import dataclass
from containai.session.signals import EndingSignals, Interrupted

_MAX_OUTPUT_BYTES = 256 * 1024
_CHUNK = 16384


@dataclass(frozen=True, slots=True, kw_only=True)
class Chore:
    """What a housekeeping container did.

    Trust: ``output`` was written inside and may be the agent's making; show it only sanitised.
    """

    status: int
    output: bytes


def create_verified(engine: Engine, spec: ContainerSpec, stdio: Stdio) -> Container:
    """Create a container and read its guards back (I11).

    Raises:
        DriftError: It is not what was planned; it has been destroyed.
    """
    return verified(engine, spec, engine.create(spec, stdio))


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
) -> Chore:
    """Run one housekeeping container to its end.

    Args:
        signals: The user's requests to end; None where nobody asks.
        patience: How many of them are let pass.

    Raises:
        WorkspaceError: It took longer than ``timeout_s``.
        Interrupted: The user asked often enough.
    """
    with contextlib.ExitStack() as undo:
        stdin = os.open(os.devnull, os.O_RDONLY)
        undo.callback(os.close, stdin)
        read, write = os.pipe()
        if os.geteuid() == 0:
            os.fchown(write, spec.identity.agent_uid, -1)
        collected = Collector(read)
        try:
            container = create_verified(engine, spec, Stdio(stdin=stdin, stdout=write, stderr=write))
        finally:
            os.close(write)
        undo.callback(container.destroy)
        server = ReturnServer(container.listeners[0], quarantine, log)
        undo.callback(server.stop)
        server.start()
        container.start()
        result = await_chore(container, spec.label, timeout_s, signals, patience)
    return Chore(status=result.status, output=collected.result())


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
        raise WorkspaceError(f"the {label} step took longer than {timeout_s:g} s", code="workspace.timeout")
    return result


class Collector:
    """Reads a pipe to its end, keeping a bounded beginning."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._kept = b""
        self._thread = threading.Thread(target=self._read, daemon=True, name="chore-output")
        self._thread.start()

    def _read(self) -> None:
        with os.fdopen(self._fd, "rb", buffering=0) as pipe:
            while chunk := pipe.read(_CHUNK):
                self._kept = (self._kept + chunk)[:_MAX_OUTPUT_BYTES]

    def result(self) -> bytes:
        """What there was, once the pipe has ended."""
        self._thread.join(5.0)
        return self._kept
