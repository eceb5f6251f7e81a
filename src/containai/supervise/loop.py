"""The exec supervisor: a thread outside the container that records every exec before it happens."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from containai.audit.writer import EventLog, Kind
from containai.errors import AuditError
from containai.host.clock import since_process_start_s
from containai.supervise.notify import NotifyListener


class ExecSupervisor:
    """Answers one container's exec notifications.

    Order, for each exec: read what the target asks for; check that it still waits; write the
    record; only then let it continue. If the record cannot be written the exec is refused and
    ``on_failure`` is called, which ends the session (A4).
    """

    def __init__(self, notify_fd: int, log: EventLog, on_failure: Callable[[AuditError], None]) -> None:
        self._listener = NotifyListener(notify_fd)
        self._log = log
        self._on_failure = on_failure
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._run, name="exec-supervisor", daemon=True)
        self.first_exec_s: float | None = None

    def start(self) -> None:
        """Begin to answer. Until then every exec waits."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering; what still asks fails. Idempotent."""
        if self._stop_write >= 0:
            os.close(self._stop_write)
            self._stop_write = -1
            if self._thread.ident is not None:
                self._thread.join()
            os.close(self._stop_read)

    def _run(self) -> None:
        for attempt in self._listener.attempts(self._stop_read):
            if not self._listener.still_valid(attempt):
                continue
            try:
                self._log.append(
                    Kind.EXEC,
                    "exec",
                    pid=attempt.pid,
                    path=attempt.path,
                    argv=list(attempt.argv),
                    truncated=attempt.truncated,
                    verdict="allow",
                )
            except AuditError as error:
                self._listener.refuse(attempt)
                self._on_failure(error)
                continue
            if self.first_exec_s is None:
                self.first_exec_s = since_process_start_s()
            self._listener.let_continue(attempt)
