"""The event log of one session: JSON lines, numbered, chained, flushed before the fact goes on."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from containai.audit.chain import Break, Chain, link
from containai.audit.reading import broken_log, read_lines
from containai.errors import AuditError
from containai.host.clock import now_rfc3339
from containai.host.ownfile import open_own

_ROOM = "df -h: is there room where the state is kept?"


class Kind(Enum):
    """The kinds of event of the contract (``containai log --kind``)."""

    EXEC = "exec"
    NETWORK = "network"
    SECRET = "secret"
    GIT = "git"
    SESSION = "session"


class EventLog:
    """Append-only log of one session. Safe to use from several threads.

    Preconditions: one writer process at a time (the session's lock sees to that).
    Postconditions: ``append`` returns only after the kernel has the whole line.
    """

    def __init__(self, path: Path, session_id: str) -> None:
        self.path = path
        self._session_id = session_id
        self._lock = threading.Lock()
        try:
            self._fd = open_own(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        except OSError as error:
            raise AuditError(
                "the event log cannot be opened",
                details=str(error),
                remedy=[f"ls -ld {path}", "df -h: is there room?", "containai doctor"],
            ) from error
        try:
            torn = self._follow()
        except BaseException:
            os.close(self._fd)
            raise
        if torn:
            self.append(Kind.SESSION, "log-repaired", torn_bytes=torn)

    def _follow(self) -> int:
        """Take the log up where it ends; the bytes that were cut off.

        That is what a write left that was cut short (a full disk, a lost machine): what is behind the last line feed.
        No event was ever complete there, and the next one says so.

        Raises:
            AuditError: A line does not follow from the one before: nothing is added to what was changed.
        """
        chain, whole = Chain(self._session_id), 0
        with os.fdopen(os.dup(self._fd), "rb") as log:
            for number, line in enumerate(read_lines(log), 1):
                if not line.endswith(b"\n"):
                    break
                if fault := chain.find_fault(line):
                    raise broken_log(self.path, Break(line=number, reason=fault))
                whole += len(line)
        torn = os.fstat(self._fd).st_size - whole
        if torn:
            os.ftruncate(self._fd, whole)
        self._seq, self._prev = chain.seq, chain.prev
        return torn

    def append(self, kind: Kind, event: str, **fields: Any) -> None:
        """Write one event.

        Raises:
            AuditError: It could not be written; the session must not go on (A4).
        """
        self.append_all([(kind, event, fields)])

    def append_all(self, events: Iterable[tuple[Kind, str, Mapping[str, Any]]]) -> None:
        """Write several events: all of them or none. One that has a ``ts`` happened then, and is written only now.

        Raises:
            AuditError: They could not be written; the session must not go on (A4).
        """
        with self._lock:
            seq, prev = self._seq, self._prev
            lines = []
            for kind, event, fields in events:
                seq += 1
                body = {
                    "ts": now_rfc3339(),
                    **fields,
                    "seq": seq,
                    "session": self._session_id,
                    "kind": kind.value,
                    "event": event,
                }
                line, prev = link(body, prev)
                lines.append(line)
            if not lines:
                return
            whole = b"".join(lines)
            self._write(whole)
            self._seq, self._prev = seq, prev

    def _write(self, whole: bytes) -> None:
        """All of it or nothing. Of a write that is cut short only the next one says why, and whether that lasts."""
        written = 0
        try:
            while written < len(whole):
                taken = os.write(self._fd, memoryview(whole)[written:])
                if not taken:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                written += taken
        except OSError as error:
            if written:
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
            raise AuditError(
                "the event log cannot be written", details=f"{self.path}: {error}", remedy=[_ROOM]
            ) from error

    @property
    def checkpoint(self) -> tuple[int, str]:
        """Number and hash of the last event: together they fix the whole log up to there."""
        with self._lock:
            return self._seq, self._prev

    def sync(self) -> None:
        """Make every event so far durable.

        Raises:
            AuditError: The disk refused; the session must not go on (A4).
        """
        with self._lock:
            try:
                os.fsync(self._fd)
            except OSError as error:
                raise AuditError(
                    "the event log cannot be written", details=f"{self.path}: {error}", remedy=[_ROOM]
                ) from error

    def close(self) -> None:
        """Make the log durable and close it. Idempotent."""
        with self._lock:
            if self._fd >= 0:
                os.fsync(self._fd)
                os.close(self._fd)
                self._fd = -1
