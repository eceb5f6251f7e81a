"""What cannot come home is named and keeps the workspace; and no file of the agent's speaks in our name or takes hours."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.git import commit, git, make_repository
from tests.support.returning import Session, reachable_files

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


# --- odd names ----------------------------------------------------------------------------------------------------------


def test_a_repository_inside_with_the_name_of_the_last_folder_gives_its_files(session: Session) -> None:
    make_repository(session.workspace / "-")  # for cd that is where it was before
    report = session.finish()
    assert not report.keeps, report.notes
    assert {"-/a.txt", "-/b.txt"} <= set(files(session))
