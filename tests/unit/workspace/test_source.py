"""Which repositories can be a source, how they are described, and the code of each refusal."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from containai.errors import WorkspaceError
from containai.workspace import source as source_module
from containai.workspace.source import SHALLOW_DEPTH, resolve_source
from tests.support.git import commit, fingerprint, git, make_repository
from tests.support.users import OrdinaryUser

pytestmark = pytest.mark.user


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "host")


def refusal(path: Path, **options: object) -> WorkspaceError:
    with pytest.raises(WorkspaceError) as caught:
        resolve_source(path, **options)  # type: ignore[arg-type]
    assert caught.value.exit_status == 125
    return caught.value


def test_a_branch(repository: Path) -> None:
    source = resolve_source(repository)
    assert source.toplevel == repository
    assert source.git_dir == repository / ".git"
    assert source.base_commit == git(repository, "rev-parse", "HEAD")
    assert source.described == "main"
    assert source.depth == 0


def test_from_a_subdirectory(repository: Path) -> None:
    inner = repository / "some" / "where"
    inner.mkdir(parents=True)
    assert resolve_source(inner).toplevel == repository


def test_a_relative_path_through_a_link(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to("host")
    monkeypatch.chdir(tmp_path)
    assert resolve_source(Path("link")).toplevel == repository


def test_a_detached_head_is_described_by_its_commit(repository: Path) -> None:
    git(repository, "checkout", "--quiet", "--detach", "HEAD~1")
    source = resolve_source(repository)
    assert source.base_commit == git(repository, "rev-parse", "main~1")
    assert source.base_commit.startswith(source.described)


def test_a_linked_worktree(repository: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    git(repository, "worktree", "add", "--quiet", "-b", "topic", other)
    tip = commit(other, "third", c__txt="three\n")
    source = resolve_source(other)
    assert (source.toplevel, source.git_dir) == (other, repository / ".git")
    assert (source.base_commit, source.described) == (tip, "topic")


def test_a_submodule_is_a_repository_of_its_own(repository: Path, tmp_path: Path) -> None:
    inner = make_repository(tmp_path / "inner")
    git(repository, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "sub")
    source = resolve_source(repository / "sub")
    assert source.toplevel == repository / "sub"
    assert source.base_commit == git(inner, "rev-parse", "HEAD")


@pytest.mark.parametrize("name", [b"with space", b"line\nfeed\n", b'quo"te', b"\xff\xfe not text", b"--upload-pack=x"])
def test_odd_paths(tmp_path: Path, name: bytes) -> None:
    repository = make_repository(tmp_path / os.fsdecode(name))
    source = resolve_source(repository)
    assert source.toplevel == repository
    assert source.git_dir == repository / ".git"


def test_sha256(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "host", object_format="sha256")
    assert len(resolve_source(repository).base_commit) == 64


def test_a_dirty_tree_is_no_obstacle_and_nothing_is_written(repository: Path) -> None:
    (repository / "a.txt").write_text("changed\n")
    (repository / "new.txt").write_text("new\n")
    before = fingerprint(repository)
    resolve_source(repository)
    assert fingerprint(repository) == before


def test_large_repositories_are_given_shallow(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(repository, "gc", "--quiet")
    packed = sum(path.stat().st_size for path in repository.glob(".git/objects/pack/*.pack"))
    assert packed > 0
    monkeypatch.setattr(source_module, "WHOLE_HISTORY_BYTES", packed)
    assert resolve_source(repository).depth == SHALLOW_DEPTH
    monkeypatch.setattr(source_module, "WHOLE_HISTORY_BYTES", packed + 1)
    assert resolve_source(repository).depth == 0


def test_borrowed_objects_count(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(repository, "gc", "--quiet")
    git(tmp_path, "clone", "--quiet", "--shared", repository, "borrower")
    monkeypatch.setattr(source_module, "WHOLE_HISTORY_BYTES", 10)
    assert resolve_source(tmp_path / "borrower").depth == SHALLOW_DEPTH


def test_partial_clones_are_given_shallow(repository: Path, tmp_path: Path) -> None:
    git(repository, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "--quiet", "--filter=blob:none", f"file://{repository}", "partial")
    assert resolve_source(tmp_path / "partial").depth == SHALLOW_DEPTH


def test_not_a_repository(tmp_path: Path) -> None:
    assert refusal(tmp_path).code == "workspace.not-a-repository"


@pytest.mark.parametrize("path", ["missing", "file", "nul\0byte"])
def test_not_a_directory(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_text("")
    assert refusal(tmp_path / path).code == "workspace.not-found"


def test_bare(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--bare", "bare.git")
    assert refusal(tmp_path / "bare.git").code == "workspace.bare"


def test_inside_the_git_directory(repository: Path) -> None:
    assert refusal(repository / ".git").code == "workspace.no-work-tree"


def test_unborn(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--initial-branch=main", "new")
    error = refusal(tmp_path / "new")
    assert error.code == "workspace.unborn"
    assert "main" in error.details


@pytest.mark.parametrize("logged", [True, False])
def test_a_branch_that_git_cannot_find_is_not_taken_for_one_without_a_commit(repository: Path, logged: bool) -> None:
    git(repository, "pack-refs", "--all")
    packed = repository / ".git" / "packed-refs"
    packed.write_text(packed.read_text().replace("\n", "\r\n"), newline="")
    if not logged:
        shutil.rmtree(repository / ".git" / "logs")
    assert refusal(repository).code == "workspace.corrupt-head"


def test_unborn_in_a_linked_worktree(repository: Path, tmp_path: Path) -> None:
    git(repository, "worktree", "add", "--quiet", "--detach", tmp_path / "other")
    git(tmp_path / "other", "checkout", "--quiet", "--orphan", "fresh")
    assert refusal(tmp_path / "other").code == "workspace.unborn"


@pytest.mark.parametrize("head", ["garbage", "", "0123456789012345678901234567890123456789"])
def test_corrupt_head(repository: Path, head: str) -> None:
    (repository / ".git" / "HEAD").write_text(head)
    assert refusal(repository).code == "workspace.corrupt-head"


def test_a_branch_that_points_nowhere(repository: Path) -> None:
    (repository / ".git" / "refs" / "heads" / "main").write_text("garbage\n")
    assert refusal(repository).code == "workspace.corrupt-head"


def test_a_commit_that_is_gone(repository: Path) -> None:
    tip = git(repository, "rev-parse", "HEAD")
    (repository / ".git" / "objects" / tip[:2] / tip[2:]).unlink()
    assert refusal(repository).code == "workspace.corrupt-head"


def test_git_never_runs_in_a_sessions_workspace(tmp_path: Path) -> None:
    workspace = make_repository(tmp_path / "state" / "sessions" / "0123" / "workspace")
    assert resolve_source(workspace).base_commit, (
        "a perfectly good repository, where it is not below the state directory"
    )
    assert refusal(workspace, state_dir=tmp_path / "state").code == "workspace.inside-session"


@pytest.mark.needs("root")
def test_somebody_elses_repository(repository: Path, tmp_path: Path, ordinary: OrdinaryUser) -> None:
    subprocess.run(["chown", "-R", f"{ordinary.uid}:{ordinary.gid}", repository], check=True)
    home = {"HOME": str(tmp_path)}
    error = refusal(repository, user=home)
    assert error.code == "workspace.dubious-ownership"
    assert error.remedy == (f"git config --global --add safe.directory {repository}",)
    # What the remedy says is what helps.
    subprocess.run(error.remedy[0].split(), env={**os.environ, **home}, check=True)
    assert resolve_source(repository, user=home).toplevel == repository
