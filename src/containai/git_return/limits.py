"""How much a return may add, and how a list of git's is read without trusting its length.

A few kilobytes of objects can describe billions of paths (a tree that holds one tree ten times, ten levels deep), or
one name of a gigabyte. So nothing that git lists about the agent's objects is read whole: it comes in pieces, each
piece, their number and the time are bounded, and git is ended at the first excess.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterator, Sequence
from pathlib import Path

from containai.errors import ReturnFailed
from containai.git_return.relay import Bounds, bound
from containai.host.clock import monotonic_s
from containai.policy.model import GIB, MIB
from containai.workspace.git import Argument, await_exit, end_group, spawn_git

MAX_PATH_BYTES = 3800
"""Longest path in a returned commit; PATH_MAX less room for the directory that it is checked out in."""

MAX_NAME_BYTES = 255
"""Longest single name. Source: NAME_MAX of every Linux file system."""

MAX_COMMITS = 100_000
"""Most commits that a return adds."""

MAX_COMMIT_BYTES = MIB
"""Longest commit object: message, signature and all."""

MAX_BLOB_BYTES = GIB
"""Largest single file."""

MAX_CHANGES = 2_000_000
"""Most changed paths, over all commits of a return."""

MAX_SYMLINKS = 10_000
"""Most symbolic links that a return adds or changes."""

MAX_LINK_BYTES = 4095
"""Longest target of a symbolic link. Source: PATH_MAX, less the NUL."""

MAX_GITLINKS = 200
"""Most submodule entries that a return adds or changes."""

_MEMORY_BYTES = GIB
_CHUNK = 1024 * 1024
_MAX_RECORD = 16 * 1024


def too_much(details: str) -> ReturnFailed:
    """The error for what exceeds a limit on numbers or sizes."""
    return ReturnFailed(
        "the agent returned too much",
        code="return.too-large",
        details=details,
        remedy=["the work is kept in the session"],
    )


def check_path(path: bytes) -> None:
    """Refuse a path that cannot be checked out.

    Raises:
        ReturnFailed: It, or one name in it, is too long.
    """
    if len(path) > MAX_PATH_BYTES or any(len(part) > MAX_NAME_BYTES for part in path.split(b"/")):
        shown = path[:60].decode(errors="replace")
        raise ReturnFailed(
            "a returned file has a name too long to be checked out",
            code="return.path-too-long",
            details=f"{shown!r}..., {len(path)} bytes; {MAX_PATH_BYTES} at most, {MAX_NAME_BYTES} in one name",
            remedy=["the work is kept in the session; shorten the name there"],
        )


def read_records(
    arguments: Sequence[Argument], *, git_dir: Path, separator: bytes, deadline_s: float, stdin: int = -1
) -> Iterator[bytes]:
    """What git lists, record by record, without the separators.

    Args:
        stdin: Descriptor with git's input, at its beginning; -1 for none.

    Raises:
        ReturnFailed: Git failed (``return.incomplete``), took too long, or printed an endless record.
    """
    said = os.memfd_create("containai-said")
    null = os.open(os.devnull, os.O_RDWR)
    readable, writable = os.pipe()
    source = null if stdin < 0 else stdin
    try:
        child = spawn_git(arguments, git_dir=git_dir, stdin=source, stdout=writable, stderr=said)
        os.close(writable)
        writable = -1
        try:
            # Git holds all changes of a commit before it prints the first.
            bound(child, Bounds(memory_bytes=_MEMORY_BYTES))
            rest = b""
            while chunk := _read(readable, deadline_s):
                *records, rest = (rest + chunk).split(separator)
                yield from records
                if len(rest) > _MAX_RECORD:
                    check_path(rest)
            if await_exit(child, deadline_s) != 0:
                text = os.pread(said, 4096, 0).decode(errors="replace").strip()
                if "out of memory" in text.lower():
                    raise too_much(f"git needs more than {_MEMORY_BYTES} bytes to list it")
                raise ReturnFailed("the returned commits cannot be read", code="return.incomplete", details=text)
        finally:
            end_group(child)
            await_exit(child, monotonic_s() + 5.0)
    finally:
        for fd in (said, null, readable, writable):
            if fd >= 0:
                os.close(fd)


def _read(fd: int, deadline_s: float) -> bytes:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    if not poller.poll(max(0.0, deadline_s - monotonic_s()) * 1000):
        raise ReturnFailed("the returned objects took too long to check", code="return.timeout")
    return os.read(fd, _CHUNK)
