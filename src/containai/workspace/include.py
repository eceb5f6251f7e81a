"""Ignored files that the user named, copied into the workspace (``--include``).

``check_included`` judges the names before anything of a session exists; ``copy_included`` copies, before any
instruction of a container has run. Each step of a path is opened relative to the one before, and no symbolic link is
followed: whatever happens to the working tree meanwhile, nothing outside of it is read.

Trust: the user names the paths; what lies below them may come from anybody.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from containai.errors import UsageError, WorkspaceError
from containai.plan.model import Source
from containai.policy.model import GIB
from containai.workspace.git import run_git, run_git_in_tree
from containai.workspace.notes import own_git_dir

MAX_INCLUDED_BYTES = GIB
"""Most bytes of all included files together."""

MAX_INCLUDED_FILES = 200_000
"""Most included files, folders and links."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SPECIAL = re.compile(r"([\\*?\[\]])|( +)$")


def check_included(source: Source, names: Sequence[str], base: Path, user: Mapping[str, str]) -> Source:
    """``source`` with the paths to include, each below its top level and ignored by git.

    Args:
        names: As the user gave them.
        base: The directory that relative names start from.
        user: The launcher's environment (``run_git_as_user``).

    Raises:
        UsageError: One leaves the repository, is tracked, is not ignored, is a link, or does not exist.
    """
    paths = tuple(dict.fromkeys(_below(source, name, base) for name in names))
    for path in paths:
        _refuse_unusable(source, path)
        _refuse_tracked(source, path)
        asked = run_git_in_tree(
            ["check-ignore", "-q", "-z", "--stdin"],
            git_dir=own_git_dir(source),
            work_tree=source.toplevel,
            user=user,
            stdin=os.fsencode(path),
        )
        if asked.status != 0:
            raise _refused(
                path, "git does not ignore it", "name the ignored files in it, or take it along: --with-changes"
            )
    return replace(source, included=paths)


def _below(source: Source, name: str, base: Path) -> str:
    top = os.fspath(source.toplevel)
    path = os.path.relpath(os.path.normpath(os.path.join(base, name)), top)
    parts = path.split("/")
    if not name or "\0" in name or parts[0] in ("..", "."):
        raise _refused(name, f"it is not below {top}", "name a file or folder of the repository")
    if any(part.lower() == ".git" for part in parts):
        raise _refused(name, "git's own directory is never copied", "leave it out")
    if "\n" in path or "\r" in path:
        raise _refused(name, "no ignore rule can name it", "rename it")
    return path


