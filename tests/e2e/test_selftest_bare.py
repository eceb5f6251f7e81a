"""Attacks of the self-test that would be aimed at the machine itself: seen to succeed where that does no harm.

An agent without any container, as root: only in a virtual machine that is thrown away (tests/vm/run selftest).
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from containai.host.process import Child, spawn
from containai.selftest import run as selftest
from containai.selftest import stage
from tests.support.attacked import attacked, broken, build_unguarded, ground_of
from tests.support.product import Product
from tests.support.proofs import BARE, OF_ITS_USER, unproven
from tests.support.weak_machine import SHARED_USER

pytestmark = [pytest.mark.needs("throw-away-machine"), pytest.mark.timeout(400)]

SERVICES = (
    "/var/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/dbus/system_bus_socket",
    "/run/systemd/private",
)


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {"UNGUARDED": str(build_unguarded(tmp_path_factory.mktemp("unguarded")))}


@pytest.fixture
def services() -> Iterator[None]:
    """Sockets where the host's services have theirs."""
    with contextlib.ExitStack() as stack:
        for path in map(Path, SERVICES):
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(socket.socket(socket.AF_UNIX)).bind(str(path))
                stack.callback(path.unlink)
        yield


@pytest.mark.usefixtures("services")
def test_root_without_a_container_gets_through(product: Product, variables: dict[str, str]) -> None:
    found = attacked(ground_of(product, BARE.pieces, variables), BARE.sessions, BARE.themes)
    assert unproven(BARE, broken(found)) == {}


def test_without_a_container_it_kills_what_is_its_users(
    product: Product, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_the_same_user(argv: list[str]) -> Child:
        return spawn(["setpriv", f"--reuid={SHARED_USER}", "--clear-groups", *map(str, argv)])

    monkeypatch.setattr(stage, "spawn", of_the_same_user)
    monkeypatch.setattr(selftest, "_ENDING_S", selftest._SLOW_ENDING_S)  # an emulated processor begins late
    found = attacked(ground_of(product, OF_ITS_USER.pieces, variables), OF_ITS_USER.sessions)
    assert unproven(OF_ITS_USER, broken(found)) == {}
