"""The agent's branch in the host repository: claimed before the session, given back if nothing came of it.

A branch is created by one ``update-ref`` that demands that it did not exist, so two launches at the same
instant never get the same one. ``-b`` may also take up a branch that exists and holds nothing of its
own; for that case a claim is held as long as this process lives (``_claim``).
"""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

from containai.errors import UsageError, WorkspaceError
from containai.host.clock import now_rfc3339
from containai.plan.model import Source
from containai.record import dataclass
from containai.workspace.git import run_git
from containai.workspace.refs import (
    Branch,
    create_ref,
    delete_ref,
    is_ancestor,
    list_branches,
    names_in_progress,
    update_refs,
)

_MAX_NAME_BYTES = 200
_ATTEMPTS = 200
_REASON = "containai: session reserved"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """This process's hold on a branch. ``created`` tells whether the branch is of its making."""

    held: socket.socket
    created: bool


_CLAIMS: dict[tuple[Path, str], _Claim] = {}


def reserve_branch(source: Source, agent: str, name: str | None, replace: bool = False) -> str:
    """Make the session's branch stand at ``source.base_commit``, for this session alone.

    Args:
        agent: First part of the branch's name.
        name: The rest, from ``-b`` (``agent/name`` is understood too); None takes the lowest free ``session-N``.
        replace: Archive a branch that has work of its own instead of refusing (``-y``).

    Returns:
        The branch's name, ``<agent>/<name>``.

    Raises:
        UsageError: Git refuses the name. Nothing has been touched.
        WorkspaceError: The branch is in use, has unmerged work, or cannot be written.
    """
    if name is None:
        return _reserve_numbered(source, agent)
    branch = _checked_name(source, agent, name)
    held = _claim(source, branch)
    if held is None:
        raise _in_use(branch)
    try:
        created = _reserve_named(source, agent, branch, replace)
    except BaseException:
        held.close()
        raise
    _CLAIMS[source.git_dir, branch] = _Claim(held=held, created=created)
    return branch


def claim_current_branch(source: Source) -> str:
    """Hold the branch that the user has checked out, for a session that works on it itself (W5). It is not moved here.

    Raises:
        WorkspaceError: No branch is checked out, or another session works on it.
    """
    found = [entry for entry in list_branches(source.git_dir, source.described) if entry.name == source.described]
    if not found or found[0].symbolic or found[0].commit != source.base_commit or not found[0].checked_out:
        raise WorkspaceError(
            "no branch is checked out here",
            code="workspace.no-branch",
            details=f"HEAD is at {source.described}",
            remedy=["git switch BRANCH", "or leave --use-current-branch out"],
        )
    held = _claim(source, source.described)
    if held is None:
        raise _in_use(source.described)
    _CLAIMS[source.git_dir, source.described] = _Claim(held=held, created=False)
    return source.described


def release_branch(source: Source, branch: str, at: str) -> bool:
    """Give the branch back: delete it if nothing was added to it since ``at``. Idempotent.

    A branch that this process found and did not create stays where it is.

    Returns:
        Whether the branch was deleted.
    """
    claim = _CLAIMS.get((source.git_dir, branch))
    end_claim(source, branch)
    if claim is not None and not claim.created:
        return False
    return delete_ref(source.git_dir, f"refs/heads/{branch}", at)


def end_claim(source: Source, branch: str) -> None:
    """Let another session have the branch as it is. Idempotent; the end of this process does the same."""
    claim = _CLAIMS.pop((source.git_dir, branch), None)
    if claim is not None:
        claim.held.close()


def claim_branch(source: Source, branch: str) -> bool:
    """Hold a branch that exists, as the process that resumes a session; False when another process holds it."""
    held = _claim(source, branch)
    if held is not None:
        _CLAIMS[source.git_dir, branch] = _Claim(held=held, created=_began_as_reservation(source, branch))
    return held is not None


def _began_as_reservation(source: Source, branch: str) -> bool:
    """Whether the branch was created by ``reserve_branch``, by its reflog; without one it is the user's."""
    try:
        with open(source.git_dir / "logs" / "refs" / "heads" / branch, "rb") as reflog:
            first = reflog.readline().rstrip(b"\n")
    except OSError:
        return False
    return first.startswith(b"0" * len(source.base_commit)) and first.endswith(b"\t" + _REASON.encode())


def _reserve_numbered(source: Source, agent: str) -> str:
    skipped: set[str] = set()
    for attempt in range(_ATTEMPTS):
        branches = list_branches(source.git_dir, agent)
        _refuse_agent_branch(branches, agent)
        taken = {entry.name for entry in branches} | skipped
        parents = {name[: name.find("/", len(agent) + 1)] for name in taken if name.count("/") > 1}
        number = next(n for n in range(1, len(taken) + 2) if f"{agent}/session-{n}" not in taken | parents)
        branch = f"{agent}/session-{number}"
        refused = create_ref(source.git_dir, f"refs/heads/{branch}", source.base_commit, _REASON)
        if refused is None:
            held = _claim(source, branch)
            if held is not None:
                _CLAIMS[source.git_dir, branch] = _Claim(held=held, created=True)
            return branch
        if not refused.retry:
            raise refused.error
        # A lock file that stays is a leftover of a git that was killed: its number is passed over.
        if attempt % 20 == 19:
            skipped.add(branch)
    raise WorkspaceError(
        "no free branch could be created",
        code="workspace.branch-busy",
        details=f"{_ATTEMPTS} attempts below refs/heads/{agent}/ met a lock",
        remedy=[f"remove stale *.lock files below {source.git_dir / 'refs' / 'heads' / agent}"],
    )


