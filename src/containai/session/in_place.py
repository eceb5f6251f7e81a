"""Work that returns to the branch which its user has checked out: he asked for it with ``--use-current-branch``.

His checkout is never moved under his feet: it goes forward only while nothing in it is uncommitted, and only to work
that runs nothing on its own. Anything else stands on a branch beside his, and waits there for his review.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from containai.errors import ContainaiError, ReviewError
from containai.git_return.apply import InPlace
from containai.plan.model import SessionPlan
from containai.workspace.git import run_git_as_user
from containai.workspace.refs import Branch, is_ancestor

if TYPE_CHECKING:
    from containai.review.merge import Target


def land_in_place(plan: SessionPlan) -> InPlace:
    """How ``apply_return`` shall treat the session's branch."""
    return InPlace(land=lambda branch, tip: _land(plan, branch, tip), beside=f"{plan.agent}/{plan.branch}")


def _land(plan: SessionPlan, branch: Branch, tip: str) -> str:
    """Take the branch to ``tip``; why that cannot be, or nothing."""
    if branch.symbolic:
        return "is a symbolic ref"
    if not is_ancestor(plan.source.git_dir, branch.commit, tip):
        return "has moved on the host meanwhile, or the agent rewrote it"
    try:
        return _land_harmless(plan, branch, tip)
    except ReviewError as error:
        return f"could not be moved: {error.summary}"
    except ContainaiError as error:
        return f"could not be moved: {error.details or error.summary}"
    except Exception as error:  # noqa: BLE001 - whatever the work does to its reader, it comes home
        return f"could not be moved: {error!r}"


def _land_harmless(plan: SessionPlan, branch: Branch, tip: str) -> str:
    from containai.review.merge import Target, find_target, land  # other sessions need none of the review
    from containai.review.read import Judge, begin_review

    git_dir = plan.source.git_dir
    user = {"HOME": os.fspath(Path.home())}
    judge = Judge(key=b"", tree=plan.source.toplevel, user=user)
    draft = begin_review(git_dir, branch=branch.name, base=branch.commit, tip=tip, authors=frozenset(), judge=judge)
    triggers = draft.finish().triggers
    if triggers:
        kinds = ", ".join(sorted({trigger.kind for trigger in triggers}))
        return f"is not given what runs, obeys or hides something before you have looked at it ({kinds})"
    if not branch.checked_out:
        return ""
    target = find_target(git_dir, plan.source.toplevel, branch.name)
    if target.worktree is None or _is_dirty(target, user):
        return "has uncommitted changes in its working tree, which must not change under its user"
    land(git_dir, Target(branch=target.branch, commit=branch.commit, worktree=target.worktree), tip, user)
    return ""


def _is_dirty(target: Target, user: dict[str, str]) -> bool:
    assert target.worktree is not None
    done = run_git_as_user(["status", "--porcelain", "--untracked-files=no"], target.worktree, user)
    return done.status != 0 or bool(done.stdout)
