"""The launcher is killed at every step of making a Docker container: nothing goes on, and recover leaves nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.docker.conftest import docker
from tests.support.product import Product

pytestmark = [pytest.mark.docker, pytest.mark.needs("docker-engine"), pytest.mark.timeout(600)]

NET = ("--network-proxy", "none")
LONG = 300
OURS = ("--filter", "label=containai.session")

# The product, which kills itself when it makes the container of a part (agent, prepare, finish) and comes to a moment.
_KILLED = """
import os, signal, sys, threading
from containai.engine.docker import engine
from containai.engine.docker.container import DockerContainer
from containai.engine.docker.door import Door
from containai.host.docker import Daemon
part, moment = sys.argv.pop(1), sys.argv.pop(1)
here = threading.local()

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def at(owner, name, *, before=False, during=0):
    inner = getattr(owner, name)
    def wrapped(*args, **kwargs):
        mine = getattr(here, "part", "") == part
        if mine and during:
            threading.Timer(during, die).start()
        if mine and before:
            die()
        result = inner(*args, **kwargs)
        if mine and not before:
            die()
        return result
    setattr(owner, name, wrapped)

make = engine.DockerEngine.make
def making(self, spec, *rest):
    here.part = spec.label
    try:
        return make(self, spec, *rest)
    finally:
        here.part = ""
engine.DockerEngine.make = making

start = DockerContainer.start
def starting(self):
    start(self)
    if moment == "released" and self._asked["Labels"]["containai.type"] == part:
        die()
DockerContainer.start = starting

{
    "staged": lambda: at(engine, "render_docker", before=True),
    "creating": lambda: at(Daemon, "create", during=0.1),
    "created": lambda: at(Daemon, "create"),
    "starting": lambda: at(Daemon, "start", during=0.4),
    "started": lambda: at(Daemon, "start"),
    "at the door": lambda: at(Door, "first"),
    "let in": lambda: at(engine, "let_continue"),
    "joined": lambda: at(engine.DockerEngine, "_hand_specification", before=True),
    "specified": lambda: at(engine.DockerEngine, "_hand_specification"),
    "reported": lambda: at(engine, "receive_report"),
    "released": lambda: None,
}[moment]()
from containai.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
MOMENTS = (
    *(("agent", moment) for moment in ("staged", "creating", "created", "starting", "started", "at the door")),
    *(("agent", moment) for moment in ("let in", "joined", "specified", "reported", "released")),
    ("prepare", "created"),
    ("finish", "created"),
)


def states() -> list[str]:
    """Of every container of ours that the daemon knows."""
    return docker("ps", "-a", *OURS, "--format", "{{.State}}").stdout.decode().split()


def killed(product: Product, part: str, moment: str, branch: str) -> list[str]:
    """A session whose launcher is killed then; the states of the containers that stay."""
    words = ("run", "--engine", "docker", *NET, "-b", branch, "--", "sh", "-c", "echo ran > ran; sleep 1")
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, part, moment, *words],
        cwd=product.repository, env=product.environment, capture_output=True, timeout=LONG, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    deadline = time.monotonic() + 60
    while set(states()) - {"created"}:
        assert time.monotonic() < deadline, (part, moment, states())
        time.sleep(0.2)
    return states()


def test_no_moment_leaves_anything(product: Product) -> None:
    left: dict[tuple[str, str], int] = {}
    before = 0
    for number, (part, moment) in enumerate(MOMENTS):
        found = len(killed(product, part, moment, f"b{number}"))
        left[part, moment], before = found - before, found
        ran = [path for path in product.sessions.glob("*/workspace/ran") if path.exists()]
        # Before its release not one instruction of the agent's has happened.
        assert bool(ran) <= ((part, moment) in {("agent", "released"), ("finish", "created")}) or len(ran) <= 1
    print(left)
    # Docker removes by itself what it has begun to start. What was never started waits for recover.
    assert left["agent", "created"] >= 1
    assert left["finish", "created"] == 1
    assert list(Path("/dev/shm").glob("containai-docker-*"))

    recovered = product.command("recover", "--json", timeout_s=LONG)
    assert recovered.status == 0, recovered.stderr
    assert states() == []
    assert not list(Path("/dev/shm").glob("containai-docker-*"))
    assert not list(product.sessions.glob("*/workspace"))
    finished = f"shell/b{MOMENTS.index(('finish', 'created'))}"
    released = f"shell/b{MOMENTS.index(('agent', 'released'))}"
    assert product.git("show", f"{finished}:ran") == "ran"
    assert {"main", finished} <= set(product.branches()) <= {"main", finished, released}
    assert json.loads(product.command("list", "--json", timeout_s=LONG).stdout) is not None

    ran_again = product.run("echo next > next", *NET, "--engine", "docker", timeout_s=LONG)
    assert ran_again.status == 0, ran_again.stderr
    assert product.git("show", f"{ran_again.result['branch']}:next") == "next"
