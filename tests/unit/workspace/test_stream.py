"""Git's lists, piece by piece."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from containai.errors import WorkspaceError
from containai.host.clock import monotonic_s
from containai.workspace.stream import stream_git
from tests.support.git import commit, make_repository

pytestmark = pytest.mark.user


def records(git_dir: Path, *words: str) -> list[bytes]:
    return list(stream_git(words, git_dir=git_dir, separator=b"\0", deadline_s=monotonic_s() + 30.0))


def test_every_record_comes_once(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "host")
    commit(repository, "more", **{f"f{n}__txt": "x" for n in range(300)})
    names = records(repository / ".git", "ls-tree", "-r", "-z", "--name-only", "HEAD")
    assert len(names) == len(set(names)) > 300
    assert b"" not in names


def test_a_failure_of_git_is_one(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "host")
    with pytest.raises(WorkspaceError) as caught:
        records(repository / ".git", "ls-tree", "-z", "no-such-commit")
    assert caught.value.code == "workspace.git-failed"
    assert "no-such-commit" in caught.value.details


def test_git_has_no_more_time_than_it_is_given(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "host")
    readable, writable = os.pipe()  # nothing ever comes: git waits for it
    try:
        stream = stream_git(
            ["cat-file", "--batch"],
            git_dir=repository / ".git",
            separator=b"\0",
            deadline_s=monotonic_s() + 0.2,
            stdin=readable,
        )
        with pytest.raises(WorkspaceError) as caught:
            list(stream)
    finally:
        os.close(readable)
        os.close(writable)
    assert caught.value.code == "workspace.git-slow"
