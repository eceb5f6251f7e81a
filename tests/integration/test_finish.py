"""Whatever state the agent leaves its workspace in, the work arrives, and nothing that it planted runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.git import commit, git, make_repository
from tests.support.returning import Home, Session, open_session

pytestmark = pytest.mark.user


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    opened = open_session(make_repository(tmp_path / "host"), tmp_path / "session")
    opened.prepare()
    yield opened
    for path in opened.workspace.rglob("*"):  # so that pytest can remove what the agent locked up
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    opened.close()


def test_everything_left_is_committed_and_ignored_files_are_not(session: Session) -> None:
    work = session.workspace
    (work / ".gitignore").write_text("*.log\nbuild/\n")
    (work / "a.txt").write_text("changed\n")
    (work / "b.txt").unlink()
    (work / "deep").mkdir()
    (work / "deep" / "new.txt").write_text("new\n")
    (work / "noise.log").write_text("x")
    (work / "build").mkdir()
    (work / "build" / "out").write_text("x")
    home = Home(session)
    assert home.files() == [".gitignore", "a.txt", "deep/new.txt"]
    assert home.report.committed == 4
    assert home.read("a.txt") == "changed"


def test_the_message_is_a_summary_with_the_session(session: Session) -> None:
    (session.workspace / "a.txt").write_text("changed\n")
    (session.workspace / "new.txt").write_text("new\n")
    home = Home(session)
    message = git(session.host, "log", "-1", "--format=%an <%ae>%n%B", home.new).splitlines()
    assert message[:2] == ["claude <claude@containai.invalid>", "Change 2 files"]
    assert "    M a.txt" in message
    assert "    A new.txt" in message
    trailers = git(session.host, "log", "-1", "--format=%(trailers:key=Containai-Session,valueonly)", home.new)
    assert trailers.strip() == "0123456789ab"
    trailers = git(session.host, "log", "-1", "--format=%(trailers:key=Containai-Config,valueonly)", home.new)
    assert trailers.strip() == "c" * 64


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("plain.txt", "Add plain.txt"),
        ("\x1b]0;evil\x07", "Add 1 file"),
        ("x\n\nContainai-Session: forged", "Add 1 file"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}txt.exe", "Add 1 file"),
        ("l" * 200, "Add 1 file"),
    ],
)
def test_no_file_name_gets_into_the_message_as_it_is(session: Session, name: str, subject: str) -> None:
    (session.workspace / name).write_text("x\n")
    home = Home(session)
    message = git(session.host, "log", "-1", "--format=%B", home.new)
    assert message.splitlines()[0] == subject
    assert message.isascii()
    assert message.replace("\n", "").isprintable()
    assert max(map(len, message.splitlines())) < 160
    trailers = git(session.host, "log", "-1", "--format=%(trailers:key=Containai-Session,valueonly)", home.new)
    assert trailers.strip() == "0123456789ab"


def test_many_changes_make_a_short_message(session: Session) -> None:
    for number in range(500):
        (session.workspace / f"f{number}").write_text("x\n")
    home = Home(session)
    message = git(session.host, "log", "-1", "--format=%B", home.new).strip().splitlines()
    assert message[0] == "Add 500 files" or message[0] == "Change 500 files"
    assert "    and 480 more" in message
    assert len(message) < 30
    assert home.report.committed == 500


def test_commits_of_the_agents_own_come_along_unchanged(session: Session) -> None:
    done = commit(session.workspace, "by the agent", c__txt="three\n")
    home = Home(session)
    assert home.returned.commits == (done,)
    assert home.report.committed == 0


# --- states that git can be in ---------------------------------------------------------------------------------------


def stale_locks(work: Path) -> None:
    for name in (
        "index.lock",
        "HEAD.lock",
        "config.lock",
        "refs/heads/claude/session-1.lock",
        "shallow.lock",
        "packed-refs.lock",
    ):
        (work / ".git" / name).write_text("")


def detached(work: Path) -> None:
    git(work, "checkout", "--quiet", "--detach")


def detached_with_commits(work: Path) -> None:
    git(work, "checkout", "--quiet", "--detach")
    commit(work, "on no branch", d__txt="four\n")


def other_branch(work: Path) -> None:
    git(work, "checkout", "--quiet", "-b", "feature")
    commit(work, "on feature", d__txt="four\n")


def renamed_branch(work: Path) -> None:
    git(work, "branch", "-m", "renamed")


def packed(work: Path) -> None:
    commit(work, "to be packed", d__txt="four\n")
    git(work, "gc", "--quiet")
    git(work, "pack-refs", "--all")


def no_index(work: Path) -> None:
    (work / ".git" / "index").unlink()


def garbage_index(work: Path) -> None:
    (work / ".git" / "index").write_bytes(b"DIRC garbage" * 100)


def truncated_index(work: Path) -> None:
    index = work / ".git" / "index"
    index.write_bytes(index.read_bytes()[:-30])


def split_index(work: Path) -> None:
    git(work, "update-index", "--split-index")


def fifo_index(work: Path) -> None:
    (work / ".git" / "index").unlink()
    os.mkfifo(work / ".git" / "index")


def broken_config(work: Path) -> None:
    (work / ".git" / "config").write_text("[core\nthis is no configuration")


def hostile_config(work: Path) -> None:
    git(work, "config", "core.worktree", "/")
    git(work, "config", "core.bare", "true")
    git(work, "config", "extensions.worktreeConfig", "true")
    git(work, "config", "remote.local.url", "ext::false")
    git(work, "config", "url.ext::false.insteadOf", "git://")
    git(work, "config", "core.excludesFile", str(work / "everything"))
    (work / "everything").write_text("*\n")


def hostile_commit_graph(work: Path) -> None:
    commit(work, "graphed", d__txt="four\n")
    git(work, "commit-graph", "write", "--reachable")
    graph = work / ".git" / "objects" / "info" / "commit-graph"
    graph.chmod(0o644)
    graph.write_bytes(graph.read_bytes()[:-100] + b"x" * 100)


def assume_unchanged(work: Path) -> None:
    git(work, "update-index", "--assume-unchanged", "a.txt")


def skip_worktree(work: Path) -> None:
    git(work, "update-index", "--skip-worktree", "a.txt")


def intent_to_add(work: Path) -> None:
    (work / "later.txt").write_text("later\n")
    git(work, "add", "--intent-to-add", "later.txt")


def bisecting(work: Path) -> None:
    git(work, "bisect", "start", "HEAD", "HEAD~1")


def git_directory_elsewhere(work: Path) -> None:
    (work / ".git").rename(work.parent / "real.git")
    (work / ".git").write_text("gitdir: ../real.git\n")


def git_directory_linked(work: Path) -> None:
    (work / ".git").rename(work.parent / "real.git")
    (work / ".git").symlink_to("../real.git")


STATES: list[Callable[[Path], None]] = [
    stale_locks, detached, detached_with_commits, other_branch, renamed_branch, packed, no_index, garbage_index,
    truncated_index, split_index, fifo_index, broken_config, hostile_config, hostile_commit_graph, assume_unchanged,
    skip_worktree, intent_to_add, bisecting, git_directory_elsewhere, git_directory_linked,
]  # fmt: skip


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_states_in_which_nothing_may_be_lost(session: Session, state: Callable[[Path], None]) -> None:
    commit(session.workspace, "by the agent", c__txt="three\n")
    state(session.workspace)
    (session.workspace / "a.txt").write_text("changed\n")
    (session.workspace / "left.txt").write_text("left\n")
    made = git(session.workspace, "log", "--all", "--format=%s", status=None).splitlines()
    home = Home(session)
    assert not home.returned.diverged
    assert home.read("a.txt") == "changed"
    assert home.read("left.txt") == "left"
    assert home.read("c.txt") == "three"
    assert set(home.history()) >= {"by the agent", *made}
    assert "could not be used" not in home.said()


def test_a_merge_in_progress_keeps_both_sides(session: Session) -> None:
    work = session.workspace
    git(work, "checkout", "--quiet", "-b", "side")
    commit(work, "on the side", a__txt="side\n")
    git(work, "checkout", "--quiet", session.branch)
    commit(work, "straight on", a__txt="straight\n")
    git(work, "merge", "--quiet", "side", status=1)
    home = Home(session)
    assert set(home.history()) >= {"on the side", "straight on"}
    assert "<<<<<<<" in home.read("a.txt")
    assert "MERGE_HEAD" in home.said()


def test_a_rebase_in_progress_loses_no_commit(session: Session) -> None:
    work = session.workspace
    git(work, "checkout", "--quiet", "-b", "base2")
    commit(work, "new ground", a__txt="ground\n")
    git(work, "checkout", "--quiet", session.branch)
    commit(work, "one", a__txt="one!\n")
    commit(work, "two", z__txt="two\n")
    git(work, "rebase", "--quiet", "base2", status=1)
    home = Home(session)
    assert not home.returned.diverged
    assert set(home.history()) >= {"new ground", "one", "two"}
    assert "<<<<<<<" in home.read("a.txt")


def test_an_old_commit_checked_out_to_look_at(session: Session) -> None:
    done = commit(session.workspace, "by the agent", c__txt="three\n")
    git(session.workspace, "checkout", "--quiet", "--detach", "HEAD~2")
    home = Home(session)
    assert home.new == done


def test_other_branches_are_named(session: Session) -> None:
    work = session.workspace
    git(work, "checkout", "--quiet", "-b", "idea")
    commit(work, "an idea", d__txt="four\n")
    git(work, "checkout", "--quiet", session.branch)
    (work / "a.txt").write_text("stashed\n")
    git(work, "stash", "--quiet")
    (work / "left.txt").write_text("left\n")
    home = Home(session)
    assert "not returned: commits of another branch: 'idea'" in home.report.notes
    assert "not returned: commits of the stash" in home.report.notes
    assert home.report.keeps
    assert home.read("left.txt") == "left"


# --- what was pushed before ------------------------------------------------------------------------------------------


def test_pushed_and_then_amended(session: Session) -> None:
    commit(session.workspace, "by the agent", c__txt="three\n")
    session.agent("push", "--quiet")
    session.agent("commit", "--quiet", "--amend", "-m", "better")
    home = Home(session)
    assert home.history() == ["better", "second", "first"]
    assert "rewritten" in home.said()


def test_pushed_from_another_clone_only(session: Session) -> None:
    git(session.place, "clone", "--quiet", session.url, "elsewhere")
    done = commit(session.place / "elsewhere", "from elsewhere", e__txt="five\n")
    git(session.place / "elsewhere", "push", "--quiet", "origin", f"HEAD:{session.quarantine.ref}")
    home = Home(session)
    assert home.new == done


def test_pushed_from_here_and_continued_elsewhere(session: Session) -> None:
    commit(session.workspace, "from here", c__txt="three\n")
    session.agent("push", "--quiet")
    git(session.place, "clone", "--quiet", session.url, "elsewhere")
    done = commit(session.place / "elsewhere", "from elsewhere", e__txt="five\n")
    git(session.place / "elsewhere", "push", "--quiet", "origin", f"HEAD:{session.quarantine.ref}")
    home = Home(session)
    assert home.new == done


def test_pushed_from_another_clone_and_left_here(session: Session) -> None:
    git(session.place, "clone", "--quiet", session.url, "elsewhere")
    commit(session.place / "elsewhere", "from elsewhere", e__txt="five\n")
    git(session.place / "elsewhere", "push", "--quiet", "origin", f"HEAD:{session.quarantine.ref}")
    (session.workspace / "left.txt").write_text("left\n")
    home = Home(session)
    assert not home.returned.diverged
    assert {"from elsewhere", "Add left.txt"} <= set(home.history())
    assert home.read("left.txt") == "left"
    assert "pushed from elsewhere" in home.said()
    joined = git(session.host, "log", "-1", "--format=%(trailers:only)", home.new).splitlines()
    assert joined == ["Containai-Session: 0123456789ab", "Containai-Config: " + "c" * 64]


def test_pulled_in_between(session: Session) -> None:
    commit(session.workspace, "one", c__txt="three\n")
    session.agent("push", "--quiet")
    commit(session.workspace, "two", d__txt="four\n")
    session.agent("pull", "--quiet", "--rebase")
    home = Home(session)
    assert home.history()[:2] == ["two", "one"]


# --- files that make trouble -----------------------------------------------------------------------------------------


def test_unreadable_files_and_directories(session: Session) -> None:
    work = session.workspace
    (work / "left.txt").write_text("left\n")
    (work / "secret.txt").write_text("mine\n")
    (work / "secret.txt").chmod(0)
    (work / "closed").mkdir()
    (work / "closed" / "inner.txt").write_text("inner\n")
    (work / "closed").chmod(0)
    home = Home(session)
    assert home.files() == ["a.txt", "b.txt", "closed/inner.txt", "left.txt", "secret.txt"]


def test_pipes_and_sockets_are_no_content_and_stop_nothing(session: Session) -> None:
    work = session.workspace
    os.mkfifo(work / "pipe")
    (work / "a.txt").unlink()
    os.mkfifo(work / "a.txt")  # where a tracked file was
    (work / "left.txt").write_text("left\n")
    home = Home(session)
    assert home.read("left.txt") == "left"
    assert "pipe" not in home.files()


def test_pipes_where_git_looks_for_rules_and_objects_do_not_make_it_wait(session: Session) -> None:
    (session.workspace / "sub").mkdir()
    os.mkfifo(session.workspace / "sub" / ".gitignore")
    os.mkfifo(session.workspace / ".gitattributes")
    os.mkfifo(session.workspace / ".git" / "refs" / "heads" / "trap")
    os.mkfifo(session.workspace / ".git" / "info" / "sparse-checkout")
    (session.workspace / "sub" / "left.txt").write_text("left\n")
    home = Home(session)
    assert home.read("sub/left.txt") == "left"


@pytest.mark.parametrize("name", [".GIT", "git~1", ".g\u200cit"])
def test_names_that_mean_git_elsewhere_are_left_out_and_said(session: Session, name: str) -> None:
    (session.workspace / "sub").mkdir()
    (session.workspace / "sub" / name).mkdir()
    (session.workspace / "sub" / name / "config").write_text("x\n")
    (session.workspace / "left.txt").write_text("left\n")
    home = Home(session)
    assert home.files() == ["a.txt", "b.txt", "left.txt"]
    assert "left out" in home.said()


def test_a_deletion_is_taken_over_beside_a_name_that_is_not(session: Session) -> None:
    (session.workspace / "git~1").write_text("left out\n")
    (session.workspace / "a.txt").unlink()
    home = Home(session)
    assert home.files() == ["b.txt"]
    assert """It says: 'invalid path "git~1"'""" in home.said()


def test_links_leave_as_links(session: Session) -> None:
    (session.workspace / "out").symlink_to("/etc/passwd")
    (session.workspace / "tree").symlink_to("/etc")
    home = Home(session)
    assert home.read("out") == "/etc/passwd"
    assert git(session.host, "ls-tree", home.new, "tree").startswith("120000 ")


@pytest.mark.parametrize("trouble", ["none", "bad-name", "no-index", "garbage-index"])
def test_sparse_checkouts_delete_nothing(session: Session, trouble: str) -> None:
    work = session.workspace
    (work / "one").mkdir()
    (work / "two").mkdir()
    (work / "one" / "x").write_text("x\n")
    (work / "two" / "y").write_text("y\n")
    commit(work, "directories")
    git(work, "sparse-checkout", "set", "one")
    assert not (work / "two").exists()
    (work / "one" / "new").write_text("new\n")
    if trouble == "bad-name":
        (work / "one" / "git~1").write_text("left out\n")
    elif trouble == "no-index":
        no_index(work)
    elif trouble == "garbage-index":
        garbage_index(work)
    home = Home(session)
    assert home.files() == ["a.txt", "b.txt", "one/new", "one/x", "two/y"]


# --- nothing that was planted runs -----------------------------------------------------------------------------------


def test_nothing_planted_runs(session: Session) -> None:
    work = session.workspace
    witness = session.place / "witness"
    run = f"touch {witness}"
    for hook in (
        "pre-commit",
        "post-commit",
        "pre-push",
        "post-index-change",
        "reference-transaction",
        "post-checkout",
    ):
        path = work / ".git" / "hooks" / hook
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{run}\n")
        path.chmod(0o755)
    (work / ".gitattributes").write_text("*.txt filter=evil diff=evil merge=evil\n")
    (work / "left.txt").write_text("left\n")
    # The control: the agent's own git does run these.
    git(work, "config", "filter.evil.clean", f"sh -c '{run}; cat'")
    git(work, "add", "left.txt")
    assert witness.exists()
    git(work, "reset", "--quiet")
    for key in ("core.fsmonitor", "core.sshCommand", "core.gitProxy", "gpg.program", "credential.helper", "alias.add",
                "alias.push", "core.editor", "core.askPass"):  # fmt: skip
        git(work, "-c", "core.fsmonitor=", "config", key, run if not key.startswith("alias") else f"!{run}")
    git(work, "-c", "core.fsmonitor=", "config", "commit.gpgSign", "true")
    git(work, "-c", "core.fsmonitor=", "config", "include.path", "/etc/passwd")
    witness.unlink(missing_ok=True)
    home = Home(session)
    assert home.read("left.txt") == "left"
    assert not witness.exists()


def test_a_second_finish_changes_nothing(session: Session) -> None:
    """Killed after the push, run again by ``recover``."""
    (session.workspace / "left.txt").write_text("left\n")
    first = session.finish()
    tip = session.quarantine.tip()
    assert first.result == tip
    home = Home(session)
    assert home.read("left.txt") == "left"
    assert home.new == tip
