"""Where programs really are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from containai.engine.embedded.denied import deny_programs
from containai.host.programs import find_programs
from containai.render.landlock import EXECUTE, READ_DIR, READ_FILE, RUN, LandlockRules

pytestmark = pytest.mark.user


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("usr/bin/one", "usr/bin/two", "usr/lib/deep/three", "home/one"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "usr/bin/link").symlink_to("../lib/deep/three")
    os.link(tmp_path / "usr/bin/two", tmp_path / "usr/lib/deep/second")
    return tmp_path


def found(tree: Path, *programs: str) -> set[str]:
    names = find_programs(programs, f"{tree}/home:{tree}/usr/bin", [f"{tree}/usr"])
    return {os.path.relpath(name, tree) for name in names.paths}


def test_names_links_and_paths_lead_to_files_in_the_trees(tree: Path) -> None:
    assert found(tree, "one") == {"usr/bin/one"}  # not the one at home: that is no tree of the container's
    assert found(tree, "link") == {"usr/lib/deep/three"}
    assert found(tree, f"{tree}/usr/bin/link") == {"usr/lib/deep/three"}
    assert found(tree, "none", f"{tree}/usr/none", "bin") == set()


def test_what_is_nowhere_is_named(tree: Path) -> None:
    programs = ("one", "none", f"{tree}/usr/none", f"{tree}/usr/bin/two", f"{tree}/home/one")
    assert find_programs(programs, f"{tree}/home:{tree}/usr/bin", [f"{tree}/usr"]).missing == (
        "none",
        f"{tree}/usr/none",
        f"{tree}/home/one",
    )


def test_every_hard_link_is_found(tree: Path) -> None:
    assert found(tree, "two") == {"usr/bin/two", "usr/lib/deep/second"}


def test_rules_are_taken_apart_around_what_is_denied(tree: Path) -> None:
    rules = LandlockRules(handled_fs=RUN, handled_net=0, scoped=0, paths=((f"{tree}/usr", RUN), (f"{tree}/home", RUN)))
    denied = frozenset({f"{tree}/usr/bin/two", f"{tree}/usr/lib/deep/second"})
    paths = {os.path.relpath(path, tree): rights for path, rights in deny_programs(rules, denied).paths}
    assert paths == {
        "usr": READ_DIR,
        "usr/bin": READ_DIR,
        "usr/bin/one": EXECUTE | READ_FILE,
        "usr/lib": READ_DIR,
        "usr/lib/deep": READ_DIR,
        "usr/lib/deep/three": EXECUTE | READ_FILE,
        "home": RUN,
    }
    assert deny_programs(rules, frozenset()) == rules
