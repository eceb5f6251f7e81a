"""The quarantine as git sees it."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from containai.errors import StateError
from containai.git_return.quarantine import create_quarantine, open_quarantine
from containai.workspace.source import resolve_source
from tests.support.git import commit, fingerprint, git, make_repository

pytestmark = pytest.mark.user


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
@pytest.mark.parametrize("name", [b"host", b"line\nfeed", b'"quoted\\', b"# no comment", b"\xff\xfe"])
def test_git_finds_a_sound_repository_with_one_ref(tmp_path: Path, name: bytes, object_format: str) -> None:
    host = make_repository(tmp_path / os.fsdecode(name), object_format=object_format)
    source = resolve_source(host)
    quarantine = create_quarantine(tmp_path / "return.git", source, "claude/session-1")
    listed = git(quarantine.path, "for-each-ref", "--format=%(refname) %(objectname)")
    assert listed == f"refs/heads/claude/session-1 {source.base_commit}"
    git(quarantine.path, "fsck", "--strict", "--connectivity-only")
    assert git(quarantine.path, "rev-list", "--count", "HEAD") == "2"
    assert quarantine.tip() == source.base_commit


@pytest.mark.parametrize("branch", ["claude/a#b;c", 'claude/a"b', "claude/é", "claude/deep/er/x"])
def test_the_branch_is_the_one_shown_ref(tmp_path: Path, branch: str) -> None:
    host = make_repository(tmp_path / "host")
    quarantine = create_quarantine(tmp_path / "return.git", resolve_source(host), branch)
    (quarantine.path / "refs" / "heads" / "other").write_text(f"{quarantine.base}\n")
    shown = git(tmp_path, "ls-remote", f"file://{quarantine.path}").splitlines()
    assert [line.split("\t")[1] for line in shown] == ["HEAD", f"refs/heads/{branch}"]


def test_a_shallow_host_repository(tmp_path: Path) -> None:
    host = make_repository(tmp_path / "host")
    for number in range(3):
        commit(host, f"more {number}")
    git(tmp_path, "clone", "--quiet", "--depth=2", f"file://{host}", "shallow")
    source = resolve_source(tmp_path / "shallow")
    quarantine = create_quarantine(tmp_path / "return.git", source, "claude/session-1")
    assert git(quarantine.path, "rev-list", "--count", "HEAD") == "2"


def test_a_host_repository_that_borrows_itself(tmp_path: Path) -> None:
    make_repository(tmp_path / "host")
    git(tmp_path, "clone", "--quiet", "--shared", "host", "borrower")
    quarantine = create_quarantine(tmp_path / "return.git", resolve_source(tmp_path / "borrower"), "claude/session-1")
    assert git(quarantine.path, "rev-list", "--count", "HEAD") == "2"


def test_only_its_owner_can_enter(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        quarantine = create_quarantine(
            tmp_path / "return.git", resolve_source(make_repository(tmp_path / "host")), "claude/session-1"
        )
    finally:
        os.umask(old)
    assert stat.S_IMODE(quarantine.path.stat().st_mode) == 0o700


def test_the_host_repository_is_not_touched(tmp_path: Path) -> None:
    host = make_repository(tmp_path / "host")
    source = resolve_source(host)
    before = fingerprint(host)
    create_quarantine(tmp_path / "return.git", source, "claude/session-1")
    assert fingerprint(host) == before


def test_it_is_opened_again_or_refused(tmp_path: Path) -> None:
    source = resolve_source(make_repository(tmp_path / "host"))
    made = create_quarantine(tmp_path / "return.git", source, "claude/session-1")
    assert open_quarantine(made.path, made.branch, made.base) == made
    with pytest.raises(StateError) as caught:
        open_quarantine(tmp_path / "elsewhere", made.branch, made.base)
    assert caught.value.code == "state.quarantine"
    with pytest.raises(StateError):
        create_quarantine(made.path, source, "claude/session-2")
    with pytest.raises(StateError):
        create_quarantine(tmp_path / "missing" / "x", replace(source, git_dir=Path("/nonexistent")), "c" * 300)
