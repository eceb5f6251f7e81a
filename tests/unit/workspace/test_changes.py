"""Uncommitted changes as one commit, where the caller and the repository's owner are not the same."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest

from containai.errors import WorkspaceError
from containai.workspace import changes
from containai.workspace.changes import take_changes
from containai.workspace.source import resolve_source
from tests.support.git import git, make_repository
from tests.support.users import OrdinaryUser


@pytest.mark.needs("root")
def test_root_takes_changes_along_as_the_owner(tmp_path: Path, ordinary: OrdinaryUser) -> None:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.stat().st_mode & 0o001 == 0:
            parent.chmod(parent.stat().st_mode | 0o011)
    repository = make_repository(tmp_path / "host")
    source = resolve_source(repository)
    (repository / "new").write_text("new\n")
    (repository / ".git" / "info" / "exclude").write_text("private\n")
    (repository / "private").write_text("private\n")
    subprocess.run(["chown", "-R", f"{ordinary.uid}:{ordinary.gid}", repository], check=True)
    taken = take_changes(source, {})
    listed = subprocess.run(
        ["git", f"--git-dir={repository}/.git", "ls-tree", "--name-only", taken.base_commit],
        capture_output=True, check=True, timeout=30,
    )  # fmt: skip
    assert listed.stdout.split() == [b"a.txt", b"b.txt", b"new"]
    owners = {path.stat().st_uid for path in (repository / ".git").rglob("*")}
    assert owners == {ordinary.uid}


@pytest.mark.user
def test_all_files_together_have_a_limit_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = make_repository(tmp_path / "host")
    for name in ("one", "two"):
        (repository / name).write_bytes(b"x" * 600)
    source = resolve_source(repository)
    monkeypatch.setattr(changes, "MAX_CHANGES_BYTES", 1000)
    with pytest.raises(WorkspaceError) as caught:
        take_changes(source, {})
    assert caught.value.code == "workspace.changes-size"
    assert "two" in caught.value.summary


@pytest.mark.user
def test_a_filter_of_the_users_applies_and_a_hook_does_not(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "host")
    git(repository, "config", "filter.shout.clean", "tr a-z A-Z")
    (repository / ".gitattributes").write_text("*.loud filter=shout\n")
    (repository / "x.loud").write_text("quiet\n")
    hook = repository / ".git" / "hooks" / "post-index-change"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    taken = take_changes(resolve_source(repository), {})
    assert git(repository, "show", f"{taken.base_commit}:x.loud") == "QUIET"
    assert not (tmp_path / "ran").exists()


@pytest.mark.user
def test_nothing_is_left_of_the_copied_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = make_repository(tmp_path / "host")
    (repository / "new").write_text("new\n")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    assert take_changes(resolve_source(repository), {}).base_commit != git(repository, "rev-parse", "HEAD")
    assert list(temporary.iterdir()) == []
    git(repository, "update-index", "--split-index")
    (repository / "b.txt").unlink()
    before = sorted(path.name for path in (repository / ".git").iterdir())
    taken = take_changes(resolve_source(repository), {})
    assert git(repository, "ls-tree", "--name-only", taken.base_commit).split() == ["a.txt", "new"]
    assert sorted(path.name for path in (repository / ".git").iterdir()) == before
