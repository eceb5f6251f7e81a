"""The product as its user meets it: the ``containai`` command, in a repository and a home of the test's own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TIMEOUT_S = 90
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A ``containai`` command that has ended."""

    status: int
    stdout: str
    stderr: str
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def printed(self) -> str:
        """What the agent printed: with ``--json`` it comes on standard error, among our messages."""
        return "\n".join(line for line in self.stderr.splitlines() if not line.startswith("containai:"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A user's home and repository, and the commands he gives there."""

    home: Path
    repository: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    launcher: tuple[str, ...] = (sys.executable, "-m", "containai")

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of a command."""
        return {
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.home / "state"),
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "PATH": PATH,
            **self.variables,
        }

    @property
    def sessions(self) -> Path:
        """Where the sessions are kept."""
        return self.home / "state" / "containai" / "sessions"

    def argv(self, *words: str) -> list[str]:
        """The command line for ``containai WORD...``."""
        return [*self.launcher, *words]

    def command(self, *words: str, stdin: bytes = b"", timeout_s: float = TIMEOUT_S) -> Ran:
        """Give a command and wait for its end."""
        done = subprocess.run(
            self.argv(*words),
            cwd=self.repository,
            env=self.environment,
            input=stdin,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
        return Ran(
            status=done.returncode,
            stdout=done.stdout.decode(errors="backslashreplace"),
            stderr=done.stderr.decode(errors="backslashreplace"),
        )

    def run(self, script: str, *options: str, timeout_s: float = TIMEOUT_S) -> Ran:
        """``containai run --json OPTION... -- sh -c SCRIPT``, with the result read."""
        ran = self.command("run", "--json", *options, "--", "sh", "-c", script, timeout_s=timeout_s)
        return Ran(
            status=ran.status,
            stdout=ran.stdout,
            stderr=ran.stderr,
            result=json.loads(ran.stdout) if ran.stdout else {},
        )

    def start(self, script: str, *options: str) -> subprocess.Popen[bytes]:
        """The same, left running, in a session of its own; the caller ends it."""
        return subprocess.Popen(
            self.argv("run", "--json", *options, "--", "sh", "-c", script),
            cwd=self.repository,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def git(self, *arguments: str, check: bool = True) -> str:
        """Git in the user's repository."""
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.repository,
            env={**self.environment, "GIT_CONFIG_NOSYSTEM": "1"},
            capture_output=True,
            timeout=60,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"git {arguments}: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode(errors="backslashreplace").rstrip("\n")

    def branches(self) -> list[str]:
        """Names of all branches."""
        return self.git("for-each-ref", "--format=%(refname:short)", "refs/heads").splitlines()

    def events(self, ran: Ran, kind: str | None = None) -> list[dict[str, Any]]:
        """The events of a session, from its log on disk."""
        lines = Path(ran.result["event_log"]).read_text().splitlines()
        events = [json.loads(line) for line in lines]
        return [event for event in events if kind is None or event["kind"] == kind]


def make_repository(path: Path, files: Mapping[str, str] | None = None) -> None:
    """A repository on ``main`` with one commit."""
    path.mkdir(parents=True)
    for name, text in (files or {"README.md": "sample\n"}).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], [*IDENTITY, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *words], cwd=path, check=True, timeout=30, env={"PATH": PATH, "HOME": str(path)})


IDENTITY: Sequence[str] = ("-c", "user.name=Test", "-c", "user.email=test@example.org")


def host_traces() -> dict[str, set[str]]:
    """What a session that is over could have left on the host.

    Processes without a living launcher, control groups without a process, mounts. Sessions of others may run on the
    machine at the same time: what belongs to a living launcher is none of ours.
    """
    processes = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        ours = any(word in command for word in ("containai-shim", "bwrap --args", "squid -N"))
        if parent == 1 and ours:
            processes.add(f"{entry.name} {command[:100]}")
    groups = set()
    for folder, names, _ in os.walk("/sys/fs/cgroup"):  # unlike rglob, it bears with groups that vanish meanwhile
        for name in names:
            if re.fullmatch(r"containai-.+-.+", name):
                with contextlib.suppress(OSError):
                    if not Path(folder, name, "cgroup.procs").read_text():
                        groups.add(os.path.join(folder, name))
    mounts = {line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "/containai/sessions/" in line}
    return {"processes": processes, "groups": groups, "mounts": mounts}


def as_root() -> bool:
    """Whether the tests run as root."""
    return os.geteuid() == 0
