"""Read the event log of a session as it lies on the disk: perhaps damaged, perhaps of enormous lines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import Any, BinaryIO

from containai.audit.chain import Break, parse_event
from containai.errors import AuditError
from containai.host.ownfile import open_own

MAX_LINE_BYTES = 64 * 1024 * 1024
"""Room for the hashes of more than a million returned commits, which are the largest event."""
_CHUNK_BYTES = 1024 * 1024


def open_log(path: Path) -> BinaryIO:
    """Open a log for reading.

    Raises:
        AuditError: It is missing, or is something else.
    """
    try:
        return os.fdopen(open_own(path), "rb")
    except FileNotFoundError as error:
        raise AuditError(
            "the session has no event log",
            code="audit.missing",
            details=f"{path} is gone",
            remedy=["restore it from a backup, where there is one: nothing else knows what the session did"],
        ) from error
    except OSError as error:
        raise AuditError("the event log cannot be read", details=str(error), remedy=[f"ls -ld {path}"]) from error


def read_lines(log: BinaryIO) -> Iterator[bytes]:
    """The lines, in bounded memory. One that is too long is cut, and so no event; a last one may have no line feed."""
    while line := log.readline(MAX_LINE_BYTES):
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            while rest := log.readline(_CHUNK_BYTES):
                if rest.endswith(b"\n"):
                    line += b"\n"
                    break
        yield line


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a log, oldest first.

    Raises:
        AuditError: The log cannot be read, or a line is no event.
    """
    try:
        with open_log(path) as log:
            for number, line in enumerate(read_lines(log), 1):
                try:
                    event = parse_event(line)
                except ValueError as error:
                    raise broken_log(path, Break(line=number, reason=str(error))) from error
                yield event
    except OSError as error:
        raise AuditError(
            "the event log cannot be read", details=f"{path}: {error}", remedy=[f"ls -ld {path}"]
        ) from error


def broken_log(path: Path, broken: Break) -> AuditError:
    """The error for a log that is not as it was written."""
    return AuditError(
        "the event log is not as it was written",
        code="audit.broken",
        details=f"{path}, line {broken.line}: {broken.reason}",
        remedy=[f"mv {quote(str(path))}{{,.broken}}   # keep it; merge, drop and recover then go on with a new one"],
    )
