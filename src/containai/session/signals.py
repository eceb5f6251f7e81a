"""Signals that end a session: noted by a handler, acted on where the launcher waits."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    """Collects SIGINT, SIGTERM and SIGHUP (a dead terminal) from construction on.

    The kernel may give a signal to any thread, and Python's handlers run in the main one, which then goes on waiting
    and knows nothing. So the number is written by the interpreter, in whichever thread, and a thread passes it on.
    """

    def __init__(self) -> None:
        self.wake_fd, self._write_fd = os.pipe()
        raised, raise_fd = os.pipe()
        for fd in (self.wake_fd, self._write_fd, raise_fd):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(raise_fd, warn_on_full_buffer=False)
        for number in ENDING:
            signal.signal(number, _keep)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        threading.Thread(target=self._pass_on, args=(raised,), name="signals", daemon=True).start()

    def _pass_on(self, raised: int) -> None:
        while numbers := os.read(raised, 64):
            with suppress(BlockingIOError):  # 65,536 of them wait already
                os.write(self._write_fd, bytes(number for number in numbers if number in ENDING))

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


@contextmanager
def heeded_signals() -> Iterator[None]:
    """While this lasts, the signals that end a session end the launcher, as they end any program."""
    before = [(number, signal.signal(number, signal.SIG_DFL)) for number in ENDING]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _keep(_number: int, _frame: FrameType | None) -> None:
    """A handler, so that the signal does not end the launcher."""
