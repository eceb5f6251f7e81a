"""Under which other names a path is reached."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from containai.review import reach as reach_module
from containai.review.model import Change
from containai.review.reach import Reach, _behind_link, _ignored, find_links
from tests.support.git import commit, git, make_repository


def names(links: dict[bytes, bytes], path: bytes) -> set[bytes]:
    return set(Reach(links=find_links(links)).names(path))


@pytest.mark.parametrize(
    ("links", "path", "wanted"),
    [
        ({b"CLAUDE.md": b"docs/ai.md"}, b"docs/ai.md", {b"CLAUDE.md"}),
        ({b"CLAUDE.md": b"./docs//ai.md"}, b"docs/ai.md", {b"CLAUDE.md"}),
        ({b"a/CLAUDE.md": b"../docs/ai.md"}, b"docs/ai.md", {b"a/CLAUDE.md"}),
        ({b".vscode": b"tools/editor"}, b"tools/editor/tasks.json", {b".vscode/tasks.json"}),
        ({b".vscode": b"tools"}, b"toolsets/x", set()),
        ({b"one": b"two", b"two": b"three"}, b"three", {b"one", b"two"}),
        # Through a link in the middle of the target, and through one in the middle of the link's own path.
        ({b"one": b"dir/x", b"dir": b"real"}, b"real/x", {b"one", b"dir/x"}),
        ({b"real/one": b"x", b"dir": b"real"}, b"real/x", {b"real/one", b"dir/one", b"dir/x"}),
        ({b"here": b"."}, b"f", {b"here/f"}),
        ({b"a": b".", b"b": b"."}, b"f", {b"a/f", b"b/f", b"a/b/f", b"b/a/f"}),
        # Out of the tree, in a circle, to itself: nowhere.
        ({b"out": b"../x", b"abs": b"/x"}, b"x", set()),
        ({b"a": b"b", b"b": b"a"}, b"a", set()),
    ],
)
def test_links_lead_there(links: dict[bytes, bytes], path: bytes, wanted: set[bytes]) -> None:
    assert names(links, path) == wanted


def test_more_links_than_are_followed_is_itself_a_trigger() -> None:
    reach = Reach(links=find_links({b"l%d" % n: b"f" for n in range(100)}))
    change = Change(path=b"f", old_mode="100644", new_mode="100644", old="1" * 40, new="2" * 40)
    assert [finding.kind for finding in reach.check(change)] == ["symlink"]


def test_a_setting_holds_for_what_is_below_its_path() -> None:
    reach = Reach(settings=((b"tools/hooks", "core.hookspath"), (b"filter.py", "filter.x.clean")))

    def found(path: bytes) -> list[str]:
        change = Change(path=path, old_mode="100644", new_mode="100644", old="1" * 40, new="2" * 40)
        return [finding.detail for finding in reach.check(change)]

    assert found(b"tools/hooks/pre-commit") == ["core.hookspath"]
    assert found(b"filter.py") == ["filter.x.clean"]
    assert found(b"tools/hooksmith") == found(b"a/filter.py") == []


def test_what_stands_behind_a_link_of_the_working_tree(tmp_path: Path) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    os.symlink("real", tmp_path / "link")
    assert _behind_link(tmp_path, b"link/f")
    assert _behind_link(tmp_path, b"link/deep/f")
    assert not any(_behind_link(tmp_path, path) for path in (b"link", b"real/deep/f", b"real/none/f", b"none/link/f"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    made = make_repository(tmp_path / "host")
    commit(made, "rules", **{".gitignore": "*.local\n"})
    return made


def ignored(repository: Path, *paths: bytes) -> set[bytes]:
    return set(_ignored(repository, repository / ".git", {}, paths))


@pytest.mark.parametrize("order", [b":!x", b":(bad)x", b":(exclude)x", b":/x"])
def test_a_name_that_is_an_order_to_git_hides_no_ignored_path(repository: Path, order: bytes) -> None:
    assert ignored(repository, order, b"a.local", b"b") == {b"a.local"}
    assert ignored(repository, order + b".local") == {order + b".local"}


def test_a_path_in_the_place_of_a_submodule_hides_no_ignored_path(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},sub")
    (repository / "sub").mkdir()
    asked = (b"a", b"sub/x", b"b.local", b"c", b"sub/y/z", b"d.local")
    assert ignored(repository, *asked) == {b"sub/x", b"b.local", b"sub/y/z", b"d.local"}
    monkeypatch.setattr(reach_module, "_MOST_FAILURES", 0)
    assert ignored(repository, *asked) == set(asked), "what git cannot be asked about speaks against it"
