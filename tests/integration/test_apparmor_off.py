"""A kernel that has AppArmor and was booted without it (P2): Docker is refused, and nothing takes its place there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.product import Product, make_repository

pytestmark = [pytest.mark.timeout(300), pytest.mark.needs("apparmor-off", "root", "bubblewrap")]


@pytest.fixture
def product(tmp_path: Path) -> Product:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    make_repository(tmp_path / "repo")
    return Product(home=home, repository=tmp_path / "repo")


@pytest.mark.parametrize("variables", [{}, {"APPARMOR": "Y", "CONTAINAI_APPARMOR": "enforce"}], ids=["", "forged"])
def test_docker_is_refused(product: Product, variables: dict[str, str]) -> None:
    user = Product(home=product.home, repository=product.repository, variables=variables)
    said = user.command("doctor", "--engine", "docker", "--json")
    finding = next(found for found in json.loads(said.stdout)["findings"] if found["id"] == "apparmor")
    assert (said.status, finding["state"], finding["verdict"]) == (1, "off", "refuse")
    assert any("apparmor" in command for command in finding["remedy"])
    ran = user.command("run", "--engine", "docker", "--", "touch", "ran")
    assert ran.status == 125
    assert "error[preflight.apparmor]" in ran.stderr
    assert user.branches() == ["main"]


def test_a_session_runs_where_landlock_takes_its_place(product: Product) -> None:
    ran = product.run("cat /proc/self/attr/current; echo done > f", "--engine", "embedded", "--network-proxy", "none")
    assert ran.status == 0, ran.stderr
    assert "containai-agent" not in ran.stderr
    assert product.git("show", f"{ran.result['branch']}:f") == "done"


def test_auto_never_takes_docker(product: Product) -> None:
    ran = product.run("true", "--network-proxy", "none")
    assert ran.result["engine"] == "embedded", ran.stderr
