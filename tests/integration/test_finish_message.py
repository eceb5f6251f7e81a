"""The message that an agent offers for the last commit, and what is none."""

from __future__ import annotations

import os

import pytest

from tests.support.git import git
from tests.support.returning import Session, reachable_files

pytestmark = pytest.mark.user


def come_home(session: Session) -> str:
    """Finish and return; the last commit."""
    report = session.finish()
    assert report.failed == "", session.finish_said
    assert report.committed == 1
    return session.apply().new


OFFERED = ".git/CONTAINAI_COMMIT_MESSAGE"


def test_the_agents_message_is_taken_with_our_trailers(session: Session) -> None:
    (session.workspace / "new.txt").write_text("new\n")
    (session.workspace / OFFERED).write_text(
        "Größe \x1b[31mof\x1b[0m \N{RIGHT-TO-LEFT OVERRIDE}things\nsecond\n\nContainai-Session: forged\n---\n"
        f"# {'-' * 24} >8 {'-' * 24}\nlast\n"
    )
    new = come_home(session)
    message = git(session.host, "log", "-1", "--format=%B", new).strip()
    assert message == (
        f"Größe [31mof[0m things\n\nsecond\n\nlast\n\nContainai-Session: 0123456789ab\nContainai-Config: {'c' * 64}"
    )
    for reader in (["log", "-1", "--format=%(trailers)", new], ["interpret-trailers", "--parse"]):
        read = git(session.host, *reader, stdin=message.encode() + b"\n").strip().splitlines()
        assert read == ["Containai-Session: 0123456789ab", f"Containai-Config: {'c' * 64}"]
    assert "CONTAINAI_COMMIT_MESSAGE" not in reachable_files(session.host, new)


@pytest.mark.parametrize("kind", ["empty", "blank", "link", "pipe", "directory", "unreadable", "git-link"])
def test_what_is_no_message_is_not_taken(session: Session, kind: str) -> None:
    (session.workspace / "new.txt").write_text("new\n")
    offered = session.workspace / OFFERED
    secret = session.place / "secret"
    secret.write_text("secret of somebody else\n")
    match kind:
        case "empty":
            offered.write_text("")
        case "blank":
            offered.write_text("\n \x1b\N{ZERO WIDTH SPACE}\n---\nContainai-Config: x\n")
        case "link":
            offered.symlink_to(secret)
        case "pipe":
            os.mkfifo(offered)
        case "directory":
            offered.mkdir()
        case "unreadable":
            offered.write_text("unreadable")
            offered.chmod(0 if os.geteuid() else 0o644)
            if not os.geteuid():
                offered.write_text("")  # root can read everything
        case "git-link":
            (session.workspace / ".git").rename(session.place / "theirs")
            (session.place / "theirs" / "CONTAINAI_COMMIT_MESSAGE").write_text("from elsewhere\n")
            (session.workspace / ".git").symlink_to(session.place / "theirs")
    new = come_home(session)
    assert git(session.host, "log", "-1", "--format=%s", new) == "Add new.txt"


def test_a_huge_message_is_read_at_its_beginning_only(session: Session) -> None:
    (session.workspace / "new.txt").write_text("new\n")
    with open(session.workspace / OFFERED, "wb") as file:
        file.write(b"A subject\n\n" + b"x" * 200 + b"\n")
        file.truncate(1 << 36)
    new = come_home(session)
    body = git(session.host, "log", "-1", "--format=%B", new).splitlines()
    assert body[:3] == ["A subject", "", "x" * 120]
    assert len(body) < 10