def _refuse_unusable(source: Source, path: str) -> None:
    try:
        with ExitStack() as opened:
            parent, leaf = _open_parent(source.toplevel, path, opened)
            kind = os.stat(leaf, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError as error:
        raise _refused(path, f"{error.strerror}, below {source.toplevel}", "correct the path") from error
    except OSError as error:
        raise _refused(path, error.strerror or str(error), "symbolic links on the way are not followed") from error
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise _refused(path, "it is neither a file nor a folder", "name what a link points to")


def _refuse_tracked(source: Source, path: str) -> None:
    """A path that the base commit has, or that cannot stand beside what the base commit has."""
    parts = path.split("/")
    for count in range(1, len(parts) + 1):
        above = "/".join(parts[:count])
        asked = run_git(
            ["--literal-pathspecs", "ls-tree", "--full-tree", "-z", source.base_commit, "--", above],
            git_dir=source.git_dir,
        )
        if asked.stdout and (count == len(parts) or b" tree " not in asked.stdout.partition(b"\t")[0]):
            raise _refused(path, f"{above} is committed, so it is in the copy anyway", "leave it out")


def _refused(path: str, why: str, remedy: str) -> UsageError:
    return UsageError(f"--include {path}: this cannot be included", code="usage.include", details=why, remedy=[remedy])


@dataclass(slots=True, kw_only=True)
class _Copy:
    """One copying: what it has come to, and what it left out."""

    owner: tuple[int, int] | None
    size_bytes: int = 0
    count: int = 0
    left_out: list[str] = field(default_factory=list)


def copy_included(source: Source, workspace: Path, owner: tuple[int, int] | None) -> tuple[str, ...]:
    """Copy what ``source`` includes into the workspace, and have the workspace's git ignore it.

    Args:
        workspace: Seeded (``workspace/seed.py``), not checked out yet.
        owner: User and group of the agent; None when they are the caller's.

    Returns:
        Notes for the user.

    Preconditions: no instruction of a container has run on this workspace.

    Raises:
        WorkspaceError: Too much, or something that cannot be read or written.
    """
    if not source.included:
        return ()
    copy = _Copy(owner=owner)
    for path in source.included:
        try:
            _copy_path(source.toplevel, workspace, path, copy)
        except OSError as error:
            raise WorkspaceError(
                f"{path} cannot be copied", code="workspace.include", details=str(error), remedy=[f"ls -l {path}"]
            ) from error
    exclude = workspace / ".git" / "info" / "exclude"
    exclude.write_text("".join(f"/{_escaped(path)}\n" for path in source.included), encoding="utf-8")
    if owner is not None:
        os.chown(exclude, *owner)
    if not copy.left_out:
        return ()
    others = f" and {len(copy.left_out) - 1} more" if len(copy.left_out) > 1 else ""
    return (f"not included: {copy.left_out[0]}{others} (links to elsewhere, repositories, pipes)",)


def _escaped(path: str) -> str:
    """A path as an ignore rule that fits it alone. Source: gitignore(5)."""
    return _SPECIAL.sub(lambda found: "\\" + found[1] if found[1] else "\\ " * len(found[2]), path)


def _copy_path(toplevel: Path, workspace: Path, path: str, copy: _Copy) -> None:
    with ExitStack() as opened:
        source, leaf = _open_parent(toplevel, path, opened)
        target = _opened(opened, workspace, None)
        for part in path.split("/")[:-1]:
            target = _made(opened, part, target, copy, exist_ok=True)
        _copy_entry(source, target, leaf, path, copy)


def _copy_entry(source: int, target: int, name: str, path: str, copy: _Copy) -> None:
    entry = os.stat(name, dir_fd=source, follow_symlinks=False)
    copy.count += 1
    if copy.count > MAX_INCLUDED_FILES:
        raise _too_much(path, f"more than {MAX_INCLUDED_FILES} files")
    if name.lower() == ".git":
        copy.left_out.append(path)
    elif stat.S_ISDIR(entry.st_mode):
        with ExitStack() as opened:
            inner = _opened(opened, name, source)
            made = _made(opened, name, target, copy, exist_ok=True)
            for child in sorted(os.listdir(inner)):
                _copy_entry(inner, made, child, f"{path}/{child}", copy)
    elif stat.S_ISLNK(entry.st_mode):
        _copy_link(source, target, name, path, copy)
    elif stat.S_ISREG(entry.st_mode):
        _copy_file(source, target, name, path, copy)
    else:
        copy.left_out.append(path)


def _copy_link(source: int, target: int, name: str, path: str, copy: _Copy) -> None:
    """A link that stays inside the repository, as a link."""
    to = os.readlink(name, dir_fd=source)
    ends = os.path.normpath(os.path.join(os.path.dirname(path), to))
    if to.startswith("/") or ends.split("/")[0] in ("..", ".git"):
        copy.left_out.append(path)
        return
    os.symlink(to, name, dir_fd=target)
    if copy.owner is not None:
        os.chown(name, *copy.owner, dir_fd=target, follow_symlinks=False)


def _copy_file(source: int, target: int, name: str, path: str, copy: _Copy) -> None:
    # O_NONBLOCK: should it have become a pipe since, opening it must not wait.
    read = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=source)
    with open(read, "rb", buffering=0) as content:
        entry = os.fstat(content.fileno())
        if not stat.S_ISREG(entry.st_mode):
            copy.left_out.append(path)
            return
        mode = 0o700 if entry.st_mode & 0o100 else 0o600
        write = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=target)
        with open(write, "wb", buffering=0) as made:
            while chunk := content.read(1 << 20):
                copy.size_bytes += len(chunk)
                if copy.size_bytes > MAX_INCLUDED_BYTES:
                    raise _too_much(path, f"more than {MAX_INCLUDED_BYTES // GIB} GiB")
                made.write(chunk)
            os.utime(made.fileno(), ns=(entry.st_atime_ns, entry.st_mtime_ns))
            if copy.owner is not None:
                os.fchown(made.fileno(), *copy.owner)


def _too_much(path: str, what: str) -> WorkspaceError:
    return WorkspaceError(
        "what is to be included is too much",
        code="workspace.include-size",
        details=f"{what}; reached at {path}",
        remedy=["name fewer files with --include"],
    )


def _open_parent(toplevel: Path, path: str, opened: ExitStack) -> tuple[int, str]:
    *above, leaf = path.split("/")
    parent = _opened(opened, toplevel, None)
    for part in above:
        parent = _opened(opened, part, parent)
    return parent, leaf


def _opened(stack: ExitStack, name: str | Path, parent: int | None) -> int:
    fd = os.open(name, _DIRECTORY, dir_fd=parent)
    stack.callback(os.close, fd)
    return fd


def _made(stack: ExitStack, name: str, parent: int, copy: _Copy, *, exist_ok: bool) -> int:
    """A folder of the workspace, made where it is missing, opened."""
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
    except FileExistsError:
        if not exist_ok:
            raise
    fd = _opened(stack, name, parent)
    if copy.owner is not None:
        os.fchown(fd, *copy.owner)
    return fd
