"""How much a return may add, and how a list of git's is read without trusting its length.

A few kilobytes of objects can describe billions of paths (a tree that holds one tree ten times, ten levels deep), or
one name of a gigabyte. So nothing that git lists about the agent's objects is read whole: it comes in pieces, each
piece, their number and the time are bounded, and git is ended at the first excess.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from containai.errors import ReturnFailed, WorkspaceError
from containai.git_return.relay import Bounds, bound
from containai.policy.model import GIB, MIB
from containai.workspace.git import Argument
from containai.workspace.stream import stream_git

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

MAX_CHANGED_BYTES = 256 * MIB
"""Most bytes of changed paths, over all commits of a return: a review holds them."""

MAX_COMPARED = 1_000_000
"""Most added names, directories included, that are compared with others."""

MAX_SYMLINKS = 10_000
"""Most symbolic links that a return adds or changes."""

MAX_LINK_BYTES = 4095
"""Longest target of a symbolic link. Source: PATH_MAX, less the NUL."""

MAX_GITLINKS = 200
"""Most submodule entries that a return adds or changes."""

_MEMORY_BYTES = GIB


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
    try:
        yield from stream_git(
            arguments,
            git_dir=git_dir,
            separator=separator,
            deadline_s=deadline_s,
            stdin=stdin,
            # Git holds all changes of a commit before it prints the first.
            restrain=lambda child: bound(child, Bounds(memory_bytes=_MEMORY_BYTES)),
            refuse_long=check_path,
        )
    except WorkspaceError as error:
        if error.code == "workspace.git-slow":
            raise ReturnFailed("the returned objects took too long to check", code="return.timeout") from error
        if error.code != "workspace.git-failed":
            raise
        if "out of memory" in error.details.lower():
            raise too_much(f"git needs more than {_MEMORY_BYTES} bytes to list it") from error
        raise ReturnFailed(
            "the returned commits cannot be read", code="return.incomplete", details=error.details
        ) from error
