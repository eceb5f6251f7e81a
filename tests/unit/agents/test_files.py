"""Which files of the user's an agent gets: those that its adapter names, whole, read-only, and only when he says so."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from containai.agents.load import load_adapter
from containai.agents.model import Adapter, HostFile, TextFile
from containai.agents.resolve import MAX_FILE_BYTES, resolve_files
from containai.errors import AgentError
from containai.plan.model import HOME, FileOrigin
from containai.policy.model import CredentialMode


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture
def adapter() -> Adapter:
    return replace(
        load_adapter("shell"),
        text_files=(TextFile(path=".zz.json", content="{}"), TextFile(path=".zz/conf", content="default")),
        host_files=(
            HostFile(path=".zz/auth", candidates=(".zz/auth", ".config/zz/auth"), secret=True),
            HostFile(path=".zz/conf", candidates=(".zz/conf",), secret=False),
        ),
    )


def test_files_are_the_user_s_where_he_has_them(adapter: Adapter, home: Path) -> None:
    for name in (".config/zz/auth", ".zz/conf", ".zz/other"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("secret")
    files = {file.target: file for file in resolve_files(adapter, home, CredentialMode.MOUNT)}
    assert set(files) == {HOME / ".zz/auth", HOME / ".zz/conf", HOME / ".zz.json"}
    credential = files[HOME / ".zz/auth"]
    assert (credential.origin, credential.content) == (FileOrigin.HOST, str(home / ".config/zz/auth"))
    assert credential.read_only
    assert files[HOME / ".zz/conf"].origin is FileOrigin.HOST
    assert not files[HOME / ".zz.json"].read_only
    assert "secret" not in repr(files), "contents are read at creation, and are no part of the plan"


def test_without_credentials_nothing_of_the_user_s_is_taken(adapter: Adapter, home: Path) -> None:
    (home / ".zz").mkdir()
    for name in ("auth", "conf"):
        (home / ".zz" / name).write_text("secret")
    files = {file.target: file for file in resolve_files(adapter, home, CredentialMode.NONE)}
    assert set(files) == {HOME / ".zz/conf", HOME / ".zz.json"}
    assert all(file.origin is FileOrigin.TEXT for file in files.values())


def test_the_first_candidate_wins(adapter: Adapter, home: Path) -> None:
    for name in (".zz/auth", ".config/zz/auth"):
        (home / name).parent.mkdir(parents=True)
        (home / name).write_text("x")
    files = resolve_files(adapter, home, CredentialMode.MOUNT)
    assert [file.content for file in files if file.target == HOME / ".zz/auth"] == [str(home / ".zz/auth")]


def test_a_directory_is_never_taken_for_a_file(adapter: Adapter, home: Path) -> None:
    (home / ".zz/auth").mkdir(parents=True)
    assert all(file.origin is FileOrigin.TEXT for file in resolve_files(adapter, home, CredentialMode.MOUNT))


def test_a_huge_file_is_refused(adapter: Adapter, home: Path) -> None:
    (home / ".zz").mkdir()
    with (home / ".zz/auth").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(AgentError) as raised:
        resolve_files(adapter, home, CredentialMode.MOUNT)
    assert raised.value.code == "agent.file"


@pytest.mark.user
def test_an_unreadable_file_is_named(adapter: Adapter, home: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root can read every file; the run as an ordinary user has this test")
    (home / ".zz").mkdir()
    (home / ".zz/auth").touch(mode=0)
    with pytest.raises(AgentError, match="auth"):
        resolve_files(adapter, home, CredentialMode.MOUNT)
