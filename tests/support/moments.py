"""A session watched from outside, and killed at a moment that is found by what can be seen: files, events, processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.product import Product

WAIT_S = 40
MADE = ".git/made"
WORK = f"""
for i in 1 2 3; do
    head -c 400000 /dev/urandom > f$i; git add -A; git commit -qm c$i; git rev-parse HEAD >> {MADE}
    [ $i != 2 ] || git push -q
done
echo left > left; echo all >> {MADE}
"""
"""Three commits, of which the agent pushes two, and a file that it leaves; it notes what it has committed."""


@dataclass
class Watched:
    """The one session of a product's user, as its traces on the host tell."""

    product: Product
    child: subprocess.Popen[bytes]
    made: tuple[str, ...] = ()
    _path: Path | None = None
    _sessions: Path | None = None

    @property
    def path(self) -> Path | None:
        """The session's directory."""
        if self._path is None:
            self._path = next((self._sessions or self.product.sessions).glob("*"), None)
        return self._path

    def phase(self) -> str:
        """What the record says."""
        with contextlib.suppress(OSError, ValueError):
            if self.path:
                return str(json.loads((self.path / "record.json").read_text())["phase"])
        return ""

    def events(self) -> list[str]:
        """Names of the events in the log."""
        found: list[str] = []
        with contextlib.suppress(OSError):
            if self.path:
                for line in (self.path / "events.jsonl").read_text().splitlines():
                    with contextlib.suppress(ValueError):
                        found.append(json.loads(line)["event"])
        return found

    def branch(self) -> str:
        """Where the session's branch stands; read as a file, since git takes longer than some moments last."""
        with contextlib.suppress(OSError):
            return (self.product.repository / ".git/refs/heads/shell/session-1").read_text().strip()
        return ""

    def has(self, name: str) -> bool:
        """Whether a file of the session's directory is there."""
        return self.path is not None and (self.path / name).exists()

    def look(self) -> None:
        """Read what the agent has noted; it stays known when the workspace is gone."""
        with contextlib.suppress(OSError):
            if self.path:
                self.made = max(self.made, tuple((self.path / "workspace" / MADE).read_text().split()), key=len)

    def commits(self) -> tuple[str, ...]:
        """Commits that the agent has noted."""
        return tuple(word for word in self.made if word != "all")

    def processes(self, *words: str) -> list[int]:
        """Descendants of the launcher whose command line has all these words, the outermost first."""
        found, pending = [], [self.child.pid]
        while pending:
            pid = pending.pop(0)
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    pending += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if pid != self.child.pid and all(word in line for word in words):
                    found.append(pid)
        return found


Moment = Callable[[Watched], bool]


def wait_for(watched: Watched, moment: Moment) -> bool:
    """Watch until the moment has come; False when the launcher ended before."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        ended = watched.child.poll() is not None
        watched.look()
        if moment(watched):
            return True
        if ended:
            return False
    raise AssertionError(f"the moment did not come: {watched.phase()} {watched.events()} {watched.made}")


def kill(pid: int) -> bool:
    """SIGKILL; False when it was gone already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def repository_leftovers(repository: Path) -> list[str]:
    """Locks and temporary files in a git directory."""
    names: list[str] = []
    for folder, inner, files in os.walk(repository / ".git"):
        names += [os.path.join(folder, n) for n in [*inner, *files] if n.endswith(".lock") or n.startswith("tmp_")]
    return names


def state_of(product: Product) -> dict[str, Any]:
    """Refs, records and kept files: what a second ``recover`` must leave alone."""
    records = {path.parent.name: path.read_text() for path in product.sessions.glob("*/record.json")}
    kept = sorted(str(path.relative_to(product.sessions)) for path in product.sessions.glob("*/*"))
    return {"refs": product.git("for-each-ref"), "records": records, "kept": kept}
