"""The exec supervisor: outside the container, it records every exec before it happens.

Two threads: one is in the loop in C (``native/supervise``) all its life and answers the kernel; the other moves the
loop's records from the spool into the chained log. Only the first one stands in the agent's way.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path

from containai.audit.writer import EventLog
from containai.errors import AuditError
from containai.host.clock import since_process_start_s
from containai.supervise.spool import drain


class ExecSupervisor:
    """Answers one container's exec notifications.

    Order, for each exec: read what the target asks for; check that it still waits; write the record; only then let
    it continue. If the record cannot be written the exec is refused and ``on_failure`` is called, which ends the
    session (A4).
    """

    def __init__(
        self,
        notify_fd: int,
        log: EventLog,
        on_failure: Callable[[AuditError], None],
        *,
        library: Path,
        spool: Path,
        denied: frozenset[str] = frozenset(),
    ) -> None:
        self._notify_fd = notify_fd
        self._log = log
        self._on_failure = on_failure
        self._library = ctypes.CDLL(os.fspath(library), use_errno=True)
        self._path = spool
        self._denied = denied
        try:
            self._spool = os.open(spool, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise AuditError("the supervisor's spool cannot be opened", details=f"{spool}: {error}") from error
        self._stop_read, self._stop_write = os.pipe()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC)
        self._loop = threading.Thread(target=self._answer, name="exec-supervisor", daemon=True)
        self._writer = threading.Thread(target=self._write, name="exec-records", daemon=True)
        self._over = False
        self._at = 0
        self.first_exec_s: float | None = None

    def start(self) -> None:
        """Begin to answer. Until then every exec waits."""
        self._writer.start()
        self._loop.start()

    def stop(self) -> None:
        """Stop answering; what still asks fails. Everything recorded is in the log afterwards. Idempotent."""
        if self._stop_write < 0:
            return
        os.close(self._stop_write)
        self._stop_write = -1
        if self._loop.ident is not None:
            self._loop.join()
            self._over = True
            os.eventfd_write(self._bell, 1)
            self._writer.join()
        for fd in (self._stop_read, self._bell, self._spool):
            os.close(fd)
        # What could not be written stays for ``recover``.
        with contextlib.suppress(FileNotFoundError):
            if self._at == self._path.stat().st_size:
                self._path.unlink()

    def _answer(self) -> None:
        # The C function keeps no lock of Python's while it runs.
        why = self._library.containai_supervise(self._notify_fd, self._stop_read, self._spool, self._bell)
        if why:
            self._on_failure(AuditError("the event log cannot be written", details=f"{self._path}: {os.strerror(why)}"))

    def _write(self) -> None:
        while True:
            os.eventfd_read(self._bell)
            over = self._over  # asked first: what was recorded before is then moved
            try:
                while True:
                    begun = self._at
                    self._at, records = drain(self._spool, begun, self._log, self._denied)
                    if records and self.first_exec_s is None:
                        self.first_exec_s = since_process_start_s()
                    if self._at == begun:
                        break
            except AuditError as error:
                self._on_failure(error)
                return
            if over:
                return
