"""Letting execs go on that nobody records: those of our own git, in the containers around the agent and before it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import threading

# Source: linux/seccomp.h, seccomp_unotify(2)
_RECV, _SEND, _CONTINUE = 0xC0502100, 0xC0182101, 1
_NOTIFICATION_BYTES = 80


def let_continue(listener: int) -> None:
    """Answer one notification: the exec goes on."""
    notification = bytearray(_NOTIFICATION_BYTES)
    try:
        fcntl.ioctl(listener, _RECV, notification, True)
        (number,) = struct.unpack_from("<Q", notification)
        fcntl.ioctl(listener, _SEND, struct.pack("<QqiI", number, 0, 0, _CONTINUE))
    except (FileNotFoundError, InterruptedError):
        pass  # a signal took the exec back; where it is tried again, it asks again


class Usher:
    """Lets every exec of a container go on, while it runs our own git.

    Args:
        listener: Of its notifications; closed at the end.
    """

    def __init__(self, listener: int) -> None:
        self._listener = listener
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._run, name="usher", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop. Idempotent."""
        if self._stop_write >= 0:
            os.close(self._stop_write)
            self._stop_write = -1
            self._thread.join()
            os.close(self._stop_read)
            os.close(self._listener)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._stop_read, select.POLLIN)
        while True:
            events = dict(poll.poll())
            gone = events.get(self._listener, 0) & (select.POLLHUP | select.POLLERR | select.POLLNVAL)
            if gone or self._stop_read in events:
                return
            with contextlib.suppress(OSError):
                let_continue(self._listener)