def _reserve_named(source: Source, agent: str, branch: str, replace: bool) -> bool:
    """Bring ``branch`` to the base commit; whether it had to be created."""
    branches = list_branches(source.git_dir, agent)
    _refuse_agent_branch(branches, agent)
    for other in branches:
        if other.name.startswith(branch + "/") or branch.startswith(other.name + "/"):
            raise WorkspaceError(
                f"{branch} cannot exist beside {other.name}",
                code="workspace.branch-conflict",
                details="git keeps branches as files: one name cannot be the beginning of another",
                remedy=["choose another name with -b"],
            )
    existing = next((entry for entry in branches if entry.name == branch), None)
    if existing is None:
        refused = create_ref(source.git_dir, f"refs/heads/{branch}", source.base_commit, _REASON)
        if refused is not None:
            raise refused.error
        return True
    _refuse_checked_out(source, existing)
    merged = existing.commit == source.base_commit or is_ancestor(source.git_dir, existing.commit, source.base_commit)
    if not merged and not replace:
        raise WorkspaceError(
            f"{branch} exists and has commits that are not in {source.described}",
            code="workspace.branch-unmerged",
            remedy=[
                f"git log {source.described}..{branch}",
                "add -y to archive it and start anew, or choose another -b",
            ],
        )
    commands = [("update", f"refs/heads/{branch}", source.base_commit, existing.commit)]
    if not merged:
        # Source: W5. One transaction: there is no moment at which the work is on no branch.
        archive = f"{branch}-archived-{now_rfc3339().replace('-', '').replace(':', '').replace('.', '')}"
        commands.insert(0, ("create", f"refs/heads/{archive}", existing.commit, ""))
    refused = update_refs(source.git_dir, commands, _REASON)
    if refused is not None:
        raise refused.error
    return False


def _refuse_agent_branch(branches: tuple[Branch, ...], agent: str) -> None:
    if any(entry.name == agent for entry in branches):
        raise WorkspaceError(
            f"a branch named {agent} stands where {agent}/... has to go",
            code="workspace.branch-conflict",
            details="git keeps branches as files: one name cannot be the beginning of another",
            remedy=[f"git branch -m {agent} {agent}-old"],
        )


def _refuse_checked_out(source: Source, branch: Branch) -> None:
    if branch.checked_out or branch.name in names_in_progress(source.git_dir):
        raise WorkspaceError(
            f"{branch.name} is checked out in a working tree",
            code="workspace.branch-checked-out",
            details="moving it would change that working tree's state under its user",
            remedy=["git worktree list", "switch that working tree to another branch, or choose another -b"],
        )
    if branch.symbolic:
        raise WorkspaceError(
            f"{branch.name} is a symbolic ref",
            code="workspace.branch-symbolic",
            details="it stands for another branch, which would change with it",
            remedy=["choose another name with -b"],
        )


def _checked_name(source: Source, agent: str, name: str) -> str:
    branch = f"{agent}/{name.removeprefix(f'{agent}/')}"
    if not name.isprintable() or len(os.fsencode(branch)) > _MAX_NAME_BYTES:
        raise _bad_name(name, f"at most {_MAX_NAME_BYTES} bytes of printable text")
    # Source: git-check-ref-format(1). Git itself is asked: its rules are many and have grown.
    if run_git(["check-ref-format", f"refs/heads/{branch}"], git_dir=source.git_dir).status != 0:
        raise _bad_name(name, "git's rules are in: git help check-ref-format")
    return branch


def _in_use(branch: str) -> WorkspaceError:
    return WorkspaceError(
        f"another session is working on {branch}",
        code="workspace.branch-in-use",
        remedy=["containai list", "choose another name with -b"],
    )


def _bad_name(name: str, rule: str) -> UsageError:
    return UsageError(f"not a branch name: {name!r}", code="usage.branch", details=rule, remedy=["choose another -b"])


def _claim(source: Source, branch: str) -> socket.socket | None:
    """Hold a branch as long as this process (or a fork of it) lives; None when another holds it.

    An abstract unix socket: bound once on a machine, gone with its process, nothing on disk. Whoever can run code on
    this machine outside a container can occupy the name, and then a launch with ``-b`` is refused, not fooled.
    """
    digest = hashlib.sha256(os.fsencode(source.git_dir) + b"\0" + branch.encode()).hexdigest()
    held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        held.bind(f"\0containai/branch/{digest}")
    except OSError:
        held.close()
        return None
    return held
