"""Standard error, while work waits to come home: a reader who does not read keeps nothing back."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque

PATIENCE_S = 2.0
"""How long a message waits for its reader, and the last of them once more."""


class Messages:
    """Writes to standard error from a thread of its own, in order.

    A descriptor that may not wait would have to be made so (``O_NONBLOCK``), and that holds for everybody who shares
    it: the user's shell, the other end of a terminal. So the writing waits, and nobody waits for the writing.
    """

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._late = False
        self._started = False

    def write(self, text: str) -> None:
        """Write ``text``, now or, when the reader is late, behind what is still to be written."""
        with self._changed:
            self._waiting.append(text.encode(sys.stderr.encoding, "backslashreplace"))
            if not self._started:
                threading.Thread(target=self._work, daemon=True, name="messages").start()
                self._started = True
            self._changed.notify_all()
            if not self._late:
                self._late = not self._all_written()

    def finish(self) -> None:
        """Give a late reader another moment. What he has not read then is not said."""
        with self._changed:
            self._all_written()

    def _all_written(self) -> bool:
        return self._changed.wait_for(lambda: not self._waiting, PATIENCE_S)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                left = memoryview(self._waiting[0])
            try:
                while left:
                    left = left[os.write(2, left) :]
            except OSError:
                pass  # the terminal is gone; the session's end must go on
            with self._changed:
                self._waiting.popleft()
                self._late = self._late and bool(self._waiting)
                self._changed.notify_all()
