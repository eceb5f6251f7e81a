"""Podman in Docker's place: recognised, and held to the same contract (P4, I11).

The boot ``podman`` of tests/vm/run has it behind Docker's socket, and runs sessions of test_session.py on it as well.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.docker.conftest import docker
from tests.docker.differing import LONG, NET, assert_never_runs
from tests.support.product import Product

pytestmark = [pytest.mark.docker, pytest.mark.needs("podman-engine"), pytest.mark.timeout(400)]

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
    assert_never_runs(product, "to_podman", change, said)
    assert not docker("ps", "-aq").stdout
