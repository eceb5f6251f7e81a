"""What the user is told about what the copy leaves out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from containai.host.clock import monotonic_s
from containai.workspace.notes import left_out_notes, start_left_out_notes
from containai.workspace.source import resolve_source
from tests.support.git import commit, fingerprint, git, make_repository

pytestmark = pytest.mark.user


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "host")


def test_a_clean_repository_has_none(repository: Path) -> None:
    assert left_out_notes(resolve_source(repository)) == ()


def test_uncommitted_changes_are_counted_and_the_index_is_left_alone(repository: Path) -> None:
    (repository / "a.txt").write_text("changed\n")
    (repository / "b.txt").unlink()
    (repository / "new\nname").write_text("new\n")
    os.utime(repository / ".git" / "index", (1, 1))
    before = fingerprint(repository)
    (note,) = left_out_notes(resolve_source(repository))
    assert "2 changed files and 1 untracked" in note
    assert fingerprint(repository) == before


def test_a_linked_worktree_is_compared_with_its_own_index(repository: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    git(repository, "worktree", "add", "--quiet", "--detach", other, "HEAD~1")
    assert left_out_notes(resolve_source(other)) == ()
    (other / "a.txt").write_text("changed\n")
    (note,) = left_out_notes(resolve_source(other))
    assert "1 changed file" in note


def test_submodules(repository: Path, tmp_path: Path) -> None:
    inner = make_repository(tmp_path / "inner")
    for name in ("sub", "sub two"):
        git(repository, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), name)
    commit(repository)
    (note,) = left_out_notes(resolve_source(repository))
    assert note == "2 submodules are left empty in the copy (see --submodules)"


def test_lfs(repository: Path) -> None:
    (repository / "deep").mkdir()
    (repository / "deep" / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    commit(repository)
    (note,) = left_out_notes(resolve_source(repository))
    assert "LFS" in note


def test_a_comparison_that_takes_too_long_is_ended_and_said(repository: Path, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    slow.write_text(f"#!/bin/sh\necho $$ > '{tmp_path}/pid'\nexec sleep 30\n")
    slow.chmod(0o755)
    git(repository, "config", "filter.slow.clean", str(slow))
    (repository / ".gitattributes").write_text("a.txt filter=slow\n")
    (repository / "a.txt").write_text("eno\n")  # same size: git has to look inside
    pending = start_left_out_notes(resolve_source(repository))
    started = monotonic_s()
    notes = pending.collect(started + 0.5)
    assert monotonic_s() - started < 10
    assert any("could not be compared in time" in note for note in notes)
    assert pending.changes is not None
    assert pending.changes.child.poll() is not None
    filter_pid = int((tmp_path / "pid").read_text())
    deadline = monotonic_s() + 5
    while Path(f"/proc/{filter_pid}/cmdline").exists() and b"sleep" in Path(f"/proc/{filter_pid}/cmdline").read_bytes():
        assert monotonic_s() < deadline, "the filter outlived the comparison"
