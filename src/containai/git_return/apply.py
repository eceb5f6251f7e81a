"""From the quarantine into the host repository: one ref, checked twice, moved by compare-and-swap.

    1. walk       what the agent's tip adds to the base commit: commits, objects, names
    2. transfer   exactly those objects, through ``index-pack --strict`` (fsck) into the host repository
    3. move       the branch: forward only; if it cannot go forward, a new branch beside it

Nothing else of the host repository changes: no index, no working tree, no configuration, no FETCH_HEAD, no other ref
or reflog. Git never runs in a directory that the container can write, and reads no configuration of its making.
Source: W5, W6.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

from containai.errors import ReturnFailed
from containai.git_return.quarantine import MAX_OBJECTS, MAX_TOTAL_BYTES, Quarantine
from containai.host.clock import monotonic_s
from containai.plan.model import Source
from containai.workspace.git import Child, await_exit, end_group, run_git, spawn_git
from containai.workspace.refs import (
    DURABLE,
    Branch,
    create_ref,
    is_ancestor,
    list_branches,
    names_in_progress,
    remove_own_lock,
    sync_directory,
    update_refs,
)

MAX_PATH_BYTES = 3800
"""Longest path in a returned commit; PATH_MAX less room for the directory that it is checked out in."""

MAX_NAME_BYTES = 255
"""Longest single name. Source: NAME_MAX of every Linux file system."""

_TRANSFER_S = 900.0
_REASON = "containai: work returned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """What has arrived in the host repository.

    Attributes:
        branch: Where it stands; not always the branch that was asked for (``diverged``).
        old: Where that branch stood before; zeros if it is new.
        new: The agent's last commit.
        commits: The agent's commits, oldest first; empty when there was nothing to return.
        diverged: Whether a branch of its own had to be made, because the asked one could not go forward.
        notes: Sentences for the user.
    """

    branch: str
    old: str
    new: str
    commits: tuple[str, ...] = ()
    diverged: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Addition:
    """What the agent's tip adds to the base. ``continues``: the base is an ancestor of the tip."""

    tip: str
    commits: tuple[str, ...]
    continues: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class InPlace:
    """For a branch that is the user's own (``--use-current-branch``).

    Attributes:
        land: Decides whether the branch, as it stands, may go to a commit, and takes it there if it is checked out;
            returns why not, or nothing.
        beside: Beginning of the name of the branch that gets the work otherwise.
    """

    land: Callable[[Branch, str], str]
    beside: str


def apply_return(
    source: Source, quarantine: Quarantine, branch: str, base: str, in_place: InPlace | None = None
) -> Returned:
    """Bring what was pushed to the quarantine into the host repository. Idempotent.

    Preconditions: no server writes the quarantine any more.

    Raises:
        ReturnFailed: It was refused or could not be written; the quarantine keeps it.

    Trust: every object in the quarantine is the agent's making; its configuration and refs are the host's.
    """
    tip = quarantine.tip()
    if tip == base:
        return Returned(branch=branch, old=base, new=base)
    addition = _walk(quarantine, tip, base)
    if not addition.commits:
        note = "the agent moved its branch back to before its starting point; there is nothing to return"
        return Returned(branch=branch, old=base, new=base, notes=(note,))
    _transfer(source, quarantine, tip, base)
    returned = _move(source, branch, base, addition, in_place)
    # Git syncs a ref's content, not the directory that names it; the session's copy is deleted next.
    with suppress(FileNotFoundError):
        sync_directory((source.git_dir / "refs" / "heads" / returned.branch).parent)
    return returned


def _walk(quarantine: Quarantine, tip: str, base: str) -> _Addition:
    """Step 1."""
    done = run_git(
        ["rev-list", "--objects", "--boundary", "--topo-order", "--reverse", tip, f"^{base}"],
        git_dir=quarantine.path,
        timeout_s=_TRANSFER_S,
    )
    if done.status != 0:
        raise ReturnFailed("the returned commits cannot be read", code="return.incomplete", details=done.said)
    lines = done.stdout.splitlines()
    if len(lines) > 2 * MAX_OBJECTS:
        raise _too_much(f"{len(lines)} objects, {2 * MAX_OBJECTS} at most")
    commits, continues = [], False
    for line in lines:
        name, separator, path = line.partition(b" ")
        if separator:
            _check_path(path)
        elif name.startswith(b"-"):
            # The base is on the boundary exactly when one of the new commits is a child of it.
            continues = continues or name[1:].decode() == base
        else:
            commits.append(name.decode())
    return _Addition(tip=tip, commits=tuple(commits), continues=continues)


def _check_path(path: bytes) -> None:
    if len(path) > MAX_PATH_BYTES or any(len(part) > MAX_NAME_BYTES for part in path.split(b"/")):
        shown = path[:60].decode(errors="replace")
        raise ReturnFailed(
            "a returned file has a name too long to be checked out",
            code="return.path-too-long",
            details=f"{shown!r}..., {len(path)} bytes; {MAX_PATH_BYTES} at most, {MAX_NAME_BYTES} in one name",
            remedy=["the work is kept in the session; shorten the name there"],
        )


