"""The launcher is killed at every step of making a Docker container: nothing goes on, and recover leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from containai.session.engines import remove_docker_leftovers
from tests.docker.bare import AWAITS, MOMENTS, SESSION
from tests.docker.conftest import docker, made_ready
from tests.support.product import Product

pytestmark = [pytest.mark.docker, pytest.mark.needs("docker-engine"), pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
NET = ("--network-proxy", "none")
LONG = 300


def states() -> list[str]:
    """Of every container of ours that the daemon knows."""
    shown = docker("ps", "-a", "--filter", "label=containai.session", "--format", "{{.State}}")
    return shown.stdout.decode().split()


def staged() -> list[Path]:
    """What launchers have left in memory."""
    return list(Path("/dev/shm").glob("containai-docker-*"))


def killed(cwd: Path, environment: dict[str, str], *words: str) -> list[str]:
    """A launcher that dies at a moment; the states of the containers that stay: none of them runs."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.docker.bare", *words],
        cwd=cwd, env={**environment, "PYTHONPATH": str(ROOT)}, capture_output=True, timeout=LONG, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    deadline = time.monotonic() + 60
    while set(states()) - {"created"}:
        assert time.monotonic() < deadline, (words, states())
        time.sleep(0.2)
    return states()


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_launcher_is_killed_while_a_container_is_made(image: str, tmp_path: Path, moment: str) -> None:
    """Docker removes by itself what it has begun to start. What was never started waits for who cleans up."""
    tmp_path.chmod(0o777)
    with made_ready():
        left = killed(ROOT, dict(os.environ), moment, "agent", "container", image, str(tmp_path))
        assert len(left) == (moment == "created") or moment in ("creating", "starting")
        assert bool(staged())
        assert not (tmp_path / "ran").exists()  # that exec waited for a supervisor, who was dead
        remove_docker_leftovers(SESSION)
        assert states() == []
        assert staged() == []


def test_recover_removes_what_killed_launchers_left_and_the_next_session_works(product: Product) -> None:
    session = ("containai", "run", "--engine", "docker", *NET, "-b")
    script = ("--", "sh", "-c", "echo ran > ran")
    agents = {AWAITS: f"{product.sessions}/*/workspace/ran"}  # while it still runs, that of finish is made
    for part, more in (("agent", {}), ("finish", agents)):
        killed(product.repository, {**product.environment, **more}, "created", part, *session, part, *script)
    assert states().count("created") >= 2
    assert staged()

    recovered = product.command("recover", timeout_s=LONG)
    assert recovered.status == 0, recovered.stderr
    assert states() == []
    assert staged() == []
    assert not list(product.sessions.glob("*/workspace"))
    assert product.branches() == ["main", "shell/finish"]  # nothing had happened in the other
    assert product.git("show", "shell/finish:ran") == "ran"

    ran = product.run("echo next > next", *NET, "--engine", "docker", timeout_s=LONG)
    assert ran.status == 0, ran.stderr
    assert product.git("show", f"{ran.result['branch']}:next") == "next"
