"""The merge of a reviewed branch: one commit is prepared out of sight, then a branch moves forward to it.

    1. prepare    the agent's commit itself (fast-forward), a merge commit, or one squashed commit: objects only
    2. land       a branch that no working tree shows: compare-and-swap; else ``git merge --ff-only`` in that tree

No hook runs, and nothing is ever written into a working tree that git would not overwrite on a plain fast-forward.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from containai.errors import ReviewError
from containai.review.model import shown
from containai.workspace.git import run_git, run_git_as_user
from containai.workspace.refs import is_ancestor, names_in_progress, update_refs

_SHOWN_CONFLICTS = 10
_OBJECT = re.compile(rb"[0-9a-f]{40}|[0-9a-f]{64}")


class How(Enum):
    """Kinds of merge."""

    AUTO = "auto"  # fast-forward where that is possible, else a merge commit
    FF_ONLY = "ff-only"
    NO_FF = "no-ff"
    SQUASH = "squash"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The branch that receives the work.

    Attributes:
        branch: Its name.
        commit: Where it stands.
        worktree: The working tree that shows it; None when there is none.
    """

    branch: str
    commit: str
    worktree: Path | None


def find_target(git_dir: Path, repository: Path, into: str | None) -> Target:
    """The branch named, or the one checked out in ``repository``.

    Raises:
        ReviewError: There is no such branch.
    """
    if into is None:
        head = run_git(["symbolic-ref", "--quiet", "HEAD"], git_dir=_own_git_dir(repository, git_dir))
        ref = os.fsdecode(head.stdout.strip())
        if not ref.startswith("refs/heads/"):
            raise ReviewError(
                "no branch is checked out, so there is none to merge into",
                code="review.no-target",
                details=os.fspath(repository),
                remedy=["containai merge SESSION --into BRANCH"],
            )
        into = ref.removeprefix("refs/heads/")
    # Source: git-for-each-ref(1): %00 ends a field.
    form = "--format=%(refname)%00%(objectname)%00%(symref)%00%(worktreepath)"
    listed = run_git(["for-each-ref", form, f"refs/heads/{into}"], git_dir=git_dir).stdout
    for line in listed.splitlines():
        ref_name, commit, symbolic, worktree = line.split(b"\0")
        if ref_name == b"refs/heads/" + os.fsencode(into) and not symbolic:
            place = Path(os.fsdecode(worktree)) if worktree else None
            return Target(branch=into, commit=commit.decode(), worktree=place)
    raise ReviewError(f"there is no branch {into}", code="review.no-target", remedy=["git branch --list"])


def prepare_merge(
    git_dir: Path, repository: Path, target: Target, tip: str, how: How, message: str, user: Mapping[str, str]
) -> str:
    """Step 1. The commit that the target shall stand at; written as objects, no ref moves.

    Args:
        message: For a merge or squashed commit; printable.
        user: The launcher's environment: the commit is made under the user's own identity.

    Raises:
        ReviewError: There is nothing to merge, it conflicts, or cannot go forward.
    """
    if is_ancestor(git_dir, tip, target.commit):
        raise ReviewError(f"{target.branch} has all of it already", code="review.merged")
    straight = is_ancestor(git_dir, target.commit, tip)
    if how in (How.AUTO, How.FF_ONLY) and straight:
        return tip
    if how is How.FF_ONLY:
        raise ReviewError(
            f"{target.branch} has moved on, so it cannot go straight to the agent's commit",
            code="review.not-forward",
            remedy=["containai merge SESSION           # makes a merge commit", "containai merge SESSION --squash"],
        )
    tree = f"{tip}^{{tree}}" if straight else _merged_tree(git_dir, target, tip)
    parents = ["-p", target.commit, *(() if how is How.SQUASH else ("-p", tip))]
    made = run_git_as_user(["commit-tree", tree, *parents, "-m", message], repository, user)
    commit = made.stdout.strip()
    if made.status != 0 or not _OBJECT.fullmatch(commit):
        raise ReviewError(
            "the merge commit could not be made",
            code="review.commit",
            details=made.said,
            remedy=['git config --global user.name "Your Name"', "git config --global user.email you@example.org"],
        )
    return commit.decode()


def land(git_dir: Path, target: Target, commit: str, user: Mapping[str, str]) -> None:
    """Step 2.

    Raises:
        ReviewError: The branch or its working tree is in the way; neither was changed.
    """
    if target.branch in names_in_progress(git_dir):
        raise ReviewError(
            f"{target.branch} is in the middle of a rebase",
            code="review.busy",
            remedy=["git rebase --continue, or --abort", "then merge again"],
        )
    if target.worktree is None:
        command = ("update", f"refs/heads/{target.branch}", commit, target.commit)
        refused = update_refs(git_dir, [command], "containai: merge")
        if refused is not None:
            raise ReviewError(f"{target.branch} could not be moved", code="review.busy", details=refused.error.details)
        return
    # Source: git-merge(1): a fast-forward that would overwrite anything uncommitted is refused as a whole; what is
    # ignored counts only with --no-overwrite-ignore. The user's branch.<name>.mergeOptions come first and lose.
    arguments = [
        "-c",
        "submodule.recurse=false",
        "merge",
        "--ff-only",
        "--no-squash",
        "--commit",
        "--no-overwrite-ignore",
        "--no-autostash",
        "--no-stat",
        "--quiet",
        commit,
    ]
    done = run_git_as_user(arguments, target.worktree, user)
    if done.status != 0:
        raise ReviewError(
            f"the working tree of {target.branch} is in the way",
            code="review.working-tree",
            details=shown(done.stderr.strip()).replace("\\n", "\n"),
            remedy=["commit or stash what you have there", "then merge again"],
        )


def _merged_tree(git_dir: Path, target: Target, tip: str) -> str:
    # Source: git-merge-tree(1): a merge without a working tree; status 1 is a conflict. Since git 2.38.
    done = run_git(
        ["merge-tree", "--write-tree", "--name-only", "--no-messages", "-z", target.commit, tip],
        git_dir=git_dir,
        timeout_s=300.0,
    )
    fields = done.stdout.split(b"\0")
    if done.status == 0 and _OBJECT.fullmatch(fields[0]):
        return fields[0].decode()
    if done.status == 1:
        paths = [shown(path) for path in fields[1:] if path]
        more = [f"and {len(paths) - _SHOWN_CONFLICTS} more"] if len(paths) > _SHOWN_CONFLICTS else []
        raise ReviewError(
            f"it conflicts with {target.branch}",
            code="review.conflict",
            details="\n".join([*paths[:_SHOWN_CONFLICTS], *more]),
            remedy=[f"git merge {tip[:12]}   # in your own checkout, and solve the conflicts there"],
        )
    raise ReviewError(
        "git cannot merge without a working tree",
        code="review.git-too-old",
        details=done.said[-500:],
        remedy=["git 2.38 or newer is needed for that", f"or by hand: git merge {tip[:12]}"],
    )


def _own_git_dir(repository: Path, git_dir: Path) -> Path:
    """The git directory of that working tree: a linked one has a HEAD of its own."""
    pointer = repository / ".git"
    if pointer.is_file():
        return repository / os.fsdecode(pointer.read_bytes().removeprefix(b"gitdir:").strip())
    return git_dir