def _transfer(source: Source, quarantine: Quarantine, tip: str, base: str) -> None:
    """Step 2. Not ``git fetch``: two processes instead of five, and nothing that fetch writes besides objects."""
    deadline = monotonic_s() + _TRANSFER_S
    wanted, said = os.memfd_create("containai-wanted"), os.memfd_create("containai-said")
    null = os.open(os.devnull, os.O_RDWR)
    readable, writable = os.pipe()
    children: list[Child] = []
    try:
        os.pwrite(wanted, f"{tip}\n^{base}\n".encode(), 0)
        pack = ["pack-objects", "--revs", "--stdout", "--quiet", "--delta-base-offset"]
        children.append(spawn_git(pack, git_dir=quarantine.path, stdin=wanted, stdout=writable, stderr=null))
        os.close(writable)
        writable = -1
        # Source: git-index-pack(1): --strict dies on broken objects and links, and on names that are twins of .git
        # on other file systems (fsck's warnings count as errors here).
        index = [*DURABLE, "index-pack", "--stdin", "--strict", f"--max-input-size={MAX_TOTAL_BYTES}"]
        children.append(spawn_git(index, git_dir=source.git_dir, stdin=readable, stdout=null, stderr=said))
        os.close(readable)
        readable = -1
        statuses = [await_exit(child, deadline) for child in children]
        if statuses != [0, 0]:
            raise _transfer_failed(source, statuses, os.pread(said, 4096, 0).decode(errors="replace").strip())
    finally:
        for child in children:
            if child.poll() is None:
                end_group(child)
                await_exit(child, monotonic_s() + 5.0)
        for fd in (wanted, said, null, readable, writable):
            if fd >= 0:
                os.close(fd)


def _transfer_failed(source: Source, statuses: Sequence[int | None], said: str) -> ReturnFailed:
    if None in statuses:
        return ReturnFailed("the returned objects took too long to check", code="return.timeout")
    if any(
        sign in said
        for sign in ("Permission denied", "not permitted", "unable to create", "No space left", "Read-only", "quota")
    ):
        return ReturnFailed(
            "the host repository cannot be written",
            code="return.unwritable",
            details=said,
            remedy=[f"make {source.git_dir} writable, with space left", "containai recover"],
        )
    if "exceeds maximum allowed size" in said:
        return _too_much(said)
    return ReturnFailed(
        "git refused the returned objects",
        code="return.fsck",
        details=said or "the quarantine could not be read",
        remedy=["the work is kept in the session"],
    )


def _move(source: Source, branch: str, base: str, addition: _Addition, in_place: InPlace | None) -> Returned:
    """Step 3."""
    tip, git_dir = addition.tip, source.git_dir
    current = next((entry for entry in list_branches(git_dir, branch) if entry.name == branch), None)
    if in_place is not None and current is not None and current.commit != tip:
        why = in_place.land(current, tip) or None
        if why is None and current.checked_out:
            return Returned(branch=branch, old=current.commit, new=tip, commits=addition.commits)
    else:
        why = _why_not_here(source, current, base, addition)
    zeros = "0" * len(tip)
    if why is None:
        old = current.commit if current else zeros
        if old == tip:
            return Returned(branch=branch, old=base, new=tip, commits=addition.commits)
        verb = ("update", f"refs/heads/{branch}", tip, old) if current else ("create", f"refs/heads/{branch}", tip, "")
        refused = update_refs(git_dir, [verb], _REASON)
        if refused is not None and remove_own_lock(git_dir, f"refs/heads/{branch}", tip):
            refused = update_refs(git_dir, [verb], _REASON)
        if refused is None:
            return Returned(branch=branch, old=old, new=tip, commits=addition.commits)
        if refused.error.code == "workspace.unwritable":
            raise _unmoved(branch, refused.error.details)
        why = "changed at the same moment"
    for number in count(2):
        beside = f"{branch if in_place is None else in_place.beside}-{number}"
        refused = create_ref(git_dir, f"refs/heads/{beside}", tip, _REASON)
        if refused is None or any(e.name == beside and e.commit == tip for e in list_branches(git_dir, beside)):
            note = f"{branch} {why}; the work stands on {beside}"
            return Returned(branch=beside, old=zeros, new=tip, commits=addition.commits, diverged=True, notes=(note,))
        if not refused.retry or number > 1000:
            raise _unmoved(beside, refused.error.details)
    raise AssertionError("count() does not end")


def _why_not_here(source: Source, current: Branch | None, base: str, addition: _Addition) -> str | None:
    """Why the branch cannot take the work; None when it can."""
    if current is None:  # the user deleted it meanwhile: the work still needs a name
        return None if addition.continues else "was rewritten by the agent from before its starting point"
    if current.commit == addition.tip:
        return None
    if current.symbolic or current.checked_out or current.name in names_in_progress(source.git_dir):
        return "is checked out in a working tree, which must not change under its user"
    if current.commit == base:
        return None if addition.continues else "was rewritten by the agent from before its starting point"
    return None if is_ancestor(source.git_dir, current.commit, addition.tip) else "has moved on the host meanwhile"


def _too_much(details: str) -> ReturnFailed:
    return ReturnFailed(
        "the agent returned too much",
        code="return.too-large",
        details=details,
        remedy=["the work is kept in the session"],
    )


def _unmoved(branch: str, details: str) -> ReturnFailed:
    return ReturnFailed(
        f"the branch {branch} could not be written",
        code="return.unwritable",
        details=details,
        remedy=["the work is kept in the session; containai recover brings it in later"],
    )
