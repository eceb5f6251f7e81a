"""Signals that end a session: noted by a handler, acted on where the launcher waits."""

from __future__ import annotations

import os
import signal
from types import FrameType

from containai.errors import ContainaiError

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(ContainaiError):
    """The user ended a step around the agent: the launch, or the return of the work."""

    default_code = "session.interrupted"

    def __init__(self, number: int, step: str = "launch") -> None:
        super().__init__(f"the {step} step was interrupted by {signal.Signals(number).name}")
        self.exit_status = 128 + number


class EndingSignals:
    """Collects SIGINT, SIGTERM and SIGHUP (a dead terminal) from construction on."""

    def __init__(self) -> None:
        self.wake_fd, self._write_fd = os.pipe()
        os.set_blocking(self.wake_fd, False)
        os.set_blocking(self._write_fd, False)
        for number in ENDING:
            signal.signal(number, self._note)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        os.write(self._write_fd, bytes((number,)))

    def take(self) -> int | None:
        """The oldest signal not yet taken."""
        try:
            return os.read(self.wake_fd, 1)[0]
        except BlockingIOError:
            return None

    def stop_if_raised(self) -> None:
        """Give up the launch when the user asked for it.

        Raises:
            Interrupted: A signal came.
        """
        number = self.take()
        if number is not None:
            raise Interrupted(number)
