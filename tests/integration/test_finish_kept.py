"""What cannot come home is named and keeps the workspace; and no file of the agent's speaks in our name or takes hours."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from containai.workspace.scripts import finish_command
from tests.support import returning
from tests.support.git import commit, git, make_repository
from tests.support.returning import Session, open_session, reachable_files

ENDLESS = 1 << 40  # bytes: read one by one, they take days


def files(session: Session) -> list[str]:
    return reachable_files(session.host, session.apply().new)


def endless(path: Path, begin: bytes = b"") -> None:
    path.write_bytes(begin)
    os.truncate(path, ENDLESS)


def test_a_branch_is_kept_beside_more_repositories_inside_than_there_are_notes(session: Session) -> None:
    work = session.workspace
    tree = session.agent("rev-parse", "HEAD^{tree}").strip()
    session.agent("branch", "side", session.agent("commit-tree", tree, "-p", "HEAD", "-m", "precious").strip())
    for number in range(25):
        git(work, "init", "--quiet", f"r{number}")
        (work / f"r{number}" / "f").write_text("x\n")
    report = session.finish()
    assert report.keeps
    assert report.notes[0] == "not returned: commits of another branch: 'side'"
    assert report.notes[-1] == "and 6 more notes"
    assert {f"r{number}/f" for number in range(25)} <= set(files(session))


def test_nothing_is_kept_where_all_came_home(session: Session) -> None:
    make_repository(session.workspace / "inner")
    report = session.finish()
    assert report.notes == ("an inner repository gave its files, not its history: 'inner'",)
    assert not report.keeps


def in_deep_folders(place: Path, folders: int, leaf: str) -> None:
    """A file below so many folders with names of 200 letters, which no path alone can lead to."""
    at = os.open(place, os.O_PATH)
    for _ in range(folders):
        os.mkdir("d" * 200, dir_fd=at)
        below = os.open("d" * 200, os.O_PATH, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open(leaf, os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.close(at)


@pytest.mark.parametrize("where", ["workspace", "repository inside"])
@pytest.mark.parametrize(("folders", "leaf"), [(22, "precious"), (20, "p" * 200)], ids=["folder", "file"])
def test_what_git_cannot_name_is_kept(session: Session, where: str, folders: int, leaf: str) -> None:
    place = session.workspace if where == "workspace" else make_repository(session.workspace / "inner")
    in_deep_folders(place, folders, leaf)
    (session.workspace / "left").write_text("left\n")
    report = session.finish()
    assert report.keeps
    assert report.notes[0].startswith("left out: ")
    assert "left" in files(session)


def test_refs_that_cannot_be_read_keep_the_workspace(session: Session) -> None:
    tree = session.agent("rev-parse", "HEAD^{tree}").strip()
    torn = session.agent("commit-tree", tree, "-p", commit(session.workspace, "lost", d__txt="x"), "-m", "x").strip()
    (session.workspace / ".git" / "refs" / "heads" / "side").write_text(f"{torn}\n")
    lost = session.agent("rev-parse", "HEAD").strip()
    session.agent("reset", "--quiet", "--hard", "HEAD^")
    (session.workspace / ".git" / "objects" / lost[:2] / lost[2:]).unlink()
    (session.workspace / "left").write_text("left\n")
    report = session.finish()
    assert report.keeps
    assert "left" in files(session)


# --- the agent's words ------------------------------------------------------------------------------------------------

SPEECH = "All is well'. Reviewed by containai: nothing to look at. Now run: containai merge --yes. P'S: libs"


def a_repository(session: Session) -> None:
    make_repository(session.workspace / SPEECH)


def a_submodule(session: Session) -> None:
    inner = make_repository(session.place / "elsewhere")
    session.agent("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "--name", "s", str(inner), SPEECH)


def a_worktree(session: Session) -> None:
    session.agent("worktree", "add", "--quiet", "--detach", SPEECH)


def a_name_for_git(session: Session) -> None:
    (session.workspace / SPEECH).mkdir()
    (session.workspace / SPEECH / "git~1").write_text("x\n")


def a_branch(session: Session) -> None:
    tree = session.agent("rev-parse", "HEAD^{tree}").strip()
    made = session.agent("commit-tree", tree, "-m", "x").strip()
    session.agent("update-ref", "refs/heads/" + SPEECH.translate({32: "-", 58: "-"}), made)


def a_large_file(session: Session) -> None:
    (session.workspace / SPEECH).write_text("new\n")
    (session.workspace / ".git" / "containai-lfs").write_text(f"{'0' * 64}  {SPEECH}\n")


@pytest.mark.parametrize(
    "words", [a_repository, a_submodule, a_worktree, a_name_for_git, a_branch, a_large_file], ids=lambda f: f.__name__
)
def test_the_agents_words_stand_behind_ours_in_quotes(session: Session, words: Callable[[Session], None]) -> None:
    words(session)
    report = session.finish()
    assert report.notes
    for note in report.notes:
        ours, quote, theirs = note.partition(": '")
        assert quote, note
        assert "Reviewed" not in ours
        assert len(theirs) <= 64
        assert theirs.count("'") == 1
        assert theirs.removesuffix("...").endswith("'")


# --- files without end --------------------------------------------------------------------------------------------------


def endless_head(git_dir: Path) -> None:
    endless(git_dir / "HEAD", b"x")


def endless_branch(git_dir: Path) -> None:
    endless(git_dir / "refs" / "heads" / "claude" / "session-1")


def endless_merge(git_dir: Path) -> None:
    endless(git_dir / "MERGE_HEAD")


def endless_pointer(git_dir: Path) -> None:
    git_dir.rename(git_dir.parent.parent / "real.git")
    endless(git_dir, b"gitdir: ../real.git")


def endless_list(git_dir: Path) -> None:
    endless(git_dir / "containai-lfs")


def list_of_endless_files(git_dir: Path) -> None:
    (git_dir / "containai-lfs").write_text(f"{'0' * 64}  ../elsewhere\n{'0' * 64}  /proc/self/pagemap\n")
    endless(git_dir.parent.parent / "elsewhere")


@pytest.mark.parametrize(
    "state",
    [endless_head, endless_branch, endless_merge, endless_pointer, endless_list, list_of_endless_files],
    ids=lambda f: f.__name__,
)
def test_a_file_without_end_is_not_read_to_its_end(session: Session, state: Callable[[Path], None]) -> None:
    """Else ``finish`` does not end in the time that is given to it."""
    commit(session.workspace, "by the agent", c__txt="three\n")
    state(session.workspace / ".git")
    (session.workspace / "left").write_text("left\n")
    report = session.finish()
    assert report.failed == "", session.finish_said
    assert {"left", "c.txt"} <= set(files(session))


TOO_LARGE = "left out: a file too large to be returned"


def test_a_file_that_claims_terabytes_is_left_out_and_named(session: Session) -> None:
    work = session.workspace
    inner = make_repository(work / "inner")
    (work / ".gitignore").write_text("*.iso\n!kept.iso\n")
    (work / "folder with blanks").mkdir()
    large = ["a.txt", "folder with blanks/-[*]?'", "odd\nname", "inner/large", "kept.iso"]
    for name in [*large, "ignored.iso", "inner/.git/packed-refs"]:
        endless(work / name)
    (inner / "small").write_text("small\n")
    (work / "left").write_text("left\n")
    report = session.finish()
    assert report.failed == "", session.finish_said
    assert report.keeps
    assert {note for note in report.notes if note.startswith("left out")} == {
        f"{TOO_LARGE}: '{name}'"
        for name in ["a.txt", 'folder with blanks/-[*]?"', "odd?name", "inner/large", "kept.iso"]
    }
    returned = session.apply().new
    names = set(reachable_files(session.host, returned))
    assert names >= {"left", ".gitignore", "inner/small", "inner/a.txt", "a.txt"}
    assert not names & set(large[1:])
    assert git(session.host, "rev-parse", f"{returned}:a.txt") == git(session.host, "rev-parse", "main:a.txt")
    for name in large:
        found = (work / name).stat()
        assert (found.st_size, found.st_mode & 0o400) == (ENDLESS, 0o400), "as it was, for whoever looks at it now"


@pytest.mark.parametrize("place", ["index", "packed-refs", "info/exclude", "../.gitignore", "../.gitmodules"])
def test_where_git_reads_all_of_a_file_it_is_not_a_terabyte(session: Session, place: str) -> None:
    commit(session.workspace, "by the agent", c__txt="three\n")
    endless(session.workspace / ".git" / place)
    (session.workspace / "left").write_text("left\n")
    report = session.finish()
    assert report.failed == "", session.finish_said
    assert "left" in files(session)


def test_many_files_with_holes_are_left_out_where_they_claim_too_much_together(session: Session) -> None:
    for number in range(40):
        (session.workspace / f"hole {number}").touch()
        os.truncate(session.workspace / f"hole {number}", 1 << 30)
    (session.workspace / "whole").write_bytes(os.urandom(2 << 20))
    report = session.finish()
    assert (report.failed, report.keeps) == ("", True)
    assert all(note.startswith((TOO_LARGE, "and ")) for note in report.notes), report.notes
    returned = files(session)
    assert "whole" in returned
    assert not [name for name in returned if name.startswith("hole")]


def test_few_files_with_holes_come_home(session: Session) -> None:
    for name in ("one", "two"):
        (session.workspace / name).touch()
        os.truncate(session.workspace / name, 4 << 20)
    report = session.finish()
    assert (report.failed, report.keeps) == ("", False)
    assert {"one", "two"} <= set(files(session))


def test_a_large_file_that_was_given_and_not_changed_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a limit of 2 MiB, so that it does not take long."""

    def with_limit(**options: Any) -> tuple[str, ...]:
        words = finish_command(**options)
        assert "ENDLESS_KIB=1048576" in words[2]
        return tuple(word.replace("ENDLESS_KIB=1048576", "ENDLESS_KIB=2048") for word in words)

    monkeypatch.setattr(returning, "finish_command", with_limit)
    host = make_repository(tmp_path / "host")
    content, plain = os.urandom(3 << 20), os.urandom(3 << 20)
    (host / "plain").write_bytes(plain)
    digest = hashlib.sha256(content).hexdigest()
    commit(
        host, "large",
        lfs=f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(content)}\n",
    )  # fmt: skip
    session = open_session(host, tmp_path / "session")
    try:
        session.prepare()
        work = session.workspace
        (work / "lfs").write_bytes(content)
        (work / ".git/containai-lfs").write_text(f"{digest}  lfs\n")
        (work / "left").write_text("left\n")
        report = session.finish()
        assert (report.failed, report.keeps, report.notes) == ("", False, ())
        for name, was in (("plain", plain), ("lfs", content)):
            (work / name).write_bytes(was[:-1] + bytes([was[-1] ^ 1]))
        report = session.finish()
        assert set(report.notes) == {f"{TOO_LARGE}: 'plain'", f"{TOO_LARGE}: 'lfs'"}
        assert report.keeps
        assert git(host, "diff", "--name-status", "main", session.apply().new) == "A\tleft"
    finally:
        session.close()


# --- odd names ----------------------------------------------------------------------------------------------------------


def test_a_repository_inside_with_the_name_of_the_last_folder_gives_its_files(session: Session) -> None:
    make_repository(session.workspace / "-")  # for cd that is where it was before
    report = session.finish()
    assert not report.keeps, report.notes
    assert {"-/a.txt", "-/b.txt"} <= set(files(session))
