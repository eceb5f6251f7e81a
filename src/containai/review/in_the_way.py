"""What a merge would remove or hide in a working tree that git itself does not protect.

Git refuses to overwrite what is tracked and changed, or untracked. But where a commit puts a file in the place of a
directory, git removes what the user's ignore rules cover in that directory, a repository of its own included.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from containai.errors import ReviewError
from containai.review.changes import read_changes
from containai.review.model import ABSENT, SUBMODULE, shown
from containai.workspace.git import run_git

_SHOWN = 10


def refuse_in_the_way(git_dir: Path, tree: Path, old: str, new: str) -> None:
    """Refuse a step from ``old`` to ``new`` that would cost the user something that git does not keep.

    Raises:
        ReviewError: Something is there; nothing was changed.
    """
    gone: set[bytes] = set()
    places: list[bytes] = []
    for change in read_changes(git_dir, old, new):
        if change.new_mode == ABSENT:
            gone.add(change.path)
        elif change.new_mode != SUBMODULE:
            places.append(change.path)
    found = []
    for path in places:
        found += [shown(name) for name in _in_the_way(git_dir, os.fsencode(tree), path, old, gone)]
        if len(found) >= _SHOWN:
            break
    if found:
        raise ReviewError(
            "files of yours, which git would not keep, are in the way",
            code="review.in-the-way",
            details="\n".join(found[:_SHOWN]),
            remedy=["move them somewhere else", "then merge again"],
        )


def _in_the_way(git_dir: Path, tree: bytes, path: bytes, old: str, gone: set[bytes]) -> Iterator[bytes]:
    whole = os.path.join(tree, path)
    parts = path.split(b"/")
    for count in range(1, len(parts)):
        above = b"/".join(parts[:count])
        mode = _mode(os.path.join(tree, above))
        if mode is None:
            return
        if not stat.S_ISDIR(mode):
            if above not in gone:
                yield above
            return
    mode = _mode(whole)
    if mode is None or not stat.S_ISDIR(mode):
        return  # a file there is git's to protect: land() says --no-overwrite-ignore
    listed = run_git(["ls-tree", "-r", "-z", "--name-only", "--full-tree", old, b"--", path], git_dir=git_dir)
    tracked = set(listed.stdout.split(b"\0"))
    for folder, names, files in os.walk(whole):
        inside = [os.path.relpath(os.path.join(folder, name), tree) for name in files]
        # A link to a directory is listed among the directories.
        inside += [os.path.relpath(name, tree) for name in (os.path.join(folder, n) for n in names) if _is_link(name)]
        yield from (name for name in inside if name not in tracked)


def _mode(path: bytes) -> int | None:
    try:
        return os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_link(path: bytes) -> bool:
    return os.path.islink(path)
