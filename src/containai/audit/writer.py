"""The event log of one session: JSON lines, numbered, chained, flushed before the fact goes on."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from containai.audit.chain import GENESIS, link
from containai.errors import AuditError
from containai.host.clock import now_rfc3339

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
            torn = _cut_torn_line(path)
            self._seq, self._prev = _tail(path)
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except (OSError, ValueError) as error:
            raise AuditError(
                "the event log cannot be opened",
                details=f"{path}: {error}",
                remedy=["df -h: is there room?", "containai doctor"],
            ) from error
        if torn:
            self.append(Kind.SESSION, "log-repaired", torn_bytes=torn)

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


def _cut_torn_line(path: Path) -> int:
    """Remove what a write left that was cut short (a full disk, a lost machine); the number of bytes.

    Only bytes behind the last line feed go: no event was ever complete there, and the next one says so.
    """
    if not path.exists():
        return 0
    with path.open("r+b") as log:
        content = log.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            log.truncate(whole)
        return len(content) - whole


def _tail(path: Path) -> tuple[int, str]:
    """Sequence number and hash of the last event, to continue an interrupted log."""
    if not path.exists() or path.stat().st_size == 0:
        return 0, GENESIS
    last = deque(read_events(path), maxlen=1).pop()
    return int(last["seq"]), str(last["hash"])


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a log, oldest first.

    Raises:
        AuditError: The log cannot be read, or a line is no event.
    """
    try:
        with path.open("rb") as lines:
            for line in lines:
                event = json.loads(line)
                if not isinstance(event, dict):
                    raise ValueError("not an object")
                yield event
    except (OSError, ValueError) as error:
        raise AuditError(
            "the event log cannot be read", details=f"{path}: {error}", remedy=[f"ls -l {path}"]
        ) from error
