"""Branches of the host repository: listed, compared, and moved by compare-and-swap only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from containai.errors import WorkspaceError
from containai.record import dataclass
from containai.workspace.git import run_git

# git-for-each-ref(1): %00 ends a field, so that no name can be mistaken for another field.
_FORMAT = "%(refname)%00%(objectname)%00%(symref)%00%(if)%(worktreepath)%(then)1%(else)0%(end)"
# Messages of git's ref code that a competing process causes; they pass.
_PASSING = ("reference already exists", "File exists", "but expected", "unable to resolve reference")

DURABLE = ("-c", "core.fsync=committed,reference")
"""Objects and refs are on the disk before they have their names, whatever the repository's configuration says.

Else a loss of power can leave a ref without content, which makes the whole repository fail its checks.
Source: git-config(1), core.fsync.
"""

_UNWRITABLE = (
    *("Permission denied", "not permitted", "Read-only", "No space left", "Disk quota"),
    *("unable to create directory", "couldn't write"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A branch of the host repository."""

    name: str
    commit: str
    checked_out: bool
    symbolic: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Why git did not move a ref. ``retry``: another process was in the way, look again."""

    error: WorkspaceError
    retry: bool


def list_branches(git_dir: Path, name: str) -> tuple[Branch, ...]:
    """The branch ``name`` and every branch below ``name/``."""
    done = run_git(["for-each-ref", f"--format={_FORMAT}", f"refs/heads/{name}"], git_dir=git_dir)
    if done.status != 0:
        raise WorkspaceError(
            "the repository's branches cannot be read",
            code="workspace.refs",
            details=done.said,
            remedy=["git fsck in the repository"],
        )
    branches = []
    for line in done.stdout.splitlines():
        ref, commit, symref, checked_out = line.split(b"\0")
        branches.append(
            Branch(
                name=os.fsdecode(ref.removeprefix(b"refs/heads/")),
                commit=commit.decode(),
                checked_out=checked_out == b"1",
                symbolic=bool(symref),
            )
        )
    return tuple(branches)


def create_ref(git_dir: Path, ref: str, commit: str, reason: str) -> Refused | None:
    """Create ``ref`` if it does not exist; None when that is done."""
    return update_refs(git_dir, [("create", ref, commit, "")], reason)


def delete_ref(git_dir: Path, ref: str, at: str) -> bool:
    """Delete ``ref`` if it stands at ``at``; whether that was so."""
    deleted = run_git(["update-ref", "--no-deref", "-d", ref, at], git_dir=git_dir).status == 0
    # Git makes the folders of the lock even when it then finds nothing to delete, and leaves them.
    for folder in (git_dir / ref).parents:
        if folder == git_dir / "refs" / "heads" or not _removed_empty(folder):
            break
    return deleted


def update_refs(git_dir: Path, commands: Sequence[tuple[str, str, str, str]], reason: str) -> Refused | None:
    """Move refs in one transaction: all of them or none; None when that is done.

    Args:
        commands: ``("create", ref, new, "")``, ``("update", ref, new, old)`` or ``("delete", ref, "", old)``.
        reason: For the reflog.
    """
    stdin = b"".join(_command(*command) for command in commands)
    done = run_git([*DURABLE, "update-ref", "--no-deref", "-m", reason, "-z", "--stdin"], git_dir=git_dir, stdin=stdin)
    if done.status == 0:
        return None
    return Refused(error=_refused(git_dir, done.said), retry=any(sign in done.said for sign in _PASSING))


def remove_own_lock(git_dir: Path, ref: str, new: str) -> bool:
    """Remove the lock of a killed git that was to move ``ref`` to ``new``; whether it was there.

    A lock holds the ref's new value, so it shows whose it is. An empty one may be a living git's, and stays.

    Preconditions: nobody else moves ``ref`` to ``new``.
    """
    lock = git_dir / f"{ref}.lock"
    with suppress(OSError):
        if lock.read_bytes() == f"{new}\n".encode():
            lock.unlink()
            return True
    return False


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable. Source: fsync(2)."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def is_ancestor(git_dir: Path, older: str, newer: str) -> bool:
    """Whether ``newer`` contains ``older``. False too when one of them cannot be read."""
    return run_git(["merge-base", "--is-ancestor", older, newer], git_dir=git_dir).status == 0


def names_in_progress(git_dir: Path) -> set[str]:
    """Branches that a rebase in some working tree has taken off and will move when it ends."""
    names = set()
    for place in (git_dir, *git_dir.glob("worktrees/*")):
        for state in ("rebase-merge/head-name", "rebase-apply/head-name"):
            try:
                names.add(os.fsdecode((place / state).read_bytes().strip()).removeprefix("refs/heads/"))
            except OSError:
                continue
    return names


def _removed_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def _command(verb: str, ref: str, new: str, old: str) -> bytes:
    # Source: git-update-ref(1), -z: "create REF NEW", "update REF NEW OLD", "delete REF OLD".
    fields = [f"{verb} {ref}", *([new] if verb != "delete" else []), *([old] if verb != "create" else [])]
    return b"".join(os.fsencode(field) + b"\0" for field in fields)


def _refused(git_dir: Path, said: str) -> WorkspaceError:
    if "cannot create" in said and "exists" in said:
        return WorkspaceError(
            "a branch stands in the way",
            code="workspace.branch-conflict",
            details=said,
            remedy=["choose another name with -b"],
        )
    if any(sign in said for sign in _UNWRITABLE):
        return WorkspaceError(
            "the repository cannot be written",
            code="workspace.unwritable",
            details=said,
            remedy=[f"make {git_dir} writable, with space left"],
        )
    return WorkspaceError(
        "git did not move the branch", code="workspace.refs", details=said, remedy=["git fsck in the repository"]
    )
