"""What a host git is allowed to inherit, read and run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from containai.errors import WorkspaceError
from containai.host.clock import monotonic_s
from containai.host.process import spawn
from containai.workspace import git as host_git
from containai.workspace.git import await_exit, git_argv, run_git, run_git_as_user
from tests.support.git import git, make_repository
from tests.support.users import OrdinaryUser

pytestmark = pytest.mark.user


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "host")


def test_variables_of_the_caller_do_not_reach_git(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "containai.canary")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "leaked")
    seen = run_git(["config", "--get", "containai.canary"], git_dir=repository / ".git")
    assert (seen.status, seen.stdout) == (1, b"")


def test_the_users_own_configuration_is_not_read(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".gitconfig").write_text("[containai]\n\tcanary = leaked\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    asked = ["config", "--get", "containai.canary"]
    assert run_git(asked, git_dir=repository / ".git").stdout == b""
    # The other way round: the first look does read it, or safe.directory would not work.
    assert run_git_as_user(asked, repository, {"HOME": str(tmp_path)}).stdout == b"leaked\n"


@pytest.mark.parametrize("hooks", ["hooks", "elsewhere"])
def test_no_hook_runs(repository: Path, tmp_path: Path, hooks: str) -> None:
    witness = tmp_path / "witness"
    folder = repository / ".git" / hooks
    folder.mkdir(exist_ok=True)
    hook = folder / "reference-transaction"
    hook.write_text(f"#!/bin/sh\ntouch '{witness}'\n")
    hook.chmod(0o755)
    git(repository, "config", "core.hooksPath", str(folder))
    git(repository, "branch", "by-the-user")
    assert witness.exists(), "the hook does not work, so this test would prove nothing"
    witness.unlink()
    made = run_git(["update-ref", "refs/heads/by-us", "HEAD"], git_dir=repository / ".git")
    assert made.status == 0
    assert not witness.exists()


def test_no_file_system_monitor_runs(repository: Path, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    monitor = tmp_path / "monitor"
    monitor.write_text(f"#!/bin/sh\ntouch '{witness}'\n")
    monitor.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(monitor))
    git(repository, "status", "--porcelain")
    assert witness.exists(), "the monitor does not work, so this test would prove nothing"
    witness.unlink()
    argv = git_argv(["status", "--porcelain"], git_dir=repository / ".git", work_tree=repository)
    subprocess.run(argv, env=dict(host_git.HOST_ENVIRONMENT), check=True, capture_output=True, timeout=30)
    assert not witness.exists()


def test_git_starts_in_the_root_directory(repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # A directory that looks like a repository, with a configuration of its own, as an agent could make one.
    trap = make_repository(tmp_path / "trap")
    monkeypatch.chdir(trap)
    where = run_git(["-c", "alias.where=!pwd", "where"], git_dir=repository / ".git")
    assert where.stdout == b"/\n"


def test_replace_refs_are_not_followed(repository: Path) -> None:
    git(repository, "replace", "HEAD", "HEAD~1")
    subject = ["log", "-1", "--format=%s", "HEAD"]
    assert git(repository, *subject) == "first"
    assert run_git(subject, git_dir=repository / ".git").stdout == b"second\n"


def test_grafts_are_not_followed(repository: Path) -> None:
    (repository / ".git" / "info").mkdir(exist_ok=True)
    (repository / ".git" / "info" / "grafts").write_text(git(repository, "rev-parse", "HEAD") + "\n")
    count = ["rev-list", "--count", "HEAD"]
    assert git(repository, *count) == "1"
    seen = run_git(count, git_dir=repository / ".git")
    assert (seen.stdout, seen.said) == (b"2\n", "")


def test_missing_git_has_a_remedy(repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(host_git, "HOST_ENVIRONMENT", {"PATH": str(tmp_path)})
    with pytest.raises(WorkspaceError) as caught:
        run_git(["version"], git_dir=repository / ".git")
    assert caught.value.code == "workspace.git-missing"
    assert "apt-get install git" in caught.value.remedy


def test_await_exit_gives_up_at_the_deadline_and_at_a_wake_up() -> None:
    read, write = os.pipe()
    child = spawn(["sleep", "30"])
    try:
        started = monotonic_s()
        assert await_exit(child, started + 0.05) is None
        os.write(write, b"x")
        assert await_exit(child, started + 20, read) is None
        assert monotonic_s() - started < 5
    finally:
        child.kill()
        assert await_exit(child, monotonic_s() + 10) == -9
        os.close(read)
        os.close(write)


@pytest.mark.needs("root")
def test_root_writes_as_the_owner(tmp_path: Path, ordinary: OrdinaryUser) -> None:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.stat().st_mode & 0o001 == 0:
            parent.chmod(parent.stat().st_mode | 0o011)
    repository = make_repository(tmp_path / "host")
    subprocess.run(["chown", "-R", f"{ordinary.uid}:{ordinary.gid}", repository], check=True)
    assert run_git(["update-ref", "refs/heads/new/branch", "refs/heads/main"], git_dir=repository / ".git").status == 0
    hashed = run_git(["hash-object", "-w", "--stdin"], git_dir=repository / ".git", stdin=b"content\n").stdout.decode()
    written = repository / ".git" / "objects" / hashed[:2] / hashed[2:].strip()
    owners = {path.stat().st_uid for path in (repository / ".git" / "refs/heads/new", written, written.parent)}
    assert owners == {ordinary.uid}


@pytest.mark.needs("root")
def test_root_stays_root_where_the_owner_cannot_walk(tmp_path: Path, ordinary: OrdinaryUser) -> None:
    private = tmp_path / "private"
    repository = make_repository(private / "host")
    subprocess.run(["chown", "-R", f"{ordinary.uid}:{ordinary.gid}", repository], check=True)
    private.chmod(0o700)
    assert run_git(["update-ref", "refs/heads/new", "refs/heads/main"], git_dir=repository / ".git").status == 0
