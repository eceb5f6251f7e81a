"""What the end of a session needs of the disk, kept until then: an agent that fills the disk does not get it.

Some space and some files (inodes), taken before the agent's first instruction and given back when its last process is
gone: the log's last lines, the record, a push into the quarantine, or later ``recover``, then have room.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from containai.errors import StateError

RESERVED_BYTES = 8 * 1024 * 1024
RESERVED_FILES = 64
NAME = "reserve"


def take_reserve(session: Path) -> None:
    """Take it, in the session's directory.

    Raises:
        StateError: The disk has not even that.
    """
    folder = session / NAME
    try:
        folder.mkdir(mode=0o700)
        for number in range(RESERVED_FILES):
            fd = os.open(folder / str(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                if number == 0:
                    os.posix_fallocate(fd, 0, RESERVED_BYTES)
            finally:
                os.close(fd)
    except OSError as error:
        release_reserve(session)
        raise StateError(
            "the disk has no room for a session",
            code="state.no-room",
            details=f"{folder}: {error}",
            remedy=["make room on that disk"],
        ) from error


def release_reserve(session: Path) -> None:
    """Give it back. Idempotent."""
    folder = session / NAME
    for number in range(RESERVED_FILES):
        with contextlib.suppress(OSError):
            (folder / str(number)).unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()
