"""A Docker that is too old is refused, on a machine that has one (P4)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.product import Product, make_repository

pytestmark = [pytest.mark.docker, pytest.mark.needs("docker-before-25"), pytest.mark.timeout(200)]


def test_it_is_refused_and_auto_takes_another_engine(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    make_repository(tmp_path / "repo")
    product = Product(home=tmp_path / "home", repository=tmp_path / "repo")
    said = json.loads(product.command("doctor", "--engine", "docker", "--json", timeout_s=150).stdout)
    (finding,) = [each for each in said["findings"] if each["id"] == "docker-version"]
    assert (said["verdict"], finding["verdict"]) == ("refused", "refuse")
    assert "is too old; 25.0.5 is needed" in finding["summary"]
    ran = product.run("true", "--engine", "docker", timeout_s=150)
    assert (ran.status, "error[preflight." in ran.stderr) == (125, True)
    assert json.loads(product.command("doctor", "--json", timeout_s=150).stdout)["engine"] == "embedded"
