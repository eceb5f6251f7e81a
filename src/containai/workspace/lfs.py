"""Content of Git LFS files, given to the agent (``--lfs``).

As far as it is on this machine: the user's own ``git lfs`` has fetched it, and nothing is fetched here. The files are
put below the workspace's ``.git``, each checked against the hash in its pointer while it is copied, and take the
pointers' places once git has checked those out inside (``data/prepare.sh``). ``data/finish`` gives an unchanged file
its pointer back; what the agent changed returns as a plain file, and a note says so. No filter runs, on neither side.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from containai.errors import WorkspaceError
from containai.plan.model import Source
from containai.policy.model import GIB, MIB
from containai.workspace.git import run_git
from containai.workspace.seed import give

LIST = "containai-lfs"
"""Below the workspace's ``.git``: a line for each file, its SHA-256, two blanks, its path."""

# Source: the Git LFS pointer file, version 1: under 1,024 bytes, these keys in this order.
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-[^\n]*\n)*oid sha256:([0-9a-f]{64})\nsize ([0-9]{1,15})\n"
)
_MOST_POINTER = 1024
_MOST_BYTES = 8 * GIB
_MOST_FILES = 20_000
_GIT_S = 300.0


def seed_lfs(workspace: Path, source: Source, owner: tuple[int, int] | None) -> tuple[str, ...]:
    """Put the content of the base commit's LFS files below ``.git`` of a seeded workspace. Notes for the user.

    Preconditions: no instruction of a container has run on this workspace.

    Raises:
        WorkspaceError: It is too much, or cannot be copied.
    """
    store, place = source.git_dir / "lfs" / "objects", workspace / ".git" / "lfs" / "objects"
    lines: list[str] = []
    total, absent = 0, 0
    for path, oid, size in _pointers(source):
        total += size
        if total > _MOST_BYTES or len(lines) >= _MOST_FILES:
            raise WorkspaceError(
                "the Git LFS files are too much to be copied",
                code="workspace.lfs-size",
                details=f"{_MOST_BYTES // GIB} GiB and {_MOST_FILES:,} files are the most",
                remedy=["leave --lfs out, or choose a part of the tree with --sparse"],
            )
        if _copied(store / oid[:2] / oid[2:4] / oid, place / oid[:2] / oid[2:4] / oid, oid, size):
            lines.append(f"{oid}  {path}\n")
        else:
            absent += 1
    if lines:
        (workspace / ".git" / LIST).write_text("".join(lines), encoding="utf-8")
        if owner is not None:
            os.chown(workspace / ".git" / LIST, *owner)
            os.chown(workspace / ".git" / "lfs", *owner)
            give(workspace / ".git" / "lfs", *owner)
    if absent:
        return (f"{absent} Git LFS {'file is' if absent == 1 else 'files are'} not on this machine (git lfs pull)",)
    return ()


def _pointers(source: Source) -> Iterator[tuple[str, str, int]]:
    """Path, hash and size of each LFS file of the base commit, as its pointer says."""
    listed = run_git(
        ["ls-tree", "-r", "-z", "-l", "--full-tree", source.base_commit], git_dir=source.git_dir, timeout_s=_GIT_S
    )
    small: dict[str, list[str]] = {}
    for entry in listed.stdout.split(b"\0"):
        head, _, path = entry.partition(b"\t")
        words = head.split()
        if len(words) != 4 or words[0] not in (b"100644", b"100755") or not words[3].isdigit():
            continue
        name = os.fsdecode(path)
        # A shell reads the list line by line: a name that would be more than a line is not among them.
        if int(words[3]) < _MOST_POINTER and name.isprintable() and not name.startswith('"') and "\\" not in name:
            small.setdefault(words[2].decode(), []).append(name)
    asked = run_git(
        ["cat-file", "--batch"],
        git_dir=source.git_dir,
        stdin="".join(f"{n}\n" for n in small).encode(),
        timeout_s=_GIT_S,
    )
    data, at = asked.stdout, 0
    while at < len(data):
        end = data.index(b"\n", at)
        words = data[at:end].split()
        if len(words) != 3:  # missing in a partial clone
            at = end + 1
            continue
        size = int(words[2])
        pointer = _POINTER.fullmatch(data[end + 1 : end + 1 + size])
        at = end + 2 + size
        if pointer:
            for name in small.get(words[0].decode(), ()):
                yield name, pointer[1].decode(), int(pointer[2])


def _copied(source: Path, target: Path, oid: str, size: int) -> bool:
    """Copy one object; False when it is not here, or is not what its name says."""
    if target.exists():
        return True
    try:
        with open(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as reading:
            entry = os.fstat(reading.fileno())
            if not stat.S_ISREG(entry.st_mode) or entry.st_size != size:
                return False
            target.parent.mkdir(parents=True, exist_ok=True)
            digest, left = hashlib.sha256(), size
            with target.open("xb") as writing:
                while left > 0 and (chunk := reading.read(min(MIB, left))):
                    digest.update(chunk)
                    writing.write(chunk)
                    left -= len(chunk)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise WorkspaceError(
            "a Git LFS file cannot be copied",
            code="workspace.lfs",
            details=str(error),
            remedy=["git lfs fetch in the repository; or leave --lfs out"],
        ) from error
    if digest.hexdigest() != oid:
        with suppress(OSError):
            target.unlink()
        return False
    return True
