"""Repositories that the agent's repository leads git to: none of what their configuration says runs, and they come home."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.git import commit, git, make_repository
from tests.support.returning import Session


def monitored(session: Session, name: str = "sub") -> Path:
    """A repository inside whose file system monitor leaves a trace; git itself is seen to run it."""
    inner = make_repository(session.workspace / name)
    script = session.place / "monitor"
    script.write_text(f"#!/bin/sh\necho \"$PWD\" >> '{session.place}/trace'\n")
    script.chmod(0o755)
    git(inner, "config", "core.fsmonitor", str(script))
    git(inner, "status", "--porcelain")
    assert trace(session), "the trap works"
    (session.place / "trace").unlink()
    return inner


def trace(session: Session) -> str:
    place = session.place / "trace"
    return place.read_text() if place.exists() else ""


def home(session: Session, *, link: str = "", files: tuple[str, ...] = ()) -> str:
    """What the session's end brought; checks links and files of it."""
    report = session.finish()
    assert report.failed == "", session.finish_said
    assert trace(session) == "", session.finish_said
    tip = session.apply().new
    listed = git(session.host, "ls-tree", "-r", tip).splitlines()
    assert [line.split("\t")[1] for line in listed if line.startswith("160000 ")] == ([link] if link else [])
    for name in files:
        assert any(line.endswith(f"\t{name}") for line in listed), listed
    git(session.host, "fsck", "--strict", "--no-dangling")
    return tip


def in_the_index(session: Session) -> None:
    session.agent("add", "sub")


def in_a_commit(session: Session) -> None:
    commit(session.workspace, "a link", c__txt="three\n")


def in_an_index_that_cannot_be_read(session: Session) -> None:
    in_a_commit(session)
    (session.workspace / ".git" / "index").write_bytes(b"DIRC garbage")


def in_a_conflict(session: Session) -> None:
    in_a_commit(session)
    number = session.agent("rev-parse", "HEAD:sub").strip()
    staged = f"0 {number}\tsub\n160000 {number} 1\tsub\n160000 {number} 2\tsub\n160000 {number} 3\tsub\n"
    git(session.workspace, "update-index", "--index-info", stdin=staged.encode())
    assert len(session.agent("ls-files", "-u", "sub").splitlines()) == 3


def skipped(session: Session) -> None:
    in_a_commit(session)
    session.agent("update-index", "--skip-worktree", "sub")


def in_a_split_index(session: Session) -> None:
    in_a_commit(session)
    session.agent("update-index", "--split-index")


def beside_a_file_that_git_cannot_take(session: Session) -> None:
    in_a_commit(session)
    (session.workspace / "git~1").write_text("x\n")


def beside_one_without_a_commit(session: Session) -> None:
    in_a_commit(session)
    git(session.workspace, "init", "--quiet", "fresh")


