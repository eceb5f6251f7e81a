"""Repositories for tests, and a look at every file of one."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LC_ALL": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "Tester",
    "GIT_AUTHOR_EMAIL": "tester@example.org",
    "GIT_COMMITTER_NAME": "Tester",
    "GIT_COMMITTER_EMAIL": "tester@example.org",
}


def git(repository: Path, *arguments: str | bytes | Path, stdin: bytes = b"", status: int | None = 0) -> str:
    """Run git as its user would; ``status`` None accepts any."""
    done = subprocess.run(
        ["git", "-C", repository, *arguments],
        env=ENVIRONMENT,
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )
    if status is not None:
        assert done.returncode == status, (arguments, done.stdout, done.stderr)
    return os.fsdecode(done.stdout).removesuffix("\n")


def commit(repository: Path, message: str = "a commit", **files: str) -> str:
    """Write ``files`` (a double underscore in a name is a dot), commit everything, return the commit."""
    for name, content in files.items():
        (repository / name.replace("__", ".")).write_text(content)
    git(repository, "add", "-A")
    git(repository, "commit", "--quiet", "--allow-empty", "-m", message)
    return git(repository, "rev-parse", "HEAD")


def make_repository(path: Path, *, object_format: str = "sha1") -> Path:
    """A repository with two commits on ``main``."""
    path.mkdir(parents=True)
    git(path, "init", "--quiet", "--initial-branch=main", f"--object-format={object_format}")
    commit(path, "first", a__txt="one\n")
    commit(path, "second", b__txt="two\n")
    return path


def fingerprint(directory: Path, *, without: tuple[str, ...] = ()) -> dict[str, str]:
    """Content, mode and time of change of every file below ``directory``; ``without`` are path prefixes to pass over."""
    seen = {}
    for folder, names, files in os.walk(directory):
        for name in [*names, *files]:
            path = Path(folder, name)
            key = str(path.relative_to(directory))
            if key.startswith(without):
                continue
            entry = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            # The time of a directory changes with its entries, which are listed anyway.
            time = entry.st_mtime_ns if not path.is_dir() else 0
            seen[key] = f"{entry.st_mode:o} {time} {hashlib.sha256(content).hexdigest()}"
    return seen


def branches(repository: Path, pattern: str = "refs/heads") -> dict[str, str]:
    """Branch names and their commits."""
    lines = git(repository, "for-each-ref", "--format=%(refname) %(objectname)", pattern).splitlines()
    return {ref.removeprefix("refs/heads/"): commit for ref, commit in (line.split(" ") for line in lines)}
