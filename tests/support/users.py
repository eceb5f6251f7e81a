"""An ordinary user of this machine, to run what an ordinary user would run."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

NAME = "containai-test"
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrdinaryUser:
    """A user without privileges: the caller's own, or ``containai-test`` when the tests run as root."""

    name: str
    uid: int
    gid: int
    home: Path

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout_s: float = 60,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program to its end as this user, with an environment of its own and no group but his."""
        return subprocess.run(
            [*self.prefix(), *argv],
            env={"HOME": str(self.home), "USER": self.name, "PATH": PATH, **(env or {})},
            cwd=cwd or self.home,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )

    def prefix(self) -> tuple[str, ...]:
        """What to put before a command so that it runs as this user."""
        if os.geteuid() != 0:
            return ()
        return ("setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups")


def ordinary_user() -> OrdinaryUser | None:
    """Return the user; as root he is made when he does not exist. None where that fails."""
    if os.geteuid() != 0:
        return _of(pwd.getpwuid(os.getuid()))
    try:
        return _of(pwd.getpwnam(NAME))
    except KeyError:
        pass
    made = subprocess.run(
        ["useradd", "--create-home", "--shell", "/bin/sh", NAME], capture_output=True, timeout=30, check=False
    )
    return _of(pwd.getpwnam(NAME)) if made.returncode == 0 else None


def _of(entry: pwd.struct_passwd) -> OrdinaryUser:
    return OrdinaryUser(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid, home=Path(entry.pw_dir))
