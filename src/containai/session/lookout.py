"""A guard that looks at a container again and again, until it is stopped or ends the session."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from containai.errors import ContainaiError

_FAILED_LOOKS = 3


class Lookout:
    """Calls ``look`` at each interval. What cannot be looked at several times in a row ends the session too.

    So does, at once, whatever else goes wrong in a look: without it nobody would watch any more.

    Args:
        first: The container's first process; when that is gone, nothing is looked at any more.
        interval_s: The time between two looks.
        look: Returns why the session must end, or None. Raises ``OSError`` when it sees nothing.
        on_failure: Called once, with why the session must end.
        blind: The error for a look that keeps failing.
    """

    def __init__(
        self,
        name: str,
        first: int,
        interval_s: float,
        look: Callable[[], ContainaiError | None],
        on_failure: Callable[[ContainaiError], None],
        blind: Callable[[str], ContainaiError],
    ) -> None:
        self._first, self._interval_s = first, interval_s
        self._look, self._on_failure, self._blind = look, on_failure, blind
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=name, daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more. Idempotent. A look that is under way comes to nothing, and is not waited for."""
        self._stopped.set()

    def _watch(self) -> None:
        failed = 0
        while not self._stopped.wait(self._interval_s):
            try:
                why = self._look()
                failed = 0
            except (OSError, ValueError) as error:
                if not os.path.exists(f"/proc/{self._first}"):
                    return
                failed += 1
                why = self._blind(str(error)) if failed >= _FAILED_LOOKS else None
            except Exception as error:  # noqa: BLE001 - whatever it is, even no memory
                why = self._blind(f"{type(error).__name__} {error}".rstrip())
            if why is not None:
                if not self._stopped.is_set():
                    self._on_failure(why)
                return
