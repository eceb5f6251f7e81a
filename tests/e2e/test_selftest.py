"""The self-test on this machine: every attack is held. That each can get through is in test_selftest_proofs.py."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest

from containai.provenance.keys import trusted_keys
from containai.selftest.catalogue import load_catalogue
from containai.selftest.result import read_signed
from tests.support.product import Product


@pytest.mark.user
def test_every_attack_is_held(product: Product) -> None:
    done = product.command("selftest", "--json", timeout_s=110)
    found = json.loads(done.stdout)
    assert found["failed"] == []
    # Whatever cannot be tried says why; on this kernel everything can.
    assert found["unavailable"] == []
    assert {attack["id"] for attack in found["passed"]} == set(load_catalogue())
    assert len(found["passed"]) >= 80
    assert done.status == 0, done.stderr
    signed = read_signed(Path(found.pop("signed")), trusted_keys(product.home / ".config/containai", []))
    assert signed == found
    assert list(product.sessions.iterdir()) == []  # its sessions are not kept among the user's


def test_a_session_that_cannot_start_tests_nothing(product: Product) -> None:
    """And none begins: the host is looked at first, as for a session, and by the same checks."""
    elsewhere = replace(product, variables={"DOCKER_HOST": "tcp://127.0.0.1:1"})
    refused = elsewhere.command("selftest", "--engine", "docker")
    assert (refused.status, refused.stdout) == (1, "")
    assert "error[preflight." in refused.stderr
    assert "docker: DOCKER_HOST names tcp://127.0.0.1:1" in refused.stderr
    assert "attacks, from inside" not in refused.stderr
    assert refused.stderr.count("error[") == 1
    assert not list(product.home.rglob("selftest/*.json"))


def test_the_catalogue_is_what_is_attacked() -> None:
    """No attack without a claim, no claim without an attack."""
    inside = set()
    place = resources.files("containai.data") / "selftest"
    for theme in ("kernel", "files", "processes", "network", "credentials", "git", "limits", "evidence"):
        assert (place / f"{theme}.py").is_file()
        inside.add(theme)
    assert {name.partition(".")[0] for name in load_catalogue()} == {*inside, "ending"}
