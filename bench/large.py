"""The start of a session on a large repository, beside ``git worktree add`` of the same commit."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench.measure import Values, interleave, ratio, spread, table
from bench.place import Absent, Place, git, timed, timed_session

GOAL_TIMES = 2.0
_COMMITS, _SMALL_COMMITS = 50_000, 2_000
_BLOB_BYTES = 20_000  # 50,000 of them, which no compression makes smaller, are 1 GB
_FILES, _FILES_PER_FOLDER = 2_000, 50
_WORKTREE, _OURS = "git worktree add", "**containai run**"
_START = 1_600_000_000


def section(place: Place, rounds: int, *, small: bool) -> Iterator[str]:
    commits = _SMALL_COMMITS if small else _COMMITS
    repository = large_repository(place, small=small)
    size = sum(path.stat().st_size for path in repository.glob(".git/objects/**/*") if path.is_file())
    tree = place.work / "worktree"

    def worktree() -> Values:
        git(place.work, "-C", str(repository), "worktree", "prune")
        values, _ = timed(
            [
                "sh",
                "-c",
                'git -C "$1" worktree add -q -b bench-worktree "$2" && date +%s%N',
                "sh",
                str(repository),
                str(tree),
            ]
        )
        git(repository, "worktree", "remove", "--force", str(tree))
        git(repository, "branch", "-q", "-D", "bench-worktree")
        return values

    def session() -> Values:
        return timed_session(place, repository)

    results = interleave({_WORKTREE: worktree, _OURS: session}, rounds)
    base = results[_WORKTREE]
    times = ratio(results[_OURS], base, "start")
    yield "## Start on a large repository\n"
    yield (
        f"{commits:,} commits, {size / 1e6:,.0f} MB of objects, {min(_FILES, commits):,} files of {_BLOB_BYTES:,} "
        f"bytes in the tree; {rounds} rounds in turns. *Start*: until a command runs in the new tree. "
        "Seconds: median (lowest to highest).\n"
    )
    rows = [
        [name, spread(values, "start", 1, 2), f"{ratio(values, base, 'start'):.2f}", spread(values, "whole", 1, 2)]
        for name, values in results.items()
    ]
    yield table(["", "start, s", "× worktree", "whole, s"], rows)
    verdict = "met" if times <= GOAL_TIMES else "**missed**"
    yield f"The goal, within {GOAL_TIMES:g} times of `git worktree add`, is {verdict}.\n"


def large_repository(place: Place, *, small: bool) -> Path:
    """The repository of this section, for others too; they leave it as it was."""
    return _generate(place, _SMALL_COMMITS if small else _COMMITS)


def _generate(place: Place, commits: int) -> Path:
    """The repository, from the cache or made now; the same bytes each time."""
    repository = place.cache / f"repository-{commits}-{_BLOB_BYTES}"
    if (repository / ".git/complete").exists():
        return repository
    if repository.exists():
        shutil.rmtree(repository)
    free = shutil.disk_usage(place.cache).free
    if free < 3 * commits * _BLOB_BYTES:
        raise Absent(f"{place.cache} has too little room: {free / 1e9:.1f} GB")
    repository.mkdir()
    git(repository, "init", "-q", "-b", "main")
    argv = ["git", "-C", str(repository), "-c", "core.compression=0", "fast-import", "--quiet", "--depth=0"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as importer:
        assert importer.stdin
        for part in _stream(commits):
            importer.stdin.write(part)
        importer.stdin.close()
        if importer.wait() != 0:
            raise Absent("git fast-import failed")
    git(repository, "commit-graph", "write", "--reachable")
    git(repository, "reset", "-q", "--hard")
    (repository / ".git/complete").touch()
    return repository


def _stream(commits: int) -> Iterator[bytes]:
    """Source: git-fast-import(1). Each commit writes one file anew."""
    numbers = random.Random(1)
    for number in range(commits):
        content = numbers.randbytes(_BLOB_BYTES)
        name = number % _FILES
        message = b"Commit %d" % number
        yield b"commit refs/heads/main\ncommitter Bench <bench@example.invalid> %d +0000\n" % (_START + number)
        yield b"data %d\n%s\n" % (len(message), message)
        yield b"M 100644 inline folder-%d/file-%d\n" % (name // _FILES_PER_FOLDER, name)
        yield b"data %d\n%s\n" % (len(content), content)
    yield b"done\n"
