"""That the self-test can fail: each attack gets through where its protections are taken away (tests/support/proofs.py)."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from containai.cli.arguments import build_parser
from containai.provenance import verify
from containai.selftest import judge
from containai.selftest.catalogue import load_catalogue
from tests.support.attacked import attacked, broken, build_unguarded, ground_of
from tests.support.features import has
from tests.support.internet import PUBLIC_V4, Internet, internet
from tests.support.product import Product
from tests.support.proofs import BY_THE_JUDGE, EXCEPTIONS, OPEN_NETWORK, RUNS, proven, unproven
from tests.support.weak_machine import BARE as BARE_CONTAINER

ROOT = Path(__file__).resolve().parents[2]


def test_every_attack_has_a_run_that_it_gets_through_or_a_reason() -> None:
    assert proven() | set(EXCEPTIONS) == set(load_catalogue())
    assert not proven() & set(EXCEPTIONS)
    assert len(EXCEPTIONS) < 10


def test_the_documentation_counts_what_is_proven() -> None:
    text = (ROOT / "docs/selftest.md").read_text()
    said = re.search(r"(\d+) of the (\d+) attacks have been seen to succeed", text)
    assert said is not None
    assert tuple(map(int, said.groups())) == (len(proven()), len(load_catalogue()))
    rows = {name: int(number) for name, number in re.findall(r"^\| ([a-z-]+) \|.*\| (\d+) \|$", text, re.MULTILINE)}
    assert {name: rows.pop(name) for name in RUNS} == {name: len(run.proven) for name, run in RUNS.items()}
    assert rows == {"no-session": len(BY_THE_JUDGE)}
    assert all(f"- `{name}`: " in text for name in EXCEPTIONS)


# Where things are kept, how to print, who the user is: nothing that a check could ask.
VARIABLES = {
    *("HOME", "PATH", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "TERM", "NO_COLOR"),
    *("DOCKER_HOST", "CONTAINAI_DEBUG"),
}


def test_no_variable_and_no_option_takes_a_protection_away() -> None:
    """The package reads a few variables, in one file; the self-test has no option but where and how to tell."""
    read, readers = set(), set()
    for path in (ROOT / "src/containai").rglob("*.py"):
        if "data" in path.relative_to(ROOT / "src/containai").parts:  # runs inside, or is a sample
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv", "getenvb"}:
                readers.add(path.name)
            if (
                path.name == "environ.py"
                and isinstance(node, ast.Constant)
                and re.fullmatch("[A-Z_]+", str(node.value))
            ):
                read.add(node.value)
    assert readers == {"environ.py"}
    assert read == VARIABLES
    assert not any("getenv" in source.read_text() for source in (ROOT / "native").rglob("*.c"))
    parser = build_parser()
    with pytest.raises(SystemExit), contextlib.redirect_stdout(io.StringIO()) as told:
        parser.parse_args(["selftest", "--help"])
    options = set(re.findall(r"--[a-z-]+", told.getvalue()))
    assert options == {"--help", "--engine", "--json", "--verbose", "--list"}


@pytest.mark.skipif(has("throw-away-machine"), reason="this machine is one")
def test_without_a_container_nothing_runs_on_a_machine_that_is_kept(tmp_path: Path) -> None:
    made = tmp_path / "made"
    ran = subprocess.run(
        [BARE_CONTAINER, "--args", "0", "--", "touch", made], capture_output=True, timeout=20, check=False
    )
    assert b"not one to throw away" in ran.stderr
    assert not made.exists()


@pytest.fixture
def small_internet() -> Iterator[Internet]:
    """One in which every name has an address, and at every address somebody answers."""

    class AnyName(dict[str, Any]):
        def get(self, _name: str, _default: object = None) -> list[str]:
            return [PUBLIC_V4]

    with internet() as made:
        made.zone = AnyName()
        yield made


@pytest.mark.slow
@pytest.mark.needs("root", "cc", "squid", "i386")
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", [n for n, run in RUNS.items() if not run.bare and run is not OPEN_NETWORK])
def test_without_protections_attacks_get_through(product: Product, tmp_path: Path, name: str) -> None:
    run = RUNS[name]
    ground = ground_of(product, run.pieces, {"UNGUARDED": str(build_unguarded(tmp_path))})
    assert unproven(run, broken(attacked(ground, run.sessions))) == {}


@pytest.mark.slow
@pytest.mark.needs("root", "squid")
@pytest.mark.timeout(240)
def test_in_an_open_network_attacks_get_through(product: Product, small_internet: Internet) -> None:
    ground = ground_of(product, OPEN_NETWORK.pieces)
    found = small_internet.proxy_side.run(lambda: attacked(ground, OPEN_NETWORK.sessions), timeout_s=200)
    assert unproven(OPEN_NETWORK, broken(found)) == {}


def test_without_the_checks_of_a_log_a_forged_one_passes(product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "find_break", lambda _: None)
    monkeypatch.setattr(verify, "check_log", lambda *_: "not looked at")
    assert set(broken(attacked(ground_of(product, ()), ("first",), ("evidence",)))) == BY_THE_JUDGE
