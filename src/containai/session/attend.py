"""Wait for the agent, and end it when time, the user or a failed guard says so."""

from __future__ import annotations

import signal
from pathlib import Path

from containai.engine.protocol import Container
from containai.host.cgroups import memory_kills_file, read_memory_kills
from containai.host.clock import monotonic_s
from containai.record import dataclass, replace
from containai.session.signals import EndingSignals

TIMEOUT_STATUS = 124
GRACE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attended:
    """How the agent's part ended.

    Attributes:
        status: Exit status of the run.
        reason: ``exit``, ``timeout`` or the name of the signal that ended it.
        not_run: Why the program could not be run; empty when it was.
        memory_kills: How many of its processes the kernel killed for lack of memory, as far as it is known.
    """

    status: int
    reason: str
    not_run: str = ""
    memory_kills: int = 0


def attend(container: Container, signals: EndingSignals, timeout_s: float | None) -> Attended:
    """Wait until the agent has ended.

    The first request to end is passed on as the signal it was (SIGTERM for a timeout), with a time
    of grace; the second, or the end of that time, kills.
    """
    counted = _kills_file(container.pid)
    ended = _wait(container, signals, timeout_s)
    return replace(ended, memory_kills=_kills(counted))


def _kills_file(pid: int) -> Path | None:
    try:
        return memory_kills_file(pid)
    except OSError:  # it has ended already
        return None


def _kills(file: Path | None) -> int:
    """The count; 0 too where the engine has removed the group with its last process."""
    try:
        return 0 if file is None else read_memory_kills(file)
    except OSError:
        return 0


def _wait(container: Container, signals: EndingSignals, timeout_s: float | None) -> Attended:
    deadline = None if timeout_s is None else monotonic_s() + timeout_s
    ended: Attended | None = None
    while True:
        result = container.wait(deadline, signals.wake_fd)
        if result is not None:
            return ended or Attended(status=result.status, reason="exit")
        number = signals.take()
        if ended is not None:
            container.kill()
            return ended
        if number is None:
            number = signal.SIGTERM
            ended = Attended(status=TIMEOUT_STATUS, reason="timeout")
        else:
            ended = Attended(status=128 + number, reason=signal.Signals(number).name)
        container.signal(number)
        deadline = monotonic_s() + GRACE_S
