"""The agent's branch, read from the host repository by plumbing that runs nothing and checks nothing out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from containai.errors import ReviewError, WorkspaceError
from containai.host.clock import monotonic_s
from containai.review.model import LINK, Change, Commit
from containai.workspace.git import run_git
from containai.workspace.scripts import sanitised
from containai.workspace.stream import stream_git

_TIMEOUT_S = 300.0
# Source: git-diff-tree(1), "Raw output format", "diff format for merges": as many colons, modes and names as parents.
_RAW = re.compile(
    rb":+([0-7]{6})(?: [0-7]{6})* ([0-7]{6}) ([0-9a-f]{40,64})(?: [0-9a-f]{40,64})* ([0-9a-f]{40,64}) [A-Z]+[0-9]*"
)
_QUIET = ("--no-renames", "--no-ext-diff", "--no-textconv", "--no-abbrev", "--ignore-submodules=none")
_BATCH_BYTES = 32 * 1024 * 1024
_FIELD_BYTES = 4096  # of a commit's subject, author and committer


def read_start(git_dir: Path, base: str, tip: str) -> str:
    """Where the diff begins: the base commit, or where history parted from it when the agent rewrote it."""
    done = run_git(["merge-base", base, tip], git_dir=git_dir)
    return done.stdout.decode().strip() if done.status == 0 else base


def read_changes(git_dir: Path, base: str, tip: str) -> tuple[Change, ...]:
    """What differs between two commits, by path."""
    return tuple(_parse(_stream(git_dir, ["diff-tree", "-r", "-z", "--raw", *_QUIET, base, tip])))


def read_history(git_dir: Path, base: str, tip: str) -> Iterator[Change]:
    """Every change of every commit that the branch adds, those that a later commit took back included.

    Of a merge those that are in none of its parents: what a parent has, another commit brought. It is read as it comes.
    """
    options = ["--no-show-signature", "--no-mailmap", "--format=", "-z", "--raw", "-c", "--root", "--full-diff"]
    return _parse(_stream(git_dir, ["log", *options, *_QUIET, tip, f"^{base}"]))


def read_links(git_dir: Path, tip: str) -> dict[bytes, bytes]:
    """Where each symbolic link of a commit's tree points to, by its path."""
    links = {}
    for entry in _stream(git_dir, ["ls-tree", "-r", "-z", "--full-tree", tip]):
        if entry.startswith(LINK.encode()):
            about, _, path = entry.partition(b"\t")
            links[path] = about.split()[2].decode()
    targets = dict(read_blobs(git_dir, read_sizes(git_dir, sorted(set(links.values())))))
    return {path: targets[name] for path, name in links.items() if name in targets}


def read_commits(git_dir: Path, base: str, tip: str) -> tuple[Commit, ...]:
    """The commits that the branch adds, oldest first."""
    form = "--format=%H%x00%s%x00%an <%ae>%x00%cn <%ce>"
    options = ["--no-show-signature", "--no-mailmap", "-z", "--reverse", "--topo-order"]
    # One field may have a megabyte, and there are up to 100,000 commits: only what is shown is kept.
    fields = (
        field[:_FIELD_BYTES].decode(errors="replace")
        for field in _stream(git_dir, ["log", *options, form, tip, f"^{base}"])
    )
    commits = []
    for name, subject, author, committer in zip(fields, fields, fields, fields, strict=False):
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


def _stream(git_dir: Path, arguments: Sequence[str]) -> Iterator[bytes]:
    try:
        yield from stream_git(arguments, git_dir=git_dir, separator=b"\0", deadline_s=monotonic_s() + _TIMEOUT_S)
    except WorkspaceError as error:
        raise _unreadable(error.details or error.summary) from error


def _parse(records: Iterable[bytes]) -> Iterator[Change]:
    fields = iter(records)
    for field in fields:
        found = _RAW.fullmatch(field.strip(b"\n"))
        if found is None:
            continue
        path = next(fields, b"")
        # Of a merge the first parent's side stands for all of them.
        old_mode, new_mode, old, new = (found[n].decode() for n in range(1, 5))
        yield Change(path=path, old_mode=old_mode, new_mode=new_mode, old=old, new=new)


def _unreadable(said: str) -> ReviewError:
    return ReviewError("the branch cannot be read", code="review.unreadable", details=said, remedy=["git fsck"])
