"""Read a file as it is committed, without touching the working tree."""

from __future__ import annotations

from containai.errors import WorkspaceError
from containai.plan.model import Source
from containai.workspace.git import run_git

_MAX_BYTES = 256 * 1024


def read_committed_file(source: Source, path: str) -> bytes | None:
    """The content of ``path`` in the base commit; None when it has no such file.

    Trust: the content is the repository's, so hostile; its size is bounded here.

    Raises:
        WorkspaceError: It is too large to be what it should be.
    """
    name = f"{source.base_commit}:{path}"
    asked = run_git(["cat-file", "--batch-check"], git_dir=source.git_dir, stdin=name.encode() + b"\n")
    words = asked.stdout.split()
    if len(words) != 3 or words[1] != b"blob":
        return None
    if int(words[2]) > _MAX_BYTES:
        raise WorkspaceError(
            f"{path} of the repository is too large",
            code="workspace.config-size",
            details=f"more than {_MAX_BYTES:,} bytes",
            remedy=[f"make {path} smaller, and commit it"],
        )
    return run_git(["cat-file", "blob", words[0].decode()], git_dir=source.git_dir).stdout
