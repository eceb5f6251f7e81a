"""Bubblewrap's process outside the container, and the leash by which it ends with the launcher."""

from __future__ import annotations

import contextlib
import os
import select
import socket

from containai.engine.first_process import END_TIMEOUT_S, REPORT_TIMEOUT_S
from containai.host import process

KILLED = "bubblewrap was killed"


class Monitor:
    """It made the container's first process and waits for its end; the kernel ends that with it.

    Args:
        child: The process.
        leash: The only descriptor of the leash's end whose closing kills the process, once the first process has
            armed it (``native/leash.c``). Owned by this object.
    """

    def __init__(self, child: process.Child, leash: int) -> None:
        self._child = child
        self._leash = leash

    def has_ended(self) -> bool:
        """Whether it is gone, by itself or killed."""
        return self._child.poll() is not None

    def await_word(self, control: socket.socket) -> str:
        """Wait until the first process has said something or ended; else what happened instead."""
        heard, handle = select.poll(), os.pidfd_open(self._child.pid)
        heard.register(control, select.POLLIN)
        either = select.poll()
        either.register(control, select.POLLIN)
        either.register(handle, select.POLLIN)
        try:
            in_time = either.poll(REPORT_TIMEOUT_S * 1000)
        finally:
            os.close(handle)
        if not in_time:
            return "it did not report"
        # An end of its own comes after the first process's.
        return "" if heard.poll(0) else KILLED

    def last_words(self) -> str:
        """What it printed on standard error; waits for its end."""
        said = b"" if self._child.stderr is None else self._child.stderr.read()
        return said.decode(errors="replace").strip()

    def end(self, patience_s: float = END_TIMEOUT_S) -> None:
        """Wait for its end, and kill it if need be. Idempotent.

        Preconditions: The control socket is closed, so that a first process that has yet to begin ends by itself.

        Args:
            patience_s: How long to wait before it is killed. A signal could hit the moment in which its other half
                waits for its word, and leave that behind; so only a short time once there was a first process.
        """
        if self._leash >= 0:
            os.close(self._leash)
            self._leash = -1
        with contextlib.suppress(process.TimeoutExpired):
            self._child.wait(timeout=patience_s)
        if not self.has_ended():
            self._child.kill()
            self._child.wait(timeout=END_TIMEOUT_S)
        if self._child.stderr is not None:
            self._child.stderr.close()
