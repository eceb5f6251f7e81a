"""Preflight on this machine as it is, and with one thing taken away in a private mount namespace."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.users import OrdinaryUser

SOURCE = Path(__file__).resolve().parents[2] / "src"
ENV = {"PYTHONPATH": str(SOURCE), "PATH": os.environ["PATH"], "HOME": "/nonexistent", "XDG_STATE_HOME": "/tmp"}
DOCTOR = f"{sys.executable} -m containai doctor --json"

pytestmark = [pytest.mark.timeout(90), pytest.mark.needs("root", "bubblewrap")]


def doctor(prepare: str = "", env: dict[str, str] | None = None) -> dict[str, Any]:
    """The doctor's answer after ``prepare`` ran in a mount namespace of its own."""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", f"{prepare}\n{DOCTOR} || test $? = 1"],
        env=ENV | (env or {}), capture_output=True, timeout=60, check=False, cwd="/",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    said: dict[str, Any] = json.loads(done.stdout)
    return {finding["id"]: finding for finding in said["findings"]} | {"verdict": said["verdict"]}


def run_code(prepare: str, repository: Path) -> tuple[int, str]:
    """Exit status and error code of a launch after the same preparation."""
    launch = f"cd {shlex.quote(str(repository))}\n{sys.executable} -m containai run --network-proxy none -- true"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", f"{prepare}\n{launch}"],
        env=ENV, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    said = done.stderr.decode()
    return done.returncode, said.partition("error[")[2].partition("]")[0]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "-q", "."], check=True, timeout=20)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "init"], check=True, timeout=20)
    return tmp_path


# name of the finding, what is taken away, what the finding says
TAKEN = [
    ("namespaces", "mount -t tmpfs none /proc/scsi 2>/dev/null || mount -t tmpfs none /proc/fs", "trial container"),
    ("seccomp", "mount --bind /dev/null /proc/sys/kernel/seccomp/actions_avail", "cannot"),
    ("squid", "mount --bind /bin/true /usr/sbin/squid", "does not tell its version"),
    ("git", "echo 'echo git version 2.20.1' > /tmp/g; chmod 755 /tmp/g; mount --bind /tmp/g /usr/bin/git", "too old"),
    ("state", "mkdir -p /tmp/containai; mount -t tmpfs -o ro none /tmp/containai", "Read-only file system"),
    ("state", "mkdir -p /tmp/containai; mount -t tmpfs -o size=1m none /tmp/containai", "MiB are free"),
]


@pytest.fixture(autouse=True)
def private_tmp(monkeypatch: pytest.MonkeyPatch) -> None:
    """As root the state directory is fixed; each try gets one of its own, and a /tmp to prepare things in."""
    monkeypatch.setitem(globals(), "PRIVATE", "mount -t tmpfs none /tmp; mount -t tmpfs none /var/lib/containai")


def test_this_machine_as_it_is() -> None:
    found = doctor()
    for name in ("architecture", "kernel", "seccomp", "tmpfs", "namespaces", "cgroups", "bubblewrap", "git"):
        assert (found[name]["state"], found[name]["verdict"]) == ("on", "pass"), found[name]
    assert found["namespaces"]["summary"] == "a container with mounts inside was made"
