"""Podman in Docker's place: recognised, and held to the same contract (P4, I11).

The boot ``podman`` of tests/vm/run has it behind Docker's socket, and runs sessions of test_session.py on it as well.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.docker.conftest import docker
from tests.support.product import Product

pytestmark = [pytest.mark.docker, pytest.mark.needs("podman-engine"), pytest.mark.timeout(400)]

NET = ("--network-proxy", "none")
LONG = 300
SOCKET = "unix:///run/podman/podman.sock"


def test_it_is_recognised_and_ready(product: Product) -> None:
    """By either name of its socket, and refused where DOCKER_HOST names another."""
    for variables in ({}, {"DOCKER_HOST": SOCKET}, {"DOCKER_HOST": "unix:///run/docker.sock"}):
        asked = replace(product, variables=variables)
        done = asked.command("doctor", "--engine", "docker", "--json", timeout_s=LONG)
        said = json.loads(done.stdout)
        found = {each["id"]: each["summary"] for each in said["findings"]}
        assert (said["verdict"], done.status) == ("ready", 0), found
        assert found["docker-version"].startswith("Podman 5.")
    elsewhere = replace(product, variables={"DOCKER_HOST": "unix:///run/user/1000/podman/podman.sock"})
    ran = elsewhere.run("true", *NET, "--engine", "docker", timeout_s=LONG)
    assert (ran.status, "error[preflight.docker]" in ran.stderr) == (125, True)


# Containai's own code in a process of its own, that says one thing to Podman as it would say it to Docker.
_AS_TO_DOCKER = """
import sys
from containai.engine.docker import engine
change = sys.argv.pop(1)
translate = engine.to_podman
def changed(body, profile):
    sent = translate(body, profile)
    host = sent["HostConfig"]
    exec(change)
    return sent
engine.to_podman = changed
from containai.cli.main import main
sys.exit(main(sys.argv[1:]))
"""

CHANGES = [
    # Podman drops MaskedPaths in silence: what it does not mask by itself stays to be seen.
    (
        'host["SecurityOpt"] = [o for o in host["SecurityOpt"] if not o.startswith("mask=")]',
        "/proc/modules is not covered",
    ),
    # Without U a tmpfs is root's.
    ('host["Tmpfs"] = {k: v.replace(",U", "") for k, v in host["Tmpfs"].items()}', "Tmpfs"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES)
def test_what_podman_does_otherwise_is_found_and_never_runs(product: Product, change: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _AS_TO_DOCKER, change, "run", "--engine", "docker", *NET, "--", "sh", "-c", "echo ran > f"],
        cwd=product.repository, env=product.environment, capture_output=True, timeout=LONG, check=False,
    )  # fmt: skip
    told = done.stderr.decode()
    assert done.returncode == 125, told
    assert "error[engine.drift]" in told
    assert said in told
    assert product.branches() == ["main"]
    assert not docker("ps", "-aq").stdout
