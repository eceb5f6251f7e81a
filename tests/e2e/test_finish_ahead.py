"""The container of ``finish`` that waits while the agent runs: out of the agent's reach, and gone with its launcher.

The embedded engine makes none ahead by itself; here it is told to, so that no daemon is needed. ``tests/docker`` has the same
with Docker's containers.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.moments import Watched, kill
from tests.support.product import Product

pytestmark = [pytest.mark.user, pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
QUIET = ("--network-proxy", "none")
FIRST_PROCESS = "/run/containai-shim"
STARTED = "echo work > work; touch started; while [ ! -e go ]; do sleep 0.05; done\n"

# What an agent sees of others, without a process beside its shell: names in /proc, sockets, who can be signalled.
LOOK = """
for each in /proc/[0-9]*; do read -r name < $each/comm; echo "process $name"; done > seen
while read -r _ _ _ _ _ _ _ path; do [ -z "$path" ] || echo "socket $path"; done < /proc/net/unix >> seen
while read -r _ local _ state _; do [ "$state" != 0A ] || echo "listens ${local#*:}"; done < /proc/net/tcp >> seen
kill -0 -1 2>/dev/null && echo "others can be signalled" >> seen
true
"""
SEEN = ["process containai-shim", "process sh", "socket Path", "listens 24CA"]  # a heading; its own way to return work


@pytest.fixture
def running(product: Product) -> Iterator[Callable[[str], Watched]]:
    """Starts a session whose ``finish`` is made ahead."""
    begun: list[subprocess.Popen[bytes]] = []

    def start(script: str) -> Watched:
        launcher = "from tests.support.weakened import main; main()"
        child = subprocess.Popen(
            [sys.executable, "-c", launcher, "finish_is_made_ahead", "run", "--json", *QUIET, "--", "sh", "-c", script],
            cwd=product.repository, env={**product.environment, "PYTHONPATH": os.fspath(ROOT)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        begun.append(child)
        return Watched(product=product, child=child)

    yield start
    for child in begun:
        if child.poll() is None:
            child.kill()
        child.communicate(timeout=90)


def waiting(watched: Watched) -> int:
    """The first process of the container that waits, on the host: all guards are on, and it has no child, as the agent's has."""
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        assert watched.child.poll() is None
        for pid in watched.processes(FIRST_PROCESS) if watched.has("workspace/started") else ():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
                if not children and status.startswith("Name:\tcontainai-shim\n") and "\nSeccomp:\t2\n" in status:
                    return pid
        time.sleep(0.02)
    raise AssertionError("none waits")


def test_the_agent_sees_nothing_of_it(product: Product, running: Callable[[str], Watched]) -> None:
    watched = running(STARTED + LOOK)
    first = waiting(watched)
    release(watched)
    output, errors = watched.child.communicate(timeout=90)
    result = json.loads(output)
    assert (watched.child.returncode, result["problem"]) == (0, ""), errors.decode()
    assert not Path(f"/proc/{first}").exists()
    assert product.git("show", f"{result['branch']}:seen").splitlines() == SEEN
    assert product.git("show", f"{result['branch']}:work") == "work"


def test_the_launcher_is_killed_while_it_waits(product: Product, running: Callable[[str], Watched]) -> None:
    """Its processes go with him (``nothing_left``), and recover brings the work home through another one."""
    watched = running(STARTED)
    first = waiting(watched)
    assert kill(watched.child.pid)
    watched.child.wait(timeout=90)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{first}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    recovered = product.command("recover")
    assert recovered.status == 0, recovered.stderr
    assert product.git("show", "shell/session-1:work") == "work"


def test_one_that_is_killed_while_it_waits_costs_no_work(product: Product, running: Callable[[str], Watched]) -> None:
    watched = running(STARTED)
    assert kill(waiting(watched))
    release(watched)
    output, errors = watched.child.communicate(timeout=90)
    result = json.loads(output)
    assert (watched.child.returncode, result["problem"]) == (0, ""), errors.decode()
    assert product.git("show", f"{result['branch']}:work") == "work"


def release(watched: Watched) -> None:
    """Let the agent go on."""
    assert watched.path
    (watched.path / "workspace/go").touch()
