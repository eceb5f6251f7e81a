"""The repository that a session starts from: found, judged and described, without changing it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from containai.errors import WorkspaceError
from containai.plan.model import Source
from containai.policy.model import MIB
from containai.workspace.git import run_git, run_git_as_user

WHOLE_HISTORY_BYTES = 64 * MIB
"""A repository with fewer bytes of objects is given with the branch's whole history: it costs milliseconds."""

SHALLOW_DEPTH = 10
"""Commits of history otherwise. Inside, ``git fetch --unshallow local`` brings the rest."""

_NO_USER: Mapping[str, str] = MappingProxyType({})
_OBJECT_NAME_LENGTHS = (40, 64)  # SHA-1, SHA-256


def resolve_source(path: Path, *, user: Mapping[str, str] = _NO_USER, state_dir: Path | None = None) -> Source:
    """Find the repository around ``path`` and the commit that is checked out there.

    Args:
        path: Any directory of a working tree.
        user: The launcher's environment; git's ownership rules read ``HOME``, ``XDG_CONFIG_HOME`` and ``SUDO_UID``.
        state_dir: Where sessions are kept: nothing below it is ever a source.

    Raises:
        WorkspaceError: There is no usable repository, or nothing is committed in it.

    Trust: the user names ``path``; git's own ``safe.directory`` rules decide whether the repository around it is used.
    """
    place = _find_place(path)
    if state_dir is not None and place.is_relative_to(state_dir.resolve()):
        raise WorkspaceError(
            "the source is the workspace of a session",
            code="workspace.inside-session",
            details=f"{place} can be written by an agent, so git is not run there",
            remedy=["start from your own repository: the agent's work is on its branch there"],
        )
    # A path may hold line feeds: what stands between two lines that nobody could foresee is the path.
    fence = f"--containai-{os.urandom(8).hex()}"
    done = run_git_as_user(
        [
            *("rev-parse", "--path-format=absolute", "--is-bare-repository"),
            *(fence, "--show-toplevel", fence, "--git-common-dir", fence),
            *("HEAD^{commit}", "--symbolic-full-name", "HEAD"),
        ],
        place,
        user,
    )
    parts = done.stdout.split(fence.encode() + b"\n")
    if done.status != 0 or len(parts) != 4:
        raise _refusal(place, parts, done.said, user)
    toplevel, git_dir = (Path(os.fsdecode(part.removesuffix(b"\n"))) for part in parts[1:3])
    commit, _, ref = parts[3].decode(errors="replace").strip().partition("\n")
    if len(commit) not in _OBJECT_NAME_LENGTHS:
        raise WorkspaceError("git gave no commit", details=repr(commit))
    return Source(
        toplevel=toplevel,
        git_dir=git_dir,
        base_commit=commit,
        described=ref.removeprefix("refs/heads/") if ref.startswith("refs/heads/") else commit[:12],
        depth=history_depth(git_dir),
    )


def history_depth(git_dir: Path) -> int:
    """How many commits of a repository are given; 0 is the branch's whole history."""
    return 0 if _is_small_and_complete(git_dir) else SHALLOW_DEPTH


