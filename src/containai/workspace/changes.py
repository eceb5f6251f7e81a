"""What the user has not committed, taken along as one commit (``--with-changes``).

    1. look     which files differ from ``HEAD``, and whether they can be taken at all
    2. stage    into a copy of the user's index, in a directory of our own: his is only read
    3. commit   on top of ``HEAD``; nothing refers to that commit but the session's branch

Git runs here as the user's own ``git add -A`` would: his ignore rules, his line endings, and the filters that he
configured. His index, working tree, stash and refs are as before.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from containai.errors import WorkspaceError
from containai.host.process import Completed
from containai.plan.model import Source
from containai.policy.model import GIB, MIB
from containai.record import dataclass, replace
from containai.workspace.git import run_git, run_git_in_tree
from containai.workspace.notes import own_git_dir

MAX_FILE_BYTES = 256 * MIB
"""Largest single file that is taken along."""

MAX_CHANGES_BYTES = GIB
"""Most bytes of all files that are taken along."""

_TIMEOUT_S = 600.0
_IN_PROGRESS = {
    "MERGE_HEAD": "merge",
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
}
_UNMERGED = {b"DD", b"AU", b"UD", b"UA", b"DU", b"AA", b"UU"}  # Source: git-status(1), Short Format
_OPTIONS = (
    *("-c", "core.splitIndex=false"),
    *("-c", "core.untrackedCache=false"),
    *("-c", "advice.addEmbeddedRepo=false"),
    *("-c", "core.fsyncMethod=batch"),  # as safe as one by one, and faster for many files
)
_NOBODY = {"GIT_AUTHOR_NAME": "unknown", "GIT_AUTHOR_EMAIL": "user@containai.invalid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Changes:
    """Which paths differ: how many, and the repositories among them, which are not taken."""

    count: int
    repositories: tuple[bytes, ...]


def take_changes(source: Source, user: Mapping[str, str]) -> Source:
    """``source`` with a base commit that holds the user's uncommitted work; as it was when there is none.

    Args:
        user: The launcher's environment (``run_git_as_user``).

    Raises:
        WorkspaceError: A merge or the like is in progress, a file is too large or cannot be taken, or git fails.
    """
    git_dir = own_git_dir(source)
    _refuse_in_progress(git_dir)
    with tempfile.TemporaryDirectory(prefix="containai-changes-") as name:
        index = Path(name) / "index"
        if (git_dir / "index").exists():
            shutil.copy2(git_dir / "index", index)  # with its time: git compares it with those of the files
        if os.geteuid() == 0:
            owner = source.git_dir.stat()
            for path in (Path(name), *Path(name).iterdir()):
                os.chown(path, owner.st_uid, owner.st_gid)
        tree = _Tree(source=source, git_dir=git_dir, index=index, user=user)
        changes = _look(tree)
        excluded = [b":(top,exclude,literal)" + path for path in changes.repositories]
        tree.git(
            ["add", "-A", "--sparse", "--pathspec-from-file=-", "--pathspec-file-nul"],
            stdin=b"\0".join([b":/", *excluded]),
        )
        staged = tree.git(["write-tree"]).stdout.decode().strip()
    notes = source.notes + tuple(
        f"not taken along: {os.fsdecode(path)} is a repository of its own" for path in changes.repositories[:3]
    )
    if staged == run_git(["rev-parse", f"{source.base_commit}^{{tree}}"], git_dir=git_dir).stdout.decode().strip():
        return replace(source, with_changes=True, notes=notes)
    commit = _commit(tree, staged)
    taken = f"{changes.count} uncommitted {'file' if changes.count == 1 else 'files'} taken along, as {commit[:12]}"
    return replace(source, base_commit=commit, with_changes=True, changes_taken=True, notes=(*notes, taken))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tree:
    """The user's working tree, seen through a copy of his index."""

    source: Source
    git_dir: Path
    index: Path
    user: Mapping[str, str]

    def ask(self, arguments: list[str], stdin: bytes = b"", also: Mapping[str, str] | None = None) -> Completed:
        return run_git_in_tree(
            [*_OPTIONS, *arguments],
            git_dir=self.git_dir,
            work_tree=self.source.toplevel,
            user=self.user,
            also={"GIT_INDEX_FILE": str(self.index), **(also or {})},
            stdin=stdin,
            timeout_s=_TIMEOUT_S,
        )

    def git(self, arguments: list[str], stdin: bytes = b"") -> Completed:
        done = self.ask(arguments, stdin)
        if done.status != 0:
            raise WorkspaceError(
                "the uncommitted changes cannot be taken along",
                code="workspace.changes",
                details=done.said[-2000:],
                remedy=["git status", "commit or stash them, and leave --with-changes out"],
            )
        return done


