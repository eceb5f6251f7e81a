"""The exec supervisor: outside the container, it records every exec before it happens.

Two threads: one is in the loop in C (``native/supervise``) all its life and answers the kernel; the other moves the
loop's records from the spool into the chained log. Only the first one stands in the agent's way.
"""

from __future__ import annotations

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
from containai.supervise.spool import NOTHING_DENIED, Denials, move_records, read_records

# native/supervise/supervise.c: decide_fn
_DECIDE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_LOOK_AT_INTERPRETERS = 1
# A spool of so much is moved whole before the next exec goes on: in a flood the log is a fraction of a second behind,
# at the end too, and the spool is no second log. A build is far from it: this is thousands of execs.
SPOOL_BYTES = 4 << 20
_CHUNK_BYTES = 1 << 18  # moved at once: other threads of the launcher get their turn between two
_LAST_MOVE_S = 10.0  # of a disk that hangs; what is then left is for ``recover``
_FIRST_EXEC_S = 0.5


class _Store(ctypes.Structure):
    """native/supervise/supervise.h: struct store."""

    _fields_ = (
        ("most", ctypes.c_uint64),
        ("begun", ctypes.c_uint64),
        ("moved", ctypes.c_uint64),
        ("fd", ctypes.c_int32),
        ("bell", ctypes.c_int32),
        ("room", ctypes.c_int32),
        ("failed", ctypes.c_int32),
    )


class Decider(Protocol):
    """Rules about execs."""

    def decide(self, event: Mapping[str, Any], program: int) -> int:
        """See ``rules.RuleBook``."""


class ExecSupervisor:
    """Answers one container's exec notifications.

    Order, for each exec: read what the target asks for; check that it still waits; write the record; only then let
    it continue. If the record cannot be written, or a rule not be asked, the exec is refused and ``on_failure`` is
    called, which ends the session (A4). While the log is far behind, the execs wait for it.
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
        memory_fd: int = -1,
    ) -> None:
        """``container`` is the label of one that is not the agent's: its records say so.

        ``memory_fd`` is a ``Container``'s, for one supervisor alone: who asks waits for the next answer.
        """
        self._notify_fd = notify_fd
        self._log = log
        self._on_failure = on_failure
        self._library = ctypes.CDLL(os.fspath(library), use_errno=True)
        self._path = spool
        self._denials = denials
        self._rules = rules
        self._container = container
        self._memory_fd = memory_fd
        try:
            self._spool = os.open(spool, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise AuditError(
                "the supervisor's spool cannot be opened",
                details=f"{spool}: {error}",
                remedy=["df -h: is there room where the state is kept?"],
            ) from error
        self._stop_read, self._stop_write = os.pipe()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC)
        self._room = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._store = _Store(most=SPOOL_BYTES, fd=self._spool, bell=self._bell, room=self._room)
        self._loop = threading.Thread(target=self._answer, name="exec-supervisor", daemon=True)
        self._writer = threading.Thread(target=self._write, name="exec-records", daemon=True)
        self._over = False
        self._given_up = False
        self._problem = ""
        self.unmoved_bytes = 0
        self.first_exec_s: float | None = None
        self._first = threading.Event()

    def start(self) -> None:
        """Begin to answer. Until then every exec waits."""
        self._writer.start()
        self._loop.start()

    def await_first_exec(self) -> None:
        """Wait for the first record, for a moment: where there is none yet, something keeps the program from coming."""
        self._first.wait(_FIRST_EXEC_S)

    def stop(self) -> None:
        """Stop answering; what still asks fails. Idempotent.

        Postconditions: Everything recorded is in the log, or ``unmoved_bytes`` are left in the spool, for ``recover``.
        """
        if self._stop_write < 0:
            return
        os.close(self._stop_write)
        self._stop_write = -1
        if self._loop.ident is not None:
            self._loop.join()
            self._over = True
            os.eventfd_write(self._bell, 1)
            self._writer.join(_LAST_MOVE_S)
            self._given_up = True
        left = self._store.begun + os.fstat(self._spool).st_size - self._store.moved
        if self._writer.is_alive():  # it still uses the descriptors
            self.unmoved_bytes = left
            return
        for fd in (self._stop_read, self._bell, self._room, self._spool):
            os.close(fd)
        self.unmoved_bytes = left
        if not left:
            self._path.unlink(missing_ok=True)

    def _answer(self) -> None:
        # The C function keeps no lock of Python's while it runs; to ask the rules it takes it for that moment.
        decide = _DECIDE(self._decide) if self._rules is not None else _DECIDE()
        options = _LOOK_AT_INTERPRETERS if self._denials.files else 0
        why = self._library.containai_supervise(
            self._notify_fd, self._stop_read, ctypes.byref(self._store), decide, options, self._memory_fd
        )
        if why == errno.ENOTRECOVERABLE:
            self._on_failure(AuditError("the rules of [exec] cannot be asked", details=self._problem))
        elif why not in (0, errno.EPIPE, errno.ECANCELED):  # the writer has said why; the session is over
            self._on_failure(
                AuditError(
                    "the event log cannot be written",
                    details=f"{self._path}: {os.strerror(why)}",
                    remedy=["df -h: is there room where the state is kept?"],
                )
            )

    def _decide(self, record: int, size: int, program: int) -> int:
        """Called by the loop. Nothing may be raised into it: that would count as a yes."""
        try:
            ((event,), _) = read_records(ctypes.string_at(record, size))
            return 0 if self._rules is None else self._rules.decide(event, program)
        except Exception as error:  # noqa: BLE001  (whatever it is, the exec does not go on)
            self._problem = f"{type(error).__name__}: {error}"
            return -1

    def _write(self) -> None:
        try:
            while not self._given_up:
                os.eventfd_read(self._bell)
                over = self._over  # asked first: what was recorded before is then moved
                while self._move() and not self._given_up:
                    if self.first_exec_s is None:
                        self.first_exec_s = since_process_start_s()
                        self._first.set()
                if over:
                    return
        except AuditError as error:
            self._on_failure(error)
        except OSError as error:
            self._on_failure(AuditError("the supervisor's spool cannot be read", details=f"{self._path}: {error}"))
        finally:  # a loop that waits for room must not wait for ever
            self._store.failed = 1
            os.eventfd_write(self._room, 1)

    def _move(self) -> bool:
        """Move some of the spool into the log; False where there is nothing whole to move."""
        begun = self._store.begun
        data = os.pread(self._spool, _CHUNK_BYTES, self._store.moved - begun)
        if self._store.begun != begun:  # the file was begun anew meanwhile: what was read may be of both
            return True
        used = move_records(data, self._log, self._denials, self._container)
        self._store.moved += used
        os.eventfd_write(self._room, 1)
        return used > 0
