"""Hostile repositories, each in a real session: what the host has afterwards."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hostile.kept import KEPT
from tests.hostile.pushes import PUSHES
from tests.hostile.traps import TRAPS
from tests.support.git import fingerprint
from tests.support.product import Product, Ran, make_repository

pytestmark = pytest.mark.user
HELPERS = (Path(__file__).parent / "agent.txt").read_text()


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A session that is over, and what was there before it."""

    product: Product
    ran: Ran
    canaries: Path


def python(body: str) -> str:
    return f"python3 - 2>&1 <<'END_OF_CASES'\n{HELPERS}\n{body}\nEND_OF_CASES\n"


@pytest.fixture(scope="module")
def hold(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Held]:
    """Run a script in a session of its own, and check what must hold after each."""

    def run(script: str) -> Held:
        place = tmp_path_factory.mktemp("hostile")
        (place / "home").mkdir(mode=0o700)
        (place / "canaries").mkdir(mode=0o777)
        make_repository(place / "repository")
        product = Product(home=place / "home", repository=place / "repository")
        ours = (".git/refs/heads/shell", ".git/logs/refs/heads/shell", ".git/refs/notes", ".git/logs/refs/notes")
        without = (".git/objects", *ours)
        before = fingerprint(product.repository, without=without)
        ran = product.run(script.replace("@CANARIES@", shlex.quote(str(place / "canaries"))))
        assert fingerprint(product.repository, without=without) == before, (
            "the user's files, index, refs, configuration"
        )
        product.git("fsck", "--strict", "--no-dangling")
        assert os.listdir(place / "canaries") == []
        leftovers = [*product.repository.rglob("tmp_*"), *product.repository.rglob("*.lock")]
        assert leftovers == []
        assert all(name == "main" or name.startswith("shell/session-1") for name in product.branches())
        assert "Traceback" not in ran.stderr
        assert "\x1b" not in ran.stderr
        return Held(product=product, ran=ran, canaries=place / "canaries")

    return run


@pytest.fixture(scope="module")
def pushes(hold: Callable[[str], Held]) -> dict[str, str]:
    """All pushes, one after the other, in one session whose own work must then still come home."""
    cases = "\n".join(f"def case():\n    {body}\nrun({f'{kind}:{name}'!r}, case)" for kind, name, _, body in PUSHES)
    held = hold(python(cases) + "echo good > good; git reset -q --soft HEAD\n")
    assert held.ran.result["problem"] == "", held.ran.stderr
    assert held.product.git("show", "shell/session-1:good") == "good"
    assert held.product.git("rev-list", "--count", "main..shell/session-1") == "1"
    rows = [line.split() for line in held.ran.stderr.splitlines() if line.startswith("RESULT ")]
    return {row[1]: row[2] for row in rows}


@pytest.mark.parametrize(("kind", "name", "expected"), [case[:3] for case in PUSHES])
def test_push(pushes: dict[str, str], kind: str, name: str, expected: str) -> None:
    assert pushes[f"{kind}:{name}"] == expected


@pytest.fixture(scope="module")
def trapped(hold: Callable[[str], Held]) -> Held:
    """All traps that can stand beside each other, in one session."""
    return hold(
        "\n".join(
            f"( {body}\n) >/dev/null 2>&1; echo {name} > returned-{name}" for _, name, alone, body in TRAPS if not alone
        )
    )


@pytest.mark.parametrize(("kind", "name"), [case[:2] for case in TRAPS if not case[2]])
def test_trap(trapped: Held, kind: str, name: str) -> None:
    assert trapped.ran.result["problem"] == "", trapped.ran.stderr
    assert trapped.product.git("show", f"{trapped.ran.result['branch']}:returned-{name}") == name


@pytest.mark.parametrize(("kind", "name", "body"), [(case[0], case[1], case[3]) for case in TRAPS if case[2]])
def test_trap_alone(hold: Callable[[str], Held], kind: str, name: str, body: str) -> None:
    held = hold(f"( {body}\n) >/dev/null 2>&1; echo {name} > returned-{name}")
    assert held.ran.result["problem"] == "", held.ran.stderr
    assert held.product.git("show", f"{held.ran.result['branch']}:returned-{name}") == name


@pytest.mark.parametrize(("kind", "name", "code", "body"), KEPT)
def test_kept(hold: Callable[[str], Held], kind: str, name: str, code: str, body: str) -> None:
    held = hold(python(body))
    assert f"[{code}]" in held.ran.result["problem"], (held.ran.result, held.ran.stderr)
    assert held.product.git("rev-list", "--count", "--all") == "1"
    assert list(held.product.sessions.iterdir()), "the work is kept"
