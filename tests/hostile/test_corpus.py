"""The corpus of hostile repositories: each in a real session, and the host as if it had never been."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import pytest

from tests.hostile import layout_cases, object_cases, settings_cases, wire_cases
from tests.hostile.model import Case, Outcome
from tests.support.product import Product

CASES = (*settings_cases.CASES, *layout_cases.CASES, *object_cases.CASES, *wire_cases.CASES)


def _parameter(case: Case) -> object:
    return pytest.param(case, id=case.name, marks=[pytest.mark.slow] if case.slow else [])


def _state(product: Product) -> dict[str, str]:
    """Everything of the user's repository that no session may change."""
    found = {"main": product.git("rev-parse", "main"), "head": (product.repository / ".git/HEAD").read_text()}
    for path in sorted(product.repository.rglob("*")):
        name = str(path.relative_to(product.repository))
        if re.match(r"\.git/(objects|refs|logs|packed-refs)|\.git/index$", name):
            continue
        found[name] = f"link {os.readlink(path)}" if path.is_symlink() else "folder"
        if path.is_file() and not path.is_symlink():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def test_the_corpus_is_large_and_without_twins() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("case", [_parameter(case) for case in CASES])
def test_hostile_repository(product: Product, case: Case) -> None:
    canary = product.home / "canary"
    before = _state(product)
    ran = product.run(case.script.replace("@CANARY@", str(canary)), "--network-proxy", "none")
    assert ran.result, ran.stderr
    branch = ran.result["branch"]

    # What became of the work.
    if case.outcome is Outcome.REFUSED:
        assert ran.result["problem"], ran.stderr
        assert (Path(ran.result["kept"]) / "workspace").is_dir()
        assert product.branches() in (["main"], ["main", branch])
    else:
        assert ran.result["problem"] == "", ran.stderr
        assert product.git("show", f"{branch}:work") == "kept"
    said = ran.stderr + Path(ran.result["event_log"]).read_text()
    assert case.says in said

    # The host: nothing ran, nothing moved, nothing is broken, nothing is left over.
    assert _state(product) == before
    assert product.git("status", "--porcelain") == ""
    known = {"refs/heads/main", f"refs/heads/{branch}", "refs/notes/containai"}
    assert set(product.git("for-each-ref", "--format=%(refname)").splitlines()) <= known
    product.git("fsck", "--strict", "--no-dangling")
    assert not [
        path for path in (product.repository / ".git").rglob("*") if re.search(r"tmp_|incoming|\.lock$", path.name)
    ]
    assert not any(character in ran.stderr for character in "\x1b\x07\x9b\u202e")

    # And looking at it does nothing either.
    if ran.result["commits"]:
        shown = product.command("review", ran.result["session"])
        assert shown.status == 0, shown.stderr
        assert not any(character in shown.stdout for character in "\x1b\x07\x9b\u202e")
    assert not canary.exists()
    assert _state(product) == before
