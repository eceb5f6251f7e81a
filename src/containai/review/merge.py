"""The merge of a reviewed branch: one commit is prepared out of sight, then a branch moves forward to it.

    1. make       the tree of the agent's commit, or of its merge with the branch: objects only
    2. commit     the agent's commit itself (fast-forward), a merge commit, or one squashed commit
    3. land       a branch that no working tree shows: compare-and-swap; else ``git merge --ff-only`` in that tree

No hook runs, and nothing is ever written into a working tree that git would not overwrite on a plain fast-forward.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

from containai.errors import ReviewError
from containai.record import dataclass
from containai.review.changes import read_changes, read_start
from containai.review.in_the_way import refuse_in_the_way
from containai.review.model import shown
from containai.workspace.git import run_git, run_git_in_tree
from containai.workspace.notes import git_dir_of
from containai.workspace.refs import is_ancestor, names_in_progress, update_refs

_SHOWN_CONFLICTS = 10
_FIELDS = 4  # of a branch, as git lists it
_LANDING_S = 3600.0  # a large tree on a slow disk; git would stop in the middle of it
_BY_DEFAULT = {b"unspecified", b"set", b"text"}  # Source: gitattributes(5), "Performing a three-way merge"
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
        head = run_git(["symbolic-ref", "--quiet", "HEAD"], git_dir=git_dir_of(repository, git_dir))
        ref = os.fsdecode(head.stdout.strip())
        if not ref.startswith("refs/heads/"):
            raise ReviewError(
                "no branch is checked out, so there is none to merge into",
                code="review.no-target",
                details=os.fspath(repository),
                remedy=["containai merge SESSION --into BRANCH"],
            )
        into = ref.removeprefix("refs/heads/")
    # Source: git-for-each-ref(1): %00 ends a field. The path of a working tree may hold a line feed.
    form = "--format=%(refname)%00%(objectname)%00%(symref)%00%(worktreepath)%00"
    fields = run_git(["for-each-ref", form, f"refs/heads/{into}"], git_dir=git_dir).stdout.split(b"\0")
    for start in range(0, len(fields) - _FIELDS, _FIELDS):
        ref_name, commit, symbolic, worktree = fields[start : start + _FIELDS]
        if ref_name.removeprefix(b"\n") == b"refs/heads/" + os.fsencode(into) and not symbolic:
            place = Path(os.fsdecode(worktree)) if worktree else None
            return Target(branch=into, commit=commit.decode(), worktree=place)
    raise ReviewError(f"there is no branch {into}", code="review.no-target", remedy=["git branch --list"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The content that the target shall have. ``straight``: the agent's commit continues the target's."""

    tree: str
    tip: str
    straight: bool


def make_tree(git_dir: Path, target: Target, tip: str, how: How) -> Made:
    """Step 1; no ref moves.

    Raises:
        ReviewError: There is nothing to merge, it conflicts, or cannot go forward.
    """
    if is_ancestor(git_dir, tip, target.commit):
        raise ReviewError(
            f"{target.branch} has all of it already",
            code="review.merged",
            remedy=["containai remove SESSION   # when you no longer need it"],
        )
    straight = is_ancestor(git_dir, target.commit, tip)
    if how is How.FF_ONLY and not straight:
        raise ReviewError(
            f"{target.branch} has moved on, so it cannot go straight to the agent's commit",
            code="review.not-forward",
            remedy=["containai merge SESSION           # makes a merge commit", "containai merge SESSION --squash"],
        )
    tree = f"{tip}^{{tree}}" if straight else _merged_tree(git_dir, target, tip)
    return Made(tree=tree, tip=tip, straight=straight)


def make_commit(
    git_dir: Path, repository: Path, target: Target, made: Made, how: How, message: str, user: Mapping[str, str]
) -> str:
    """Step 2. The commit that the target shall stand at.

    Args:
        message: For a merge or squashed commit; printable.
        user: The launcher's environment: the commit is made under the user's own identity.

    Raises:
        ReviewError: Git does not know who the user is, or cannot write.
    """
    if made.straight and how in (How.AUTO, How.FF_ONLY):
        return made.tip
    parents = ["-p", target.commit, *(() if how is How.SQUASH else ("-p", made.tip))]
    words = ["commit-tree", made.tree, *parents, "-m", message]
    done = run_git_in_tree(words, git_dir=git_dir, work_tree=repository, user=user)
    commit = done.stdout.strip()
    if done.status != 0 or not _OBJECT.fullmatch(commit):
        raise ReviewError(
            "the merge commit could not be made",
            code="review.commit",
            details=done.said,
            remedy=['git config --global user.name "Your Name"', "git config --global user.email you@example.org"],
        )
    return commit.decode()