WAYS: list[Callable[[Session], None]] = [
    in_the_index, in_a_commit, in_an_index_that_cannot_be_read, in_a_conflict, skipped, in_a_split_index,
    beside_a_file_that_git_cannot_take, beside_one_without_a_commit,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_no_repository_inside_is_entered(session: Session, way: Callable[[Session], None]) -> None:
    inner = monitored(session)
    way(session)
    (session.place / "trace").unlink(missing_ok=True)
    (inner / "a.txt").write_text("changed inside\n")
    (session.workspace / "left.txt").write_text("left\n")
    tip = home(session, files=("sub/a.txt", "left.txt"))
    assert git(session.host, "show", f"{tip}:sub/a.txt") == "changed inside"


@pytest.mark.parametrize("collapsed", [False, True])
def test_no_repository_inside_is_entered_that_a_sparse_checkout_leaves_out(session: Session, collapsed: bool) -> None:
    """A sparse index names a whole folder by one entry. Git makes none for a folder that holds a link; an agent can."""
    for name in ("one/x", "two/y"):
        (session.workspace / name).parent.mkdir()
        (session.workspace / name).write_text("x\n")
    commit(session.workspace, "directories")
    without = session.agent("rev-parse", "HEAD:two")
    inner = monitored(session, "two/sub")
    commit(session.workspace, "a link")
    shutil.move(inner, session.place / "aside")
    if collapsed:
        session.agent("reset", "--quiet", "--hard", "HEAD~")
        session.agent("sparse-checkout", "set", "--cone", "--sparse-index", "one")
        rename(session.workspace / ".git" / "index", without, session.agent("rev-parse", "HEAD@{1}:two"))
        assert session.agent("ls-files", "-s", "--sparse", "two").startswith("040000 ")
    else:
        session.agent("sparse-checkout", "set", "--cone", "one")
    assert "160000 " in session.agent("ls-files", "-s")
    shutil.rmtree(session.workspace / "two", ignore_errors=True)
    shutil.move(session.place / "aside", inner)
    (session.place / "trace").unlink(missing_ok=True)
    (inner / "a.txt").write_text("changed inside\n")
    home(session, files=("two/sub/a.txt", "two/y", "one/x"))


def rename(index: Path, old: str, new: str) -> None:
    """Put another object in the place of one that an index names."""
    content = index.read_bytes()[:-20].replace(bytes.fromhex(old), bytes.fromhex(new))
    index.write_bytes(content + hashlib.sha1(content, usedforsecurity=False).digest())


def test_a_submodule_that_is_checked_out_is_not_entered_and_stays_one(session: Session) -> None:
    inner = monitored(session)
    (session.workspace / ".gitmodules").write_text('[submodule "sub"]\n\tpath = sub\n\turl = https://e.example/\n')
    commit(session.workspace, "a submodule")
    (session.place / "trace").unlink(missing_ok=True)
    (inner / "a.txt").write_text("changed inside\n")
    (session.workspace / "left.txt").write_text("left\n")
    tip = home(session, link="sub", files=("left.txt",))
    assert git(session.host, "rev-parse", f"{tip}:sub") == git(inner, "-c", "core.fsmonitor=", "rev-parse", "HEAD")


def test_a_submodule_comes_home_at_the_commit_that_it_is_at(session: Session) -> None:
    elsewhere = make_repository(session.place / "elsewhere")
    session.agent("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(elsewhere), "sub")
    commit(session.workspace, "a submodule")
    new = commit(session.workspace / "sub", "inside", d__txt="four\n")
    tip = home(session, link="sub")
    assert git(session.host, "rev-parse", f"{tip}:sub") == new


def test_no_repository_of_an_alternate_is_asked_for_its_refs(session: Session) -> None:
    """Git would start itself there, under that repository's configuration."""
    bait = make_repository(session.workspace / "bait")
    (session.workspace / ".git" / "objects" / "info").mkdir(exist_ok=True)
    (session.workspace / ".git" / "objects" / "info" / "alternates").write_text(f"{bait}/.git/objects\n")
    git(session.place, "clone", "--quiet", session.url, "elsewhere")
    commit(session.place / "elsewhere", "from elsewhere", e__txt="five\n")
    git(session.place / "elsewhere", "push", "--quiet", "origin", f"HEAD:{session.quarantine.ref}")
    (session.workspace / "left.txt").write_text("left\n")  # so that finish has to fetch
    session.variables["GIT_TRACE"] = str(session.place / "commands")
    home(session, files=("left.txt", "bait/a.txt"))
    commands = (session.place / "commands").read_text()
    assert "fetch --quiet" in commands
    assert f"--git-dir={bait}" not in commands


# --- what a link comes to where no repository is -----------------------------------------------------------------------


def linked(session: Session, name: str = "sub") -> None:
    """The base has a link, as a submodule that is not checked out."""
    modules = f'[submodule "sub"]\n\tpath = {name}\n\turl = https://e.example/\n'
    (session.workspace / ".gitmodules").write_bytes(os.fsencode(modules))
    session.agent("add", ".gitmodules")
    session.agent("update-index", "--add", "--cacheinfo", f"160000,{'2' * 40},{name}")
    session.agent("commit", "--quiet", "-m", "a submodule")
    (session.workspace / name).mkdir(parents=True, exist_ok=True)
    (session.workspace / "left.txt").write_text("left\n")


@pytest.mark.parametrize("name", ["sub", "deep/er/sub", "in ner", "i\nn", "\udcffx", "50%", '"', "\\t"])
def test_one_that_is_not_checked_out_stays(session: Session, name: str) -> None:
    linked(session, name)
    report = session.finish()
    assert report.failed == "", session.finish_said
    tip = session.apply().new
    assert git(session.host, "rev-parse", f"{tip}:{name}").strip() == "2" * 40
    assert git(session.host, "show", f"{tip}:left.txt") == "left"


def test_one_whose_folder_holds_files_stays(session: Session) -> None:
    linked(session)
    (session.workspace / "sub" / "built").write_text("x\n")
    home(session, link="sub", files=("left.txt",))


@pytest.mark.parametrize("instead", ["nothing", "a file", "a link", "a link above"])
def test_one_that_was_removed_is_removed(session: Session, instead: str) -> None:
    name = "deep/sub" if instead == "a link above" else "sub"
    linked(session, name)
    place = session.workspace / name
    place.rmdir()
    if instead == "a file":
        place.write_text("x\n")
    elif instead == "a link":
        place.symlink_to("/tmp")
    elif instead == "a link above":
        (session.workspace / "other" / "sub").mkdir(parents=True)
        place.parent.rmdir()
        place.parent.symlink_to("other")
    home(
        session,
        files=("left.txt", *({"a file": ["sub"], "a link": ["sub"], "a link above": ["deep"]}.get(instead, []))),
    )


@pytest.mark.parametrize("trouble", ["none", "no-index"])
def test_one_that_a_sparse_checkout_leaves_out_stays(session: Session, trouble: str) -> None:
    linked(session, "two/sub")
    (session.workspace / "one").mkdir()
    (session.workspace / "one" / "x").write_text("x\n")
    commit(session.workspace, "directories")
    session.agent("sparse-checkout", "set", "one")
    shutil.rmtree(session.workspace / "two", ignore_errors=True)
    (session.workspace / "one" / "new").write_text("new\n")
    if trouble == "no-index":
        (session.workspace / ".git" / "index").unlink()
    home(session, link="two/sub", files=("one/new",))


def test_one_that_is_ignored_stays(session: Session) -> None:
    elsewhere = make_repository(session.place / "elsewhere")
    session.agent("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(elsewhere), "sub")
    (session.workspace / ".gitignore").write_text("sub\n")
    commit(session.workspace, "ignored all the same")
    home(session, link="sub")
