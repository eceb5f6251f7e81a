"""Which part of the tree is checked out: as in the user's own sparse checkout, or as ``--sparse`` says.

The history is whole all the same. Source: git-sparse-checkout(1), the section on the cone pattern set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from containai.errors import UsageError, WorkspaceError
from containai.plan.model import Source, Sparse
from containai.record import replace
from containai.workspace.git import run_git, run_git_in_tree
from containai.workspace.notes import own_git_dir

_MAX_BYTES = 1024 * 1024
_ESCAPED = str.maketrans({character: "\\" + character for character in "\\*?["})


def choose_sparse(source: Source, folders: Sequence[str], user: Mapping[str, str]) -> Source:
    """``source`` with what is to be checked out: ``folders``, else what the user's own working tree holds.

    Raises:
        UsageError: One of ``folders`` is no folder of the base commit.
        WorkspaceError: The user's own patterns cannot be read.
    """
    if folders:
        return replace(source, sparse=Sparse(patterns=_cone(source, folders), cone=True))
    return source if source.url else replace(source, sparse=_of_user(source, user))


def _of_user(source: Source, user: Mapping[str, str]) -> Sparse | None:
    git_dir = own_git_dir(source)
    place = git_dir / "info" / "sparse-checkout"
    if not place.is_file():  # the usual case costs no process
        return None

    def is_on(name: str, default: str) -> bool:
        asked = run_git_in_tree(
            ["config", "--type=bool", f"--default={default}", "--get", name],
            git_dir=git_dir,
            work_tree=source.toplevel,
            user=user,
        )
        return asked.stdout.strip() == b"true"

    if not is_on("core.sparseCheckout", "false"):
        return None
    try:
        with open(place, encoding="utf-8", errors="surrogateescape", newline="") as file:
            patterns = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise WorkspaceError(
            "the sparse checkout cannot be read",
            code="workspace.sparse",
            details=str(error),
            remedy=["git sparse-checkout list   # must work first", "git sparse-checkout disable"],
        ) from error
    if len(patterns) > _MAX_BYTES:
        raise WorkspaceError(
            "the sparse checkout has too many patterns",
            code="workspace.sparse",
            details=str(place),
            remedy=["git sparse-checkout disable"],
        )
    return Sparse(patterns=patterns, cone=is_on("core.sparseCheckoutCone", "false"))


def _cone(source: Source, folders: Sequence[str]) -> str:
    wanted = sorted({_checked(source, folder) for folder in folders})
    # A folder below another one that is wanted is there already.
    wanted = [path for path in wanted if not any(path[:count] in wanted for count in range(1, len(path)))]
    parents = sorted({path[:count] for path in wanted for count in range(1, len(path))})
    lines = ["/*", "!/*/"]
    for path in parents:
        lines += [f"/{_pattern(path)}/", f"!/{_pattern(path)}/*/"]
    lines += [f"/{_pattern(path)}/" for path in wanted]
    return "".join(f"{line}\n" for line in lines)


def _checked(source: Source, folder: str) -> tuple[str, ...]:
    path = folder.removeprefix("./").strip("/")
    parts = tuple(path.split("/"))
    wrong = not path or "\n" in path or "\0" in path or any(part in ("", ".", "..") for part in parts)
    if not wrong:
        asked = run_git(
            ["--literal-pathspecs", "ls-tree", "--full-tree", "-d", "-z", source.base_commit, "--", path],
            git_dir=source.git_dir,
        )
        wrong = b" tree " not in asked.stdout
    if wrong:
        raise UsageError(
            f"--sparse {folder}: no such folder in {source.described}",
            code="usage.sparse",
            details="a folder is expected, as the repository has it, from its top level",
            remedy=["git ls-tree -d -r --name-only HEAD"],
        )
    return parts


def _pattern(path: tuple[str, ...]) -> str:
    return "/".join(part.translate(_ESCAPED) for part in path)