def land(git_dir: Path, target: Target, commit: str, user: Mapping[str, str]) -> None:
    """Step 3.

    Raises:
        ReviewError: The branch or its working tree is in the way; neither was changed.
    """
    if target.branch in names_in_progress(git_dir):
        raise ReviewError(
            f"{target.branch} is in the middle of a rebase",
            code="review.busy",
            remedy=["git rebase --continue, or --abort", "then merge again"],
        )
    ref = f"refs/heads/{target.branch}"
    if target.worktree is None:
        refused = update_refs(git_dir, [("update", ref, commit, target.commit)], "containai: merge")
        if refused is not None:
            raise ReviewError(
                f"{target.branch} could not be moved",
                code="review.busy",
                details=refused.error.details,
                remedy=["try again"],
            )
        return
    refuse_in_the_way(git_dir, target.worktree, target.commit, commit)
    own = git_dir_of(target.worktree, git_dir)
    shown_ref, at = _stands(own, "HEAD"), _stands(git_dir, ref)
    if (shown_ref, at) != (ref, target.commit):
        raise ReviewError(
            f"{target.branch} has changed meanwhile",
            code="review.busy",
            remedy=["containai review", "then merge again"],
        )
    # Source: git-merge(1): a fast-forward that would overwrite anything uncommitted is refused as a whole; what is
    # ignored counts only with --no-overwrite-ignore. The user's branch.<name>.mergeOptions come first and lose.
    options = ["--ff-only", "--no-squash", "--commit", "--no-overwrite-ignore", "--no-autostash", "--no-stat"]
    done = run_git_in_tree(
        ["-c", "submodule.recurse=false", "merge", *options, "--quiet", commit],
        git_dir=own,
        work_tree=target.worktree,
        user=user,
        timeout_s=_LANDING_S,
    )
    if done.status == 0 and _stands(git_dir, ref) == commit:
        return
    raise ReviewError(
        f"the working tree of {target.branch} is in the way",
        code="review.working-tree",
        details="\n".join(shown(line.expandtabs(4)) for line in done.stderr.strip().splitlines()),
        remedy=["commit or stash what you have there", "then merge again"],
    )


def _stands(git_dir: Path, ref: str) -> str:
    """Where a branch stands; of ``HEAD`` the branch that is checked out."""
    if ref == "HEAD":
        return os.fsdecode(run_git(["symbolic-ref", "--quiet", "HEAD"], git_dir=git_dir).stdout.strip())
    return run_git(["rev-parse", "--verify", "--quiet", ref], git_dir=git_dir).stdout.decode().strip()


def _merged_tree(git_dir: Path, target: Target, tip: str) -> str:
    _refuse_own_rules(git_dir, target, tip)
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


def _refuse_own_rules(git_dir: Path, target: Target, tip: str) -> None:
    """Leave files that the target's ``.gitattributes`` has merged in a way of their own to a merge in a working tree.

    Without a working tree git does not read these rules (``attr.tree`` does, since git 2.43, for those of one tree).
    """
    start = read_start(git_dir, target.commit, tip)
    ours = {change.path for change in read_changes(git_dir, start, target.commit)}
    both = sorted(ours.intersection(change.path for change in read_changes(git_dir, start, tip)))
    if not both:
        return
    with tempfile.TemporaryDirectory(prefix="containai-merge-") as folder:
        if os.geteuid() == 0:
            owner = git_dir.stat()
            os.chown(folder, owner.st_uid, owner.st_gid)
        also = {"GIT_INDEX_FILE": os.path.join(folder, "index")}
        run_git(["read-tree", target.commit], git_dir=git_dir, also=also)
        asked = ["check-attr", "--cached", "-z", "--stdin", "merge"]
        done = run_git(asked, git_dir=git_dir, also=also, stdin=b"\0".join(both) + b"\0")
    fields = done.stdout.split(b"\0")
    if done.status != 0 or len(fields) != 3 * len(both) + 1:
        raise ReviewError(
            "the branch's attributes cannot be read", code="review.unreadable", details=done.said, remedy=["git fsck"]
        )
    ruled = [shown(path) for path, value in zip(fields[::3], fields[2::3], strict=False) if value not in _BY_DEFAULT]
    if ruled:
        raise ReviewError(
            f"the .gitattributes of {target.branch} have a way of their own to merge what both sides changed",
            code="review.merge-rule",
            details="\n".join(ruled[:_SHOWN_CONFLICTS]),
            remedy=[f"git merge {tip[:12]}   # in your own checkout"],
        )
