"""The exec supervisor: outside the container, it records every exec before it happens.

Two threads: one is in the loop in C (``native/supervise``) all its life and answers the kernel; the other moves the
loop's records from the spool into the chained log. Only the first one stands in the agent's way.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from containai.audit.writer import EventLog
from containai.errors import AuditError
from containai.host.clock import since_process_start_s
from containai.supervise.spool import NOTHING_DENIED, Denials, drain, read_records

# native/supervise/supervise.c: decide_fn
_DECIDE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class Decider(Protocol):
    """Rules about execs."""

    def decide(self, event: Mapping[str, Any], program: int) -> int:
        """See ``rules.RuleBook``."""


class ExecSupervisor:
    """Answers one container's exec notifications.

    Order, for each exec: read what the target asks for; check that it still waits; write the record; only then let
    it continue. If the record cannot be written, or a rule not be asked, the exec is refused and ``on_failure`` is
    called, which ends the session (A4).
    """

    def __init__(
        self,
        notify_fd: int,
        log: EventLog,
        on_failure: Callable[[AuditError], None],
        *,
        library: Path,
        spool: Path,
        denials: Denials = NOTHING_DENIED,
        rules: Decider | None = None,
        container: str = "",
    ) -> None:
        """``container`` is the label of one that is not the agent's: its records say so."""
        self._notify_fd = notify_fd
        self._log = log
        self._on_failure = on_failure
        self._library = ctypes.CDLL(os.fspath(library), use_errno=True)
        self._path = spool
        self._denials = denials
        self._rules = rules
        self._container = container
        try:
            self._spool = os.open(spool, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise AuditError("the supervisor's spool cannot be opened", details=f"{spool}: {error}") from error
        self._stop_read, self._stop_write = os.pipe()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC)
        self._loop = threading.Thread(target=self._answer, name="exec-supervisor", daemon=True)
        self._writer = threading.Thread(target=self._write, name="exec-records", daemon=True)
        self._over = False
        self._problem = ""
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
        # The C function keeps no lock of Python's while it runs; to ask the rules it takes it for that moment.
        decide = _DECIDE(self._decide) if self._rules is not None else _DECIDE()
        why = self._library.containai_supervise(self._notify_fd, self._stop_read, self._spool, self._bell, decide)
        if why == errno.ECANCELED:
            self._on_failure(AuditError("the rules of [exec] cannot be asked", details=self._problem))
        elif why:
            self._on_failure(AuditError("the event log cannot be written", details=f"{self._path}: {os.strerror(why)}"))

    def _decide(self, record: int, size: int, program: int) -> int:
        """Called by the loop. Nothing may be raised into it: that would count as a yes."""
        try:
            ((event,), _) = read_records(ctypes.string_at(record, size))
            return 0 if self._rules is None else self._rules.decide(event, program)
        except Exception as error:  # noqa: BLE001  (whatever it is, the exec does not go on)
            self._problem = f"{type(error).__name__}: {error}"
            return -1

    def _write(self) -> None:
        while True:
            os.eventfd_read(self._bell)
            over = self._over  # asked first: what was recorded before is then moved
            try:
                while True:
                    begun = self._at
                    self._at, records = drain(self._spool, begun, self._log, self._denials, self._container)
                    if records and self.first_exec_s is None:
                        self.first_exec_s = since_process_start_s()
                    if self._at == begun:
                        break
            except AuditError as error:
                self._on_failure(error)
                return
            if over:
                return
