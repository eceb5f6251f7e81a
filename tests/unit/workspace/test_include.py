"""Copying of ignored files: nothing outside of the repository is read, whatever happens to it meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from containai.errors import WorkspaceError
from containai.plan.model import Source
from containai.workspace import include
from containai.workspace.include import copy_included

pytestmark = pytest.mark.user


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A repository's top level, a workspace, and something outside of both."""
    for name in ("top", "workspace/.git/info", "outside"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "outside" / "secret").write_text("outside\n")
    return tmp_path / "top", tmp_path / "workspace", tmp_path / "outside"


def source(top: Path, *paths: str) -> Source:
    return Source(toplevel=top, git_dir=top / ".git", base_commit="0" * 40, described="main", included=paths)


@pytest.mark.parametrize("swapped", ["folder", "file", "target"])
def test_a_path_that_became_a_link_after_the_check_is_not_followed(
    places: tuple[Path, Path, Path], swapped: str
) -> None:
    top, workspace, outside = places
    if swapped == "folder":
        (top / "a").symlink_to(outside)
    elif swapped == "file":
        (top / "a").mkdir()
        (top / "a" / "secret").symlink_to(outside / "secret")
    else:
        (top / "a").mkdir()
        (top / "a" / "secret").write_text("mine\n")
        (workspace / "a").symlink_to(outside)
    if swapped == "file":
        (note,) = copy_included(source(top, "a/secret"), workspace, None)
        assert "not included: a/secret" in note
    else:
        with pytest.raises(WorkspaceError) as caught:
            copy_included(source(top, "a/secret"), workspace, None)
        assert caught.value.code == "workspace.include"
    assert not (workspace / "a" / "secret").exists() or swapped == "target"
    assert (outside / "secret").read_text() == "outside\n"


def test_a_pipe_does_not_make_the_launch_wait(places: tuple[Path, Path, Path]) -> None:
    top, workspace, _ = places
    os.mkfifo(top / "pipe")
    (note,) = copy_included(source(top, "pipe"), workspace, None)
    assert "not included: pipe" in note


def test_too_much_is_refused(places: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    top, workspace, _ = places
    (top / "big").write_bytes(b"x" * 3000)
    for name, value in (("MAX_INCLUDED_BYTES", 2999), ("MAX_INCLUDED_FILES", 0)):
        with monkeypatch.context() as patched:
            patched.setattr(include, name, value)
            with pytest.raises(WorkspaceError) as caught:
                copy_included(source(top, "big"), workspace, None)
            assert caught.value.code == "workspace.include-size"
        (workspace / "big").unlink(missing_ok=True)


def test_rules_fit_exactly_the_named_path(places: tuple[Path, Path, Path]) -> None:
    top, workspace, _ = places
    for name in ("a*", "b?[c]", "d\\e", "f  ", "!g", "#h"):
        (top / name).write_text("x\n")
    copy_included(source(top, "a*", "b?[c]", "d\\e", "f  ", "!g", "#h"), workspace, None)
    lines = (workspace / ".git/info/exclude").read_text().splitlines()
    assert lines == ["/a\\*", "/b\\?\\[c\\]", "/d\\\\e", "/f\\ \\ ", "/!g", "/#h"]
