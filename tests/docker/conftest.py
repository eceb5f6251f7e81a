"""A machine with Docker and AppArmor, made ready for sessions: what a user would have done before."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docker.rootfs import write_rootfs
from tests.support.product import Product, make_repository

IMAGE = "containai:latest"
PROFILE = Path(__file__).resolve().parents[2] / "src/containai/data/apparmor/containai-agent"
LOADED = Path("/sys/kernel/security/apparmor/profiles")
SCOPE = Path("/proc/sys/kernel/yama/ptrace_scope")


def docker(*words: str, check: bool = True, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Docker's own command."""
    done = subprocess.run(["docker", *words], input=stdin, capture_output=True, timeout=300, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"docker {words}: {done.stderr.decode(errors='replace')}")
    return done


def load_profile(*options: str) -> None:
    """Load the agent's AppArmor profile."""
    subprocess.run(["apparmor_parser", "-r", *options, PROFILE], check=True, timeout=60)


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image of ours: the machine's own, or one made of its packages; its identity."""
    if docker("image", "inspect", IMAGE, check=False).returncode != 0:
        archive = tmp_path_factory.mktemp("image") / "rootfs.tar"
        write_rootfs(archive)
        docker("import", str(archive), IMAGE)
        archive.unlink()
    return docker("image", "inspect", "--format", "{{.Id}}", IMAGE).stdout.decode().strip()


@contextlib.contextmanager
def made_ready() -> Iterator[None]:
    """The profile is loaded and Yama is on; afterwards both are as before, and no container of ours is there."""
    scope = SCOPE.read_text()
    was_loaded = f"{PROFILE.name} (" in LOADED.read_text()
    SCOPE.write_text("1")
    load_profile()
    yield
    SCOPE.write_text(scope)
    if not was_loaded:
        subprocess.run(["apparmor_parser", "-R", PROFILE], check=True, timeout=60)
    assert not docker("ps", "-aq", "--filter", "label=containai.session").stdout
    assert not list(Path("/dev/shm").glob("containai-docker-*"))


@pytest.fixture
def ready(image: str) -> Iterator[None]:
    """For the length of a test."""
    with made_ready():
        yield


@pytest.fixture
def product(tmp_path: Path, ready: None) -> Product:
    """A home and a repository with one commit on ``main``."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    make_repository(tmp_path / "repo")
    return Product(home=home, repository=tmp_path / "repo")


def execs(product: Product, ran: Any) -> list[list[str]]:
    """The argument vectors that the supervisor recorded."""
    return [event["argv"] for event in product.events(ran, "exec")]
