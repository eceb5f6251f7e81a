"""Wait for the agent, and end it when time, the user or a failed guard says so."""

from __future__ import annotations

import signal

from containai.engine.protocol import Container
from containai.host.clock import monotonic_s
from containai.record import dataclass
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
    """

    status: int
    reason: str
    not_run: str = ""


def attend(container: Container, signals: EndingSignals, timeout_s: float | None) -> Attended:
    """Wait until the agent has ended.

    The first request to end is passed on as the signal it was (SIGTERM for a timeout), with a time
    of grace; the second, or the end of that time, kills.
    """
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
