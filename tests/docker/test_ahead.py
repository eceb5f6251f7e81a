"""The container of ``finish`` waits while the agent runs: the agent cannot reach it, and it goes with the launcher."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.docker.conftest import docker
from tests.docker.test_crashes import staged, states
from tests.docker.test_session import LONG, NET, end, running, wait_for_file
from tests.e2e.test_finish_ahead import LOOK, SEEN, STARTED
from tests.support.product import Product

pytestmark = [pytest.mark.docker, pytest.mark.needs("docker-engine"), pytest.mark.timeout(400)]

OWN = ("cgroup", "ipc", "mnt", "net", "pid", "uts")


def first_process(container: str) -> Path:
    """In the host's /proc; all its guards are on."""
    process = Path("/proc", str(json.loads(docker("inspect", container).stdout)[0]["State"]["Pid"]))
    deadline = time.monotonic() + 60
    while "\nSeccomp_filters:\t2\n" not in process.joinpath("status").read_text():  # Docker's, then its own
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return process


def test_an_agent_cannot_reach_it_and_it_is_the_one_that_brings_the_work_home(product: Product) -> None:
    child = product.start(STARTED + LOOK, *NET, "--engine", "docker")
    try:
        go = wait_for_file(product, "started").with_name("go")
        waits, agents = running(product, "finish"), running(product)
        first, agent = first_process(waits), first_process(agents)
        for name in OWN:
            assert os.readlink(first / "ns" / name) not in {
                os.readlink(agent / "ns" / name),
                os.readlink(f"/proc/self/ns/{name}"),
            }
        assert (first / "task" / first.name / "children").read_text() == ""  # it executes nothing
        entered = docker("exec", waits, "touch", "/workspace/intruder", check=False)
        assert b"function not implemented" in entered.stdout + entered.stderr
        go.touch()
        output, errors = child.communicate(timeout=LONG)
    finally:
        end(child)
    result = json.loads(output)
    assert (child.returncode, result["problem"]) == (0, ""), errors.decode()
    seen = product.git("show", f"{result['branch']}:seen").splitlines()
    own = [line for line in seen if line.startswith("socket /dev/shm/containai-docker-")]
    assert len(own) == 1  # the end of its first process's way to the launcher, of which no name is left
    assert [line for line in seen if line not in own] == SEEN
    assert product.git("show", f"{result['branch']}:work") == "work"
    assert "intruder" not in product.git("log", "--all", "--name-only", "--format=")
    session = f"label=containai.session={result['session']}"
    only = ("--filter", session, "--filter", "event=create", "--format", "{{.ID}}")
    made = docker("events", "--since", "10m", "--until", "0s", *only).stdout.decode().split()
    assert [each[:12] for each in made] == [agents, waits]  # and no third one
    assert states() == []


def test_the_launcher_is_killed_while_it_waits(product: Product) -> None:
    """Both containers end and are removed by themselves; what he had in memory, recover removes."""
    child = product.start(STARTED, *NET, "--engine", "docker")
    try:
        wait_for_file(product, "started")
        processes = [first_process(running(product, part)) for part in ("finish", "agent")]
    finally:
        end(child)
    deadline = time.monotonic() + 60
    while states() or any(process.exists() for process in processes):
        assert time.monotonic() < deadline, states()
        time.sleep(0.2)
    assert staged()
    recovered = product.command("recover", timeout_s=LONG)
    assert recovered.status == 0, recovered.stderr
    assert product.git("show", "shell/session-1:work") == "work"
    assert (states(), staged()) == ([], [])
