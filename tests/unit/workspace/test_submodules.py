"""Which submodules are given: the names and paths of ``.gitmodules`` are the repository's authors'."""

from __future__ import annotations

from pathlib import Path

import pytest

from containai.workspace.source import resolve_source
from containai.workspace.submodules import find_submodules
from tests.support.git import commit, git, make_repository

pytestmark = pytest.mark.user


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with the submodule ``inner``, checked out."""
    make_repository(tmp_path / "library")
    path = make_repository(tmp_path / "host")
    git(path, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(tmp_path / "library"), "inner")
    commit(path)
    return path


def test_a_submodule_that_is_checked_out_is_found(repository: Path) -> None:
    (found,) = find_submodules(resolve_source(repository)).submodules
    assert (found.name, found.path) == ("inner", "inner")
    assert found.commit == git(repository, "rev-parse", "HEAD:inner")


@pytest.mark.parametrize(
    "name", ["inner/../inner", "./inner", "inner/", "inner//", "../modules/inner", "-inner", "in\x1bner"]
)
def test_a_name_that_git_would_refuse_is_passed_over(repository: Path, name: str) -> None:
    modules = repository / ".git" / "modules"
    if not (modules / name).exists():
        (modules / "inner").rename(modules / name)
    (repository / ".gitmodules").unlink()
    git(repository, "config", "-f", ".gitmodules", f"submodule.{name}.path", "inner")
    git(repository, "add", ".gitmodules")
    git(repository, "commit", "-qm", "renamed")
    assert (modules / name / "objects").is_dir()
    assert find_submodules(resolve_source(repository)).submodules == ()


def test_one_inside_of_another_is_passed_over(repository: Path) -> None:
    git(repository, "mv", "inner", "first")
    inside = repository / ".git" / "modules" / "inner" / "objects" / "deep"
    inside.mkdir()
    (inside / "objects").symlink_to("../../objects")
    recorded = git(repository, "rev-parse", ":first")
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{recorded},second")
    git(repository, "config", "-f", ".gitmodules", "submodule.inner/objects/deep.path", "second")
    git(repository, "add", ".gitmodules")
    git(repository, "commit", "-qm", "nested")
    assert [found.path for found in find_submodules(resolve_source(repository)).submodules] == ["first"]
