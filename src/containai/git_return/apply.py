"""From the quarantine into the host repository: one ref, checked twice, moved by compare-and-swap.

    1. walk       what the agent's tip adds to the base commit: commits, objects, names
    2. inspect    sizes, links, submodules (``inspect``)
    3. transfer   exactly those objects, through ``index-pack --strict`` (fsck) into the host repository (``transfer``)
    4. move       the branch: forward only; if it cannot go forward, a new branch beside it

Nothing else of the host repository changes: no index, no working tree, no configuration, no FETCH_HEAD, no other ref
or reflog. Git never runs in a directory that the container can write, and reads no configuration of its making.
Source: W5, W6.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from itertools import count

from containai.errors import ReturnFailed
from containai.git_return.inspect import check_changes, check_sizes, name_notes
from containai.git_return.limits import MAX_COMMITS, check_path, read_records, too_much
from containai.git_return.quarantine import MAX_OBJECTS, MAX_TOTAL_BYTES, Quarantine
from containai.git_return.transfer import transfer
from containai.host.clock import monotonic_s
from containai.plan.model import Source
from containai.record import dataclass, replace
from containai.workspace.refs import (
    Branch,
    create_ref,
    is_ancestor,
    list_branches,
    names_in_progress,
    remove_own_lock,
    sync_directory,
    update_refs,
)

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
    notes: tuple[str, ...] = ()


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
    deadline = monotonic_s() + _TRANSFER_S
    transfer(source, quarantine, tip, base, max_bytes=MAX_TOTAL_BYTES, deadline_s=deadline)
    returned = _move(source, branch, base, addition, in_place)
    with contextlib.suppress(FileNotFoundError):  # refs packed meanwhile: git has synced those
        sync_directory((source.git_dir / "refs" / "heads" / returned.branch).parent)
    return replace(returned, notes=(*returned.notes, *addition.notes))


def _walk(quarantine: Quarantine, tip: str, base: str) -> _Addition:
    """Steps 1 and 2."""
    deadline = monotonic_s() + _TRANSFER_S
    command = ["rev-list", "--objects", "--boundary", "--topo-order", "--reverse", tip, f"^{base}"]
    commits, continues = [], False
    with os.fdopen(os.memfd_create("containai-objects"), "w+b") as objects:
        lines = read_records(command, git_dir=quarantine.path, separator=b"\n", deadline_s=deadline)
        for number, line in enumerate(lines):
            if number >= 2 * MAX_OBJECTS:
                raise too_much(f"more than {2 * MAX_OBJECTS} objects")
            name, separator, path = line.partition(b" ")
            if separator:
                check_path(path)
            elif name.startswith(b"-"):
                # The base is on the boundary exactly when one of the new commits is a child of it.
                continues = continues or name[1:].decode() == base
                continue
            else:
                commits.append(name.decode())
            objects.write(name + b"\n")
        if len(commits) > MAX_COMMITS:
            raise too_much(f"{len(commits)} commits, {MAX_COMMITS} at most")
        objects.flush()
        check_sizes(quarantine, objects.fileno(), deadline)
    check_changes(quarantine, commits, deadline)
    notes = name_notes(quarantine, base, tip, deadline) if commits else ()
    return _Addition(tip=tip, commits=tuple(commits), continues=continues, notes=notes)


def _move(source: Source, branch: str, base: str, addition: _Addition, in_place: InPlace | None) -> Returned:
    """Step 4."""
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


def _unmoved(branch: str, details: str) -> ReturnFailed:
    return ReturnFailed(
        f"the branch {branch} could not be written",
        code="return.unwritable",
        details=details,
        remedy=["the work is kept in the session; containai recover brings it in later"],
    )
