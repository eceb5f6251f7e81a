"""A workspace whose own repository cannot be used, and repositories inside it: the files arrive."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.git import commit, git, make_repository
from tests.support.returning import Home, Session

pytestmark = pytest.mark.user


# --- repositories that are gone --------------------------------------------------------------------------------------


def removed(work: Path) -> None:
    shutil.rmtree(work / ".git")


def removed_and_begun_anew(work: Path) -> None:
    shutil.rmtree(work / ".git")
    git(work, "init", "--quiet")


def replaced_by_a_file(work: Path) -> None:
    shutil.rmtree(work / ".git")
    (work / ".git").write_text("no git directory")


def replaced_by_a_dangling_link(work: Path) -> None:
    shutil.rmtree(work / ".git")
    (work / ".git").symlink_to("/nonexistent")


def pointing_nowhere(work: Path) -> None:
    shutil.rmtree(work / ".git")
    (work / ".git").write_text("gitdir: /nonexistent\n")


def without_objects(work: Path) -> None:
    shutil.rmtree(work / ".git" / "objects")
    (work / ".git" / "objects").mkdir()


def with_broken_objects(work: Path) -> None:
    for path in (work / ".git" / "objects").rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_refs(work: Path) -> None:
    shutil.rmtree(work / ".git" / "refs")
    (work / ".git" / "packed-refs").unlink(missing_ok=True)


def garbage_head(work: Path) -> None:
    (work / ".git" / "HEAD").write_text("garbage")
    shutil.rmtree(work / ".git" / "refs" / "heads")


def pipe_for_a_head(work: Path) -> None:
    (work / ".git" / "HEAD").unlink()
    os.mkfifo(work / ".git" / "HEAD")


GONE: list[Callable[[Path], None]] = [
    removed, removed_and_begun_anew, replaced_by_a_file, replaced_by_a_dangling_link, pointing_nowhere, without_objects,
    with_broken_objects, without_refs, garbage_head, pipe_for_a_head,
]  # fmt: skip


@pytest.mark.parametrize("state", GONE, ids=lambda state: state.__name__)
@pytest.mark.parametrize("pushed", [False, True], ids=["nothing-pushed", "pushed"])
def test_without_a_usable_repository_the_files_arrive(
    session: Session, state: Callable[[Path], None], pushed: bool
) -> None:
    commit(session.workspace, "by the agent", c__txt="three\n")
    if pushed:
        session.agent("push", "--quiet")
    (session.workspace / "left.txt").write_text("left\n")
    state(session.workspace)
    home = Home(session)
    assert not home.returned.diverged
    assert home.read("left.txt") == "left"
    assert home.read("c.txt") == "three"
    assert home.files() == ["a.txt", "b.txt", "c.txt", "left.txt"]
    assert "could not be used" in home.said()
    assert ("by the agent" in home.history()) == pushed


def test_a_repository_begun_anew_with_commits(session: Session) -> None:
    shutil.rmtree(session.workspace / ".git")
    git(session.workspace, "init", "--quiet")
    commit(session.workspace, "a new beginning", c__txt="three\n")
    home = Home(session)
    assert not home.returned.diverged
    assert set(home.history()) >= {"a new beginning", "second"}
    assert home.read("c.txt") == "three"


# --- repositories inside ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["inner", "in ner", "i\nn", "\udcffx", "50%"])
def test_a_repository_inside_gives_its_files(session: Session, name: str) -> None:
    inner = make_repository(session.workspace / name)
    (inner / ".gitignore").write_text("*.log\n")
    (inner / "noise.log").write_text("x")
    (inner / "uncommitted.txt").write_text("u\n")
    (session.workspace / "left.txt").write_text("left\n")
    home = Home(session)
    assert home.files() == sorted(
        [
            "a.txt",
            "b.txt",
            "left.txt",
            *(f"{name}/{leaf}" for leaf in (".gitignore", "a.txt", "b.txt", "uncommitted.txt")),
        ],
        key=os.fsencode,
    )
    assert "an inner repository gave its files, not its history: '" in home.said()


def test_a_repository_inside_a_repository_inside(session: Session) -> None:
    make_repository(session.workspace / "one")
    make_repository(session.workspace / "one" / "two")
    (session.workspace / "one" / "three").mkdir()
    git(session.workspace / "one" / "three", "init", "--quiet")
    (session.workspace / "one" / "three" / "x").write_text("x\n")
    home = Home(session)
    assert {"one/a.txt", "one/two/a.txt", "one/three/x"} <= set(home.files())


def test_a_repository_inside_without_a_commit(session: Session) -> None:
    inner = session.workspace / "fresh"
    inner.mkdir()
    git(inner, "init", "--quiet")
    (inner / "x.txt").write_text("x\n")
    (session.workspace / "left.txt").write_text("left\n")
    home = Home(session)
    assert home.files() == ["a.txt", "b.txt", "fresh/x.txt", "left.txt"]


def test_a_repository_inside_that_the_agent_committed_as_a_number(session: Session) -> None:
    make_repository(session.workspace / "inner")
    commit(session.workspace, "with an inner repository", c__txt="three\n")
    assert session.agent("ls-tree", "HEAD", "inner").startswith("160000 ")
    home = Home(session)
    assert home.read("inner/a.txt") == "one"


def test_a_real_submodule_stays_one(session: Session) -> None:
    inner = make_repository(session.place / "elsewhere")
    session.agent("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "sub")
    home = Home(session)
    assert git(session.host, "ls-tree", home.new, "sub").startswith("160000 ")
    assert "of a submodule only the commit number is returned, not the content: 'sub'" in home.said()


def test_a_worktree_inside_is_not_copied_but_named(session: Session) -> None:
    session.agent("worktree", "add", "--quiet", "-b", "idea", "wt")
    commit(session.workspace / "wt", "an idea", d__txt="four\n")
    (session.workspace / "left.txt").write_text("left\n")
    home = Home(session)
    assert home.files() == ["a.txt", "b.txt", "left.txt"]
    assert "left out: what is not committed in a working tree of another branch: 'wt'" in home.report.notes
    assert "not returned: commits of another branch: 'idea'" in home.report.notes
