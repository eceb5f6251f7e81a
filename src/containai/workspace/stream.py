"""What git lists, piece by piece: nothing of it is ever held as a whole, and git is ended when its reader stops."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from containai.errors import WorkspaceError
from containai.host.clock import monotonic_s
from containai.workspace.git import Argument, Child, await_exit, end_group, spawn_git

_CHUNK = 1024 * 1024
_LONG_RECORD = 16 * 1024


def stream_git(
    arguments: Sequence[Argument],
    *,
    git_dir: Path,
    separator: bytes,
    deadline_s: float,
    stdin: int = -1,
    restrain: Callable[[Child], None] | None = None,
    refuse_long: Callable[[bytes], None] | None = None,
) -> Iterator[bytes]:
    """Records of git's output, without their separators.

    Args:
        deadline_s: When git is ended (monotonic).
        stdin: Descriptor with git's input, at its beginning; -1 for none.
        restrain: Called with git as soon as it runs.
        refuse_long: Called with the beginning of a record of many kilobytes; raises if there can be no such record.

    Raises:
        WorkspaceError: Git failed (``workspace.git-failed``) or took too long (``workspace.git-slow``).
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
            if restrain is not None:
                restrain(child)
            rest = b""
            while chunk := _read(readable, deadline_s):
                *records, rest = (rest + chunk).split(separator)
                yield from records
                if refuse_long is not None and len(rest) > _LONG_RECORD:
                    refuse_long(rest)
            if rest:
                yield rest
            if await_exit(child, deadline_s) != 0:
                text = os.pread(said, 4096, 0).decode(errors="replace").strip()
                raise WorkspaceError(
                    "git cannot read the repository",
                    code="workspace.git-failed",
                    details=text,
                    remedy=["git fsck in the repository"],
                )
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
        raise WorkspaceError(
            "git did not finish in time",
            code="workspace.git-slow",
            details="the disk or the repository is too slow",
            remedy=["git gc in the repository, then try again"],
        )
    return os.read(fd, _CHUNK)
