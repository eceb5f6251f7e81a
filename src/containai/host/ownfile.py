"""Files that this program keeps for itself: opened only when they are what was written, files of the user's own."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def open_own(path: Path, flags: int = os.O_RDONLY) -> int:
    """Open a file of our own; a descriptor.

    Trust: anything may lie at ``path``: a link, a pipe that nobody writes, a file of somebody else's.

    Raises:
        OSError: It cannot be opened, or is something else; the message says what.
    """
    # Non-blocking: a pipe would be waited for before it can be seen to be one. For a file it means nothing.
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if path.is_symlink():
            raise OSError(errno.ELOOP, "this is a symbolic link", str(path)) from error
        raise
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "this is no regular file", str(path))
        if found.st_uid != os.geteuid():
            raise OSError(errno.EPERM, f"this belongs to user {found.st_uid}, not to you", str(path))
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_own(path: Path, most_bytes: int) -> bytes:
    """The content of a file of our own.

    Raises:
        OSError: As ``open_own``, or it is larger than ``most_bytes``.
    """
    with os.fdopen(open_own(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(most_bytes + 1) if size <= most_bytes else b""
        if size > most_bytes or len(content) > most_bytes:
            raise OSError(errno.EFBIG, f"this has {size} bytes, of which {most_bytes} would be read", str(path))
        return content
