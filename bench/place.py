"""Where a run of the benchmarks works: directories, children, and the ContainAI that is measured."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.measure import Values

TIMEOUT_S = 600
# The command that every tool runs: as short as `true`, and it tells when it began.
STAMP = ("date", "+%s%N")
_NANOSECONDS = re.compile(r"\b\d{19}\b")
_IDENTITY = ("-c", "user.name=bench", "-c", "user.email=bench@example.invalid")


class Absent(Exception):
    """Something cannot be measured here; the message is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What the sections share.

    Attributes:
        work: Made for this run and removed with it; any user can walk through it.
        cache: Kept: what was installed or generated.
        containai: The program.
    """

    work: Path
    cache: Path
    containai: Path

    @property
    def environment(self) -> dict[str, str]:
        """The user's own, with directories of this run's for state and for compiled modules.

        Every installed package has its modules compiled; a checkout may not, where the environment forbids it.
        """
        ours = {"XDG_STATE_HOME": str(self.work / "state"), "PYTHONPYCACHEPREFIX": str(self.work / "pycache")}
        return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | ours

    def session(self, repository: Path, *command: str, options: Sequence[str] = ()) -> list[str]:
        """The command line of one session."""
        return [
            str(self.containai),
            "run",
            "--json",
            "--network-proxy",
            "squid",
            *options,
            str(repository),
            "--",
            *command,
        ]


@contextmanager
def open_place() -> Iterator[Place]:
    """Make the run's directory; remove it at the end."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "containai-bench"
    cache.mkdir(parents=True, exist_ok=True)
    # Below /var/tmp: on a disk, and root's sessions, which are other users, can walk there.
    work = Path(tempfile.mkdtemp(prefix="containai-bench-", dir="/var/tmp"))
    try:
        work.chmod(0o711)
        (work / "state").mkdir(mode=0o711)
        yield Place(work=work, cache=cache, containai=Path(sys.executable).with_name("containai"))
    finally:
        shutil.rmtree(work)


def run(argv: Sequence[str], *, cwd: Path | None = None, env: dict[str, str] | None = None, stdin: bytes = b"") -> str:
    """Run to the end; what it printed.

    Raises:
        Absent: It failed.
    """
    try:
        done = subprocess.run(argv, cwd=cwd, env=env, input=stdin, capture_output=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Absent(f"{argv[0]}: {error}") from error
    output = (done.stdout + b"\n" + done.stderr).decode(errors="replace").strip()
    if done.returncode != 0:
        last = output.splitlines()[-1] if output else f"exit status {done.returncode}"
        raise Absent(f"`{Path(argv[0]).name}` failed: {last[:200]}")
    return output


def timed(argv: Sequence[str], *, cwd: Path | None = None, env: dict[str, str] | None = None) -> tuple[Values, str]:
    """Run a command line that ends in ``STAMP``: ``start``, to the command's first instructions, and ``whole``, s."""
    wall, steady = time.time(), time.monotonic()
    output = run(argv, cwd=cwd, env=env)
    whole = time.monotonic() - steady
    stamp = _NANOSECONDS.search(output)
    assert stamp, output
    return {"start": int(stamp[0]) / 1e9 - wall, "whole": whole}, output


def timed_session(place: Place, repository: Path) -> Values:
    """One whole session: with ``reported``, its own ``startup_s``."""
    values, output = timed(place.session(repository, *STAMP), env=place.environment)
    return {**values, "reported": float(answer(output)["startup_s"])}


def answer(output: str) -> dict[str, Any]:
    """The object that ``run --json`` printed."""
    found: dict[str, Any] = json.loads(next(line for line in output.splitlines() if line.startswith("{")))
    return found


def git(repository: Path, *arguments: str, stdin: bytes = b"") -> str:
    """Git in a repository of the run's."""
    return run(["git", *_IDENTITY, "-C", str(repository), *arguments], stdin=stdin)


def small_repository(place: Place) -> Path:
    """Three files in one commit; made once."""
    repository = place.work / "small"
    if repository.exists():
        return repository
    repository.mkdir()
    git(repository, "init", "-q", "-b", "main")
    for name in ("README.md", "main.py", "test_main.py"):
        (repository / name).write_text(f"{name}\n" * 20)
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "Small")
    return repository