def _find_place(path: Path) -> Path:
    try:
        place = path.resolve(strict=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise WorkspaceError(
            "the source does not exist",
            code="workspace.not-found",
            details=f"{path}: {getattr(error, 'strerror', None) or error}",
            remedy=["name a directory of a git repository: containai run SOURCE -- COMMAND"],
        ) from error
    if not place.is_dir():
        raise WorkspaceError(
            "the source is not a directory",
            code="workspace.not-found",
            details=str(path),
            remedy=["name a directory of a git repository: containai run SOURCE -- COMMAND"],
        )
    return place


def _refusal(place: Path, parts: list[bytes], said: str, user: Mapping[str, str]) -> WorkspaceError:
    """The error for a ``rev-parse`` that failed, judged by how far it came."""
    if "dubious ownership" in said:
        # Git prints the command that its user must give; this is the same one, quoted for a shell.
        owned = said.partition("repository at '")[2].partition("'\n")[0] or str(place)
        return WorkspaceError(
            "git does not trust this repository: it belongs to somebody else",
            code="workspace.dubious-ownership",
            details=f"{owned} is not owned by you",
            remedy=[f"git config --global --add safe.directory {shlex.quote(owned)}"],
        )
    if parts[0].startswith(b"true"):
        return WorkspaceError(
            "the source is a bare repository",
            code="workspace.bare",
            details=f"{place} has no working tree",
            remedy=[f"git -C {shlex.quote(str(place))} worktree add ../checkout", "start from that directory"],
        )
    if parts[0].startswith(b"false") and len(parts) < 3:
        return WorkspaceError(
            "the source is inside a git directory",
            code="workspace.no-work-tree",
            details=f"{place}: {said}",
            remedy=["start from a directory of the working tree"],
        )
    if len(parts) == 4:
        return _no_commit(Path(os.fsdecode(parts[2].removesuffix(b"\n"))), place, said, user)
    if "not a git repository" in said and not any(os.path.lexists(d / ".git") for d in (place, *place.parents)):
        return WorkspaceError(
            "the source is not in a git repository",
            code="workspace.not-a-repository",
            details=str(place),
            remedy=["git init && git add -A && git commit -m 'first commit'"],
        )
    if "not a git repository" in said:
        return _corrupt_head(place, said)
    return WorkspaceError(
        "git cannot use the source",
        details=said,
        remedy=[f"git -C {shlex.quote(str(place))} status   # says the same; when that works, this does"],
    )


def _no_commit(git_dir: Path, place: Path, said: str, user: Mapping[str, str]) -> WorkspaceError:
    head = run_git_as_user(["symbolic-ref", "--quiet", "HEAD"], place, user).stdout
    ref = os.fsdecode(head.removesuffix(b"\n"))
    if ref and not run_git(["for-each-ref", ref], git_dir=git_dir).stdout and not _was_there(git_dir, ref):
        return WorkspaceError(
            "nothing has been committed yet",
            code="workspace.unborn",
            details=f"the branch {ref.removeprefix('refs/heads/')} has no commit to start from",
            remedy=["git add -A && git commit -m 'first commit'"],
        )
    return _corrupt_head(place, said)


def _was_there(git_dir: Path, ref: str) -> bool:
    """Whether a branch that git does not see has left something: to such a one nobody shall give a first commit."""
    if os.path.lexists(git_dir / ref) or os.path.lexists(git_dir / "logs" / ref):
        return True
    with suppress(OSError), open(git_dir / "packed-refs", "rb") as packed:
        return any(line.rstrip().endswith(b" " + os.fsencode(ref)) for line in packed)
    return False


def _corrupt_head(place: Path, said: str) -> WorkspaceError:
    return WorkspaceError(
        "the repository's HEAD cannot be read",
        code="workspace.corrupt-head",
        details=f"{place}: {said.splitlines()[0] if said else 'git says nothing more'}",
        remedy=["git fsck", "git reflog"],
    )


def _is_small_and_complete(git_dir: Path) -> bool:
    """Whether the whole history can be given: cheap to copy, and all there.

    A few ``stat`` calls, no process. Loose objects spread evenly over 256 directories: 16 are a fair sample.
    """
    total = 0
    for objects in _object_directories(git_dir):
        for entry in _entries(objects / "pack"):
            if entry.name.endswith(".promisor"):  # a partial clone: old content may be missing here
                return False
            if entry.name.endswith(".pack"):
                total += entry.stat().st_size
        for digit in "0123456789abcdef":
            total += 16 * sum(entry.stat().st_size for entry in _entries(objects / f"{digit}7"))
            if total >= WHOLE_HISTORY_BYTES:
                return False
    return total < WHOLE_HISTORY_BYTES


def _object_directories(git_dir: Path) -> Iterator[Path]:
    objects = git_dir / "objects"
    yield objects
    with suppress(OSError):
        for line in (objects / "info" / "alternates").read_bytes().splitlines():
            if line and not line.startswith((b"#", b'"')):
                yield objects / os.fsdecode(line)


def _entries(directory: Path) -> Iterator[os.DirEntry[str]]:
    with suppress(OSError), os.scandir(directory) as entries:
        yield from entries
