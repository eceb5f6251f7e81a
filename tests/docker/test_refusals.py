"""What is not as it must be is refused before anything of the agent runs: host, daemon, image, container."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.docker.conftest import PROFILE, docker, load_profile
from tests.docker.differing import LONG, NET, assert_never_runs
from tests.support.product import Product

pytestmark = [pytest.mark.docker, pytest.mark.needs("docker-engine"), pytest.mark.timeout(400)]

# One thing of what Docker is asked for left out: what it then answers agrees with what it was asked for, and only the
# kernel tells the difference. Two of them, through whole sessions; test_weakened.py has them all.
CHANGES = [
    ('host["ReadonlyRootfs"] = False', "/ is writable"),
    ('host["SecurityOpt"][1] = "apparmor=docker-default"', "AppArmor confinement"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES)
def test_a_container_that_differs_never_runs(product: Product, change: str, said: str) -> None:
    """I11."""
    assert_never_runs(product, "render_docker", change, said)


def test_who_joins_in_a_containers_place_is_given_nothing_and_ends_the_session(product: Product) -> None:
    """Root on this machine could; by the kernel's word it is not the container's first process."""
    given: list[tuple[bytes, list[int]]] = []
    ended = threading.Event()

    def intrude() -> None:
        while not given and not ended.wait(0.01):
            for path in Path("/dev/shm").glob("containai-docker-*/control"):
                with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control, contextlib.suppress(OSError):
                    control.settimeout(LONG)
                    control.connect(str(path))
                    message, fds, _, _ = socket.recv_fds(control, 64, 8)
                    given.append((message, fds))
                    break

    intruder = threading.Thread(target=intrude)
    intruder.start()
    try:
        ran = product.run("echo ran > f", *NET, "--engine", "docker", timeout_s=LONG)
    finally:
        ended.set()
        intruder.join()
    assert ran.status == 125, ran.stderr
    assert "error[engine.create]: somebody else joined in the container's place" in ran.stderr
    assert f"process {os.getpid()}, and the container's first is " in ran.stderr
    assert given == [(b"", [])]
    assert product.branches() == ["main"]
    assert not list(product.sessions.glob("*"))


def doctor(product: Product, name: str) -> dict[str, str]:
    said = json.loads(product.command("doctor", "--engine", "docker", "--json", timeout_s=LONG).stdout)
    (finding,) = [each for each in said["findings"] if each["id"] == name]
    return dict(finding)


@pytest.fixture
def complaining(product: Product) -> Iterator[None]:
    load_profile("-C")
    yield
    load_profile()


@pytest.fixture
def unloaded(product: Product) -> Iterator[None]:
    subprocess.run(["apparmor_parser", "-R", PROFILE], check=True, timeout=60)
    yield
    load_profile()


@pytest.mark.usefixtures("complaining")
def test_a_profile_that_only_complains(product: Product) -> None:
    assert "complain" in doctor(product, "apparmor")["summary"]
    ran = product.run("true", *NET, "--engine", "docker", timeout_s=LONG)
    assert (ran.status, "error[preflight.apparmor]" in ran.stderr) == (125, True)


@pytest.mark.usefixtures("unloaded")
def test_a_profile_that_is_not_loaded(product: Product) -> None:
    finding = doctor(product, "apparmor")
    assert "not loaded" in finding["summary"]
    assert any("apparmor_parser -r" in line for line in finding["remedy"])
    ran = product.run("true", *NET, "--engine", "docker", timeout_s=LONG)
    assert (ran.status, "error[preflight.apparmor]" in ran.stderr) == (125, True)


@pytest.mark.parametrize("host", ["tcp://127.0.0.1:2375", "unix:///tmp/other.sock"])
def test_a_daemon_elsewhere(product: Product, host: str) -> None:
    elsewhere = replace(product, variables={"DOCKER_HOST": host})
    ran = elsewhere.run("true", *NET, "--engine", "docker", timeout_s=LONG)
    assert (ran.status, "error[preflight.docker]" in ran.stderr) == (125, True)
    assert host in ran.stderr


def test_a_user_who_may_not_ask_docker(product: Product, tmp_path: Path) -> None:
    subprocess.run(["chown", "-R", "1000:1000", str(tmp_path)], check=True, timeout=60)
    for path in (tmp_path, *tmp_path.parents):
        if path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    done = subprocess.run(
        ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", *product.argv("doctor", "--engine", "docker")],
        cwd=product.repository, env=product.environment, capture_output=True, text=True, timeout=LONG, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "/var/run/docker.sock: Permission denied" in done.stdout
    assert 'sudo env PATH="$PATH" containai run --engine docker' in done.stdout
    assert 'sudo usermod -aG docker "$USER"' in done.stdout


@pytest.mark.parametrize("reference", ["no-such:1", f"sha256:{'0' * 64}", f"containai:latest@sha256:{'0' * 64}"])
def test_an_image_that_is_not_there(product: Product, reference: str) -> None:
    """By another digest than its own, an image that has the name is not meant; and nothing is pulled."""
    before = sorted(docker("images", "--all", "--quiet").stdout.split())
    ran = product.run("true", *NET, "--engine", "docker", "--image", reference, timeout_s=LONG)
    assert (ran.status, "error[preflight.image]" in ran.stderr) == (125, True)
    assert reference in ran.stderr
    assert sorted(docker("images", "--all", "--quiet").stdout.split()) == before


@pytest.fixture
def derived(image: str) -> Iterator[str]:
    """Names an image to be made of ours, and removes it."""
    yield "containai-test:derived"
    docker("rmi", "-f", "containai-test:derived", check=False)


def derive(image: str, *changes: str) -> str:
    """An image that says more than ours."""
    container = docker("create", image, "x").stdout.decode().strip()
    options = [word for change in changes for word in ("--change", change)]
    docker("commit", *options, container, "containai-test:derived")
    docker("rm", container)
    return docker("image", "inspect", "--format", "{{.Id}}", "containai-test:derived").stdout.decode().strip()


def test_an_image_with_a_volume(product: Product, image: str, derived: str) -> None:
    derive(image, "VOLUME /data")
    ran = product.run("true", *NET, "--engine", "docker", "--image", derived, timeout_s=LONG)
    assert (ran.status, "error[preflight.image]" in ran.stderr) == (125, True)
    assert "/data" in ran.stderr


def test_an_image_does_not_choose_its_user_program_or_environment(product: Product, image: str, derived: str) -> None:
    """And what is run is what was inspected, by its digest."""
    found = derive(image, "USER 0", 'ENTRYPOINT ["/bin/false"]', "ENV LD_PRELOAD=/evil.so FROM_IMAGE=1", "WORKDIR /")
    ran = product.run(
        "id -u; pwd; echo ${FROM_IMAGE-unset} ${LD_PRELOAD-unset}", *NET, "--engine", "docker", "--image", found,
        timeout_s=LONG,
    )  # fmt: skip
    assert ran.printed.splitlines() == ["1000", "/workspace", "unset unset"], ran.stderr
    (configured,) = [event for event in product.events(ran) if event["event"] == "session-config"]
    assert configured["image"] == found


def test_auto_takes_docker_and_says_so(product: Product) -> None:
    ran = product.run("true", *NET, timeout_s=LONG)
    assert ran.result["engine"] == "docker", ran.stderr
    assert "engine docker (auto: Docker is usable" in ran.stderr
