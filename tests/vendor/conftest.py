"""The real CLIs from npm, in the versions that the adapters name, and the users who run them."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import containai
from containai.agents.load import list_agents, load_adapter
from tests.support.users import OrdinaryUser

ROOT = Path(__file__).resolve().parents[2]
INSTALL_TIMEOUT_S = 900
# npm 12 runs no install script that is not named. Older ones do not know the option, and say so.
SCRIPTS = "--allow-scripts=@anthropic-ai/claude-code,opencode-ai"


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who runs ``containai``: how to become him, his HOME, and the package that he can read."""

    name: str
    prefix: tuple[str, ...]
    home: Path
    packages: Path

    def run(
        self, argv: list[str], *, cwd: Path, variables: dict[str, str], timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as this person, with nothing on standard input."""
        return subprocess.run(
            [*self.prefix, *argv],
            cwd=cwd,
            env={"HOME": str(self.home), "XDG_STATE_HOME": str(self.home / "state"), **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )


@pytest.fixture(scope="session")
def npm_prefix() -> Path:
    """A prefix with every vendor's CLI."""
    return make_npm_prefix()


def make_npm_prefix() -> Path:
    """A prefix with every vendor's CLI; made once, and kept for the versions that it holds."""
    adapters = [load_adapter(name) for name in list_agents()]
    wanted = [f"{adapter.package}@{adapter.tested_version}" for adapter in adapters if adapter.package]
    versions = hashlib.sha256("\n".join(wanted).encode()).hexdigest()[:12]
    # As root, an ordinary user's session needs them too, and cannot walk through /root.
    cache = Path("/var/cache" if os.geteuid() == 0 else Path.home() / ".cache") / "containai-tests"
    cache.mkdir(parents=True, exist_ok=True)
    prefix = cache / f"npm-{versions}"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not prefix.is_dir():
            _install(wanted, prefix)
    return prefix


def _install(wanted: list[str], prefix: Path) -> None:
    with tempfile.TemporaryDirectory(dir=prefix.parent, prefix="making-") as making:
        Path(making).chmod(0o755)
        done = subprocess.run(
            ["npm", "install", "--global", "--prefix", f"{making}/p", "--no-fund", "--no-audit", SCRIPTS, *wanted],
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            umask=0o022,
            check=False,
        )
        assert done.returncode == 0, f"npm install {' '.join(wanted)}:\n{done.stderr[-2000:]}"
        Path(making, "p").rename(prefix)


@pytest.fixture(params=["root", "ordinary"] if os.geteuid() == 0 else ["ordinary"])
def person(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Person]:
    """Root, and an ordinary user. Who is an ordinary user can only be himself."""
    here = Path(containai.__file__).parent.parent
    if request.param == "root":
        yield Person(name="root", prefix=(), home=_home(tmp_path), packages=here)
        return
    user: OrdinaryUser = request.getfixturevalue("ordinary")
    if os.geteuid() != 0:
        yield Person(name=user.name, prefix=(), home=_home(tmp_path), packages=here)
        return
    subprocess.run([ROOT / "bootstrap", "prepare-host", user.name], check=True, capture_output=True, timeout=120)
    with tempfile.TemporaryDirectory(dir=user.home, prefix="vendor-") as own:
        shutil.copytree(here / "containai", Path(own, "packages/containai"))
        home = _home(Path(own))
        subprocess.run(["chown", "-R", f"{user.uid}:{user.gid}", own], check=True, timeout=60)
        yield Person(name=user.name, prefix=user.prefix(), home=home, packages=Path(own, "packages"))


def _home(parent: Path) -> Path:
    home = parent / "home"
    home.mkdir(mode=0o700)
    return home


def python() -> str:
    """An interpreter that every user can run: a virtual environment's own may be below someone's HOME."""
    return os.path.realpath(sys.executable)