def _refuse_in_progress(git_dir: Path) -> None:
    for name, what in _IN_PROGRESS.items():
        if os.path.lexists(git_dir / name):
            raise WorkspaceError(
                f"a {what} is in progress, so its changes cannot be taken along",
                code="workspace.changes-in-progress",
                details=f"{git_dir / name} exists",
                remedy=[f"git {what} --continue", f"git {what} --abort", "or leave --with-changes out"],
            )


def _look(tree: _Tree) -> _Changes:
    asked = ["status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=all"]
    entries = [entry for entry in tree.git(asked).stdout.split(b"\0") if entry]
    repositories, total, count = [], 0, 0
    for entry in entries:
        state, path = entry[:2], entry[3:]
        if state in _UNMERGED:
            raise WorkspaceError(
                "there are unresolved conflicts",
                code="workspace.changes-unmerged",
                details=os.fsdecode(path),
                remedy=["git status", "resolve them, then: git add FILE"],
            )
        if path.endswith(b"/"):
            repositories.append(path.rstrip(b"/"))
            continue
        count += 1
        total += _size(tree.source.toplevel, path, total)
    return _Changes(count=count, repositories=tuple(repositories))


def _size(toplevel: Path, path: bytes, total: int) -> int:
    """The size of one changed file.

    Raises:
        WorkspaceError: It is too large, alone or with the ``total`` before it, or is no file.
    """
    try:
        entry = os.lstat(os.path.join(os.fsencode(toplevel), path))
    except (FileNotFoundError, NotADirectoryError):
        return 0
    shown = os.fsdecode(path)
    if not (stat.S_ISREG(entry.st_mode) or stat.S_ISLNK(entry.st_mode) or stat.S_ISDIR(entry.st_mode)):
        raise WorkspaceError(
            f"{shown} is neither a file nor a link, so it cannot be taken along",
            code="workspace.changes-special",
            details="a pipe, socket or device stands where a file is committed",
            remedy=[f"remove {shown}, or leave --with-changes out"],
        )
    if entry.st_size > MAX_FILE_BYTES or total + entry.st_size > MAX_CHANGES_BYTES:
        alone = entry.st_size > MAX_FILE_BYTES
        which, bound = ("one file", MAX_FILE_BYTES) if alone else ("all together", MAX_CHANGES_BYTES)
        raise WorkspaceError(
            f"{shown} is too large to be taken along",
            code="workspace.changes-size",
            details=f"it has {entry.st_size // MIB} MiB; {which} may have {bound // MIB} MiB",
            remedy=[f"add {shown} to .gitignore", "or leave --with-changes out"],
        )
    return entry.st_size


def _commit(tree: _Tree, staged: str) -> str:
    """One commit on top of the base, by the user; where git knows no name of his, by nobody."""
    subject = f"Uncommitted changes of {tree.source.described}\n"
    asked = ["-c", "user.useConfigOnly=true", "commit-tree", staged, "-p", tree.source.base_commit]
    done = tree.ask(asked, subject.encode())
    if done.status != 0:
        nobody = _NOBODY | {key.replace("AUTHOR", "COMMITTER"): value for key, value in _NOBODY.items()}
        done = tree.ask(asked, subject.encode(), nobody)
    if done.status != 0:
        raise WorkspaceError(
            "the uncommitted changes cannot be committed",
            code="workspace.changes",
            details=done.said,
            remedy=["git status", "commit or stash them, and leave --with-changes out"],
        )
    return done.stdout.decode().strip()
