"""The agent's branch, read from the host repository by plumbing that runs nothing and checks nothing out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from containai.errors import ReviewError
from containai.review.model import Change, Commit
from containai.workspace.git import run_git
from containai.workspace.scripts import sanitised

_TIMEOUT_S = 300.0
_RAW = re.compile(rb":([0-7]{6}) ([0-7]{6}) ([0-9a-f]{40,64}) ([0-9a-f]{40,64}) ([A-Z])[0-9]*")
_QUIET = ("--no-renames", "--no-ext-diff", "--no-textconv", "--no-abbrev", "--ignore-submodules=none")
_BATCH_BYTES = 32 * 1024 * 1024


def read_start(git_dir: Path, base: str, tip: str) -> str:
    """Where the diff begins: the base commit, or where history parted from it when the agent rewrote it."""
    done = run_git(["merge-base", base, tip], git_dir=git_dir)
    return done.stdout.decode().strip() if done.status == 0 else base


def read_changes(git_dir: Path, base: str, tip: str) -> tuple[Change, ...]:
    """What differs between two commits, by path."""
    done = run_git(["diff-tree", "-r", "-z", "--raw", *_QUIET, base, tip], git_dir=git_dir, timeout_s=_TIMEOUT_S)
    if done.status != 0:
        raise _unreadable(done.said)
    return tuple(_parse(done.stdout))


def read_history(git_dir: Path, base: str, tip: str) -> tuple[Change, ...]:
    """Every change of every commit that the branch adds, those that a later commit took back included."""
    arguments = [
        "log",
        "--no-show-signature",
        "--format=",
        "-z",
        "--raw",
        "-m",
        "--root",
        "--full-diff",
        *_QUIET,
        tip,
        f"^{base}",
    ]
    done = run_git(arguments, git_dir=git_dir, timeout_s=_TIMEOUT_S)
    if done.status != 0:
        raise _unreadable(done.said)
    return tuple(_parse(done.stdout))


def read_commits(git_dir: Path, base: str, tip: str) -> tuple[Commit, ...]:
    """The commits that the branch adds, oldest first."""
    form = "--format=%H%x00%s%x00%an <%ae>%x00%cn <%ce>"
    done = run_git(
        ["log", "--no-show-signature", "-z", "--reverse", "--topo-order", form, tip, f"^{base}"],
        git_dir=git_dir,
        timeout_s=_TIMEOUT_S,
    )
    if done.status != 0:
        raise _unreadable(done.said)
    fields = done.stdout.decode(errors="replace").split("\0")
    commits = []
    for at in range(0, len(fields) - 3, 4):
        name, subject, author, committer = fields[at : at + 4]
        who = author if author == committer else f"{author}, committed by {committer}"
        commits.append(Commit(hash=name.strip(), subject=sanitised(subject), author=sanitised(who)))
    return tuple(commits)


def read_sizes(git_dir: Path, names: Sequence[str]) -> dict[str, int]:
    """Sizes of blobs; what is no blob here is left out."""
    done = run_git(["cat-file", "--batch-check"], git_dir=git_dir, stdin=_lines(names), timeout_s=_TIMEOUT_S)
    sizes = {}
    for line in done.stdout.splitlines():
        words = line.split()
        if len(words) == 3 and words[1] == b"blob":
            sizes[words[0].decode()] = int(words[2])
    return sizes


def read_blobs(git_dir: Path, sizes: dict[str, int]) -> Iterator[tuple[str, bytes]]:
    """Contents of blobs whose sizes are known, some megabytes at a time."""
    batch: list[str] = []
    total = 0
    for name, size in sizes.items():
        batch.append(name)
        total += size
        if total >= _BATCH_BYTES:
            yield from _read_batch(git_dir, batch)
            batch, total = [], 0
    if batch:
        yield from _read_batch(git_dir, batch)


def _read_batch(git_dir: Path, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    done = run_git(["cat-file", "--batch"], git_dir=git_dir, stdin=_lines(names), timeout_s=_TIMEOUT_S)
    data, at = done.stdout, 0
    while at < len(data):
        end = data.index(b"\n", at)
        name, kind, size = data[at:end].split()
        start = end + 1
        at = start + int(size) + 1
        if kind == b"blob":
            yield name.decode(), data[start : at - 1]


def _lines(names: Iterable[str]) -> bytes:
    return "".join(f"{name}\n" for name in names).encode()


def _parse(raw: bytes) -> Iterator[Change]:
    fields = iter(raw.split(b"\0"))
    for field in fields:
        found = _RAW.fullmatch(field.strip(b"\n"))
        if found is None:
            continue
        path = next(fields, b"")
        old_mode, new_mode, old, new = (found[n].decode() for n in range(1, 5))
        yield Change(path=path, old_mode=old_mode, new_mode=new_mode, old=old, new=new)


def _unreadable(said: str) -> ReviewError:
    return ReviewError("the branch cannot be read", code="review.unreadable", details=said, remedy=["git fsck"])
