"""Work coming home: the return of a session beside ``git push`` of the same commit, and a review's first screen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from bench.large import large_repository
from bench.measure import Case, Values, interleave, ratio, spread, table
from bench.place import Place, answer, git, run

GOAL_TIMES = 1.5
_FILES, _REVIEWED = 10_000, 5_000
_SCREEN_LINES = 24
_PUSH, _OURS = "git push", "**return**"

# Writes and commits a change of so many files, below a folder of that name.
_CHANGE = """
import os, subprocess, sys
name, count = sys.argv[1], int(sys.argv[2])
for number in range(count):
    folder = f"{name}/{number // 100}"
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/file-{number}.py", "w") as file:
        file.write("".join(f"def {name[-2:]}{line}(x):\\n    return x + {number * line}\\n" for line in range(10)))
git = ["git", "-c", "user.name=bench", "-c", "user.email=bench@example.invalid"]
subprocess.run([*git, "add", "-A"], check=True)
subprocess.run([*git, "commit", "-qm", name], check=True)
"""


def section(place: Place, rounds: int, *, small: bool) -> Iterator[str]:
    large = large_repository(place, small=small)
    yield "## Work coming home\n"
    yield (
        "*Return*: from the agent's end to the end of the session, so the search for what was left uncommitted, the "
        "push into the quarantine, both checks of every object and the move of the branch. *git push*: the same "
        "commit, made the same way in a plain clone, to a bare repository on the same disk. Milliseconds: median "
        "(lowest to highest).\n"
    )
    rows = []
    for title, repository, files in (
        (f"{_FILES:,} files in an empty repository", _fresh(place, "home"), _FILES),
        ("one file in the large repository", large, 1),
    ):
        results = interleave(_cases(place, repository, files), rounds)
        times = ratio(results[_OURS], results[_PUSH], "took")
        row = [title, spread(results[_PUSH], "took"), spread(results[_OURS], "took"), f"{times:.2f}"]
        rows.append([*row, "met" if times <= GOAL_TIMES else "**missed**"])
    yield table(["", "git push, ms", "return, ms", "× git push", f"goal: {GOAL_TIMES:g}"], rows)
    yield from _review(place, rounds)


def _cases(place: Place, repository: Path, files: int) -> dict[str, Case]:
    bare, clone = place.work / "plain.git", place.work / "plain"
    numbers = iter(range(1_000_000))

    def push() -> Values:
        # Both new each time: what an earlier round left packed, git would not have to pack again.
        for path in (bare, clone):
            shutil.rmtree(path, ignore_errors=True)
        git(place.work, "clone", "-q", "--bare", "--single-branch", str(repository), str(bare))
        git(place.work, "clone", "-q", str(bare), str(clone))
        git(clone, "config", "gc.auto", "0")
        run(["python3", "-c", _CHANGE, f"change-{next(numbers):02}", str(files)], cwd=clone)
        begun = time.monotonic()
        git(clone, "push", "-q", "origin", "HEAD:refs/heads/work")
        return {"took": time.monotonic() - begun}

    def session() -> Values:
        command = ["python3", "-c", _CHANGE, f"change-{next(numbers):02}", str(files)]
        done = answer(run(place.session(repository, *command), env=place.environment))
        events = [json.loads(line) for line in Path(done["event_log"]).read_text().splitlines()]
        ended = next(event for event in events if event["event"] == "agent-ended")
        git(repository, "branch", "-q", "-D", done["branch"])
        between = datetime.fromisoformat(events[-1]["ts"]) - datetime.fromisoformat(ended["ts"])
        return {"took": between.total_seconds()}

    return {_PUSH: push, _OURS: session}


def _review(place: Place, rounds: int) -> Iterator[str]:
    """The first screen of a review, and all of it, beside ``git diff``."""
    repository = _fresh(place, "reviewed")
    done = answer(
        run(place.session(repository, "python3", "-c", _CHANGE, "work", str(_REVIEWED)), env=place.environment)
    )
    tip = done["commits"][-1]

    def diff() -> Values:
        return _screen(place, ["git", "-C", str(repository), "diff", "--stat", "--patch", f"{tip}~1", tip])

    def review() -> Values:
        return _screen(place, [str(place.containai), "review", done["session"]])

    results = interleave({"git diff --stat --patch": diff, "**containai review**": review}, rounds)
    yield (
        f"A change of {_REVIEWED:,} files, read through a pipe: the first {_SCREEN_LINES} lines, and all of it. "
        "Milliseconds.\n"
    )
    rows = [[name, spread(values, "screen"), spread(values, "whole")] for name, values in results.items()]
    yield table(["", "first screen, ms", "whole, ms"], rows)


def _screen(place: Place, argv: list[str]) -> Values:
    begun = time.monotonic()
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=place.environment) as child:
        assert child.stdout
        for _ in range(_SCREEN_LINES):
            child.stdout.readline()
        screen = time.monotonic() - begun
        while child.stdout.read(1 << 20):
            pass
    return {"screen": screen, "whole": time.monotonic() - begun}


def _fresh(place: Place, name: str) -> Path:
    repository = place.work / name
    repository.mkdir(mode=0o755)
    git(repository, "init", "-q", "-b", "main")
    (repository / "README.md").write_text(f"{name} {os.getpid()}\n")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "First")
    return repository
