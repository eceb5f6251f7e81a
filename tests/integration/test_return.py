"""The git side of a session end to end, without a container: real server, real scripts, on loopback.

``test_finish.py`` beside this file has what the agent can leave behind; here is the rest: what the agent is
given, and that every kind of source works.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from containai.workspace.branch import release_branch
from containai.workspace.notes import left_out_notes
from containai.workspace.source import resolve_source
from tests.support.git import branches, commit, fingerprint, git, make_repository
from tests.support.returning import Session, open_session, reachable_files

pytestmark = pytest.mark.user


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    opened = open_session(make_repository(tmp_path / "host"), tmp_path / "session")
    yield opened
    opened.close()


def round_trip(session: Session, *, seeded: bool = True) -> str:
    """Prepare, add a file, finish, apply: the returned commit, which must be on the host's branch."""
    session.prepare(seeded=seeded)
    (session.workspace / "note.txt").write_text("hello\n")
    report = session.finish()
    assert report.failed == ""
    returned = session.apply()
    assert returned.branch == session.branch
    assert branches(session.host)[session.branch] == returned.new
    assert git(session.host, "show", f"{returned.new}:note.txt") == "hello"
    return returned.new


@pytest.mark.parametrize("seeded", [True, False], ids=["seeded", "cloned"])
def test_the_agent_finds_its_branch_checked_out(session: Session, seeded: bool) -> None:
    git(session.host, "tag", "v1")
    secret = commit(session.host, "not in the branch", private__txt="private\n")
    session.prepare(seeded=seeded)
    session.agent("cat-file", "-e", secret, status=1)
    session.agent("fsck", "--strict", "--no-dangling")
    assert sorted(os.listdir(session.workspace)) == [".git", "a.txt", "b.txt"]
    assert session.agent("status", "--porcelain=v1", "--branch") == f"## {session.branch}...local/{session.branch}"
    assert session.agent("remote") == "local"
    assert session.agent("log", "--format=%s") == "second\nfirst"
    assert session.agent("config", "user.name") == "claude"
    assert session.agent("config", "user.email") == "claude@containai.invalid"
    refs = session.agent("for-each-ref", "--format=%(refname)").splitlines()
    assert set(refs) == {
        f"refs/heads/{session.branch}", "refs/remotes/local/HEAD", f"refs/remotes/local/{session.branch}"
    }  # fmt: skip
    assert not (session.workspace / ".git" / "hooks").exists()


@pytest.mark.parametrize("seeded", [True, False], ids=["seeded", "cloned"])
@pytest.mark.parametrize("arguments", [(), ("local",), ("local", "HEAD")])
def test_a_plain_push_works(session: Session, arguments: tuple[str, ...], seeded: bool) -> None:
    session.prepare(seeded=seeded)
    done = commit(session.workspace, "by the agent", c__txt="three\n")
    session.agent("push", "--quiet", *arguments)
    assert session.quarantine.tip() == done
    session.agent("pull", "--quiet", "--rebase")
    assert session.agent("rev-parse", "HEAD") == done


def test_pushing_main_is_refused_and_logged(session: Session) -> None:
    session.prepare()
    commit(session.workspace, "by the agent", c__txt="three\n")
    session.agent("push", "local", "HEAD:main", status=1)
    event = session.events("push")[0]
    assert (event["ref"], event["verdict"]) == ("refs/heads/main", "deny")
    assert branches(session.host)["main"] == session.source.base_commit


@pytest.mark.parametrize("seeded", [True, False], ids=["seeded", "cloned"])
def test_a_shallow_copy_and_the_rest_on_request(tmp_path: Path, seeded: bool) -> None:
    host = make_repository(tmp_path / "host")
    for number in range(30):
        commit(host, f"number {number}")
    session = open_session(host, tmp_path / "session", source=replace(resolve_source(host), depth=5))
    try:
        session.prepare(seeded=seeded)
        assert session.agent("rev-list", "--count", "HEAD") == "5"
        session.agent("fsck", "--strict", "--no-dangling")
        done = commit(session.workspace, "by the agent", c__txt="three\n")
        session.agent("push", "--quiet")
        assert session.quarantine.tip() == done
        session.agent("fetch", "--quiet", "--unshallow", "local")
        assert session.agent("rev-list", "--count", "HEAD") == "33"
        (session.workspace / "note.txt").write_text("hello\n")
        assert session.finish().committed == 1
        assert len(session.apply().commits) == 2
        git(host, "fsck", "--strict")
    finally:
        session.close()


def test_a_shallow_copy_of_a_history_full_of_merges(tmp_path: Path) -> None:
    host = make_repository(tmp_path / "host")
    for number in range(12):
        git(host, "checkout", "--quiet", "-b", f"side{number}", "HEAD~1")
        commit(host, f"side {number}", **{f"s{number}": "x\n"})
        git(host, "checkout", "--quiet", "main")
        git(host, "merge", "--quiet", "--no-edit", f"side{number}")
    session = open_session(host, tmp_path / "session", source=replace(resolve_source(host), depth=5))
    try:
        session.prepare()
        assert 1 < int(session.agent("rev-list", "--count", "HEAD")) <= 5
        session.agent("fsck", "--strict", "--no-dangling")
        assert session.agent("status", "--porcelain") == ""
        commit(session.workspace, "by the agent", c__txt="three\n")
        session.agent("push", "--quiet")
        session.agent("fetch", "--quiet", "--unshallow", "local")
        assert int(session.agent("rev-list", "--count", "HEAD")) == int(git(host, "rev-list", "--count", "main")) + 1
        assert len(session.apply().commits) == 1
        git(host, "fsck", "--strict")
    finally:
        session.close()


@pytest.mark.parametrize("branch", ['a"b', "a#b;c", "a]b", "é", "deep/er/x"])
def test_odd_branch_names(tmp_path: Path, branch: str) -> None:
    session = open_session(make_repository(tmp_path / "host"), tmp_path / "session", name=branch)
    try:
        session.prepare()
        done = commit(session.workspace, "by the agent", c__txt="three\n")
        session.agent("push", "--quiet")
        (session.workspace / "note.txt").write_text("hello\n")
        session.finish()
        returned = session.apply()
        assert returned.commits[0] == done
        assert branches(session.host)[f"claude/{branch}"] == returned.new
    finally:
        session.close()


@pytest.mark.parametrize("depth", [0, 1])
def test_shallow_and_still_shallow_at_the_end(tmp_path: Path, depth: int) -> None:
    host = make_repository(tmp_path / "host")
    session = open_session(host, tmp_path / "session", source=replace(resolve_source(host), depth=depth))
    try:
        round_trip(session)
        assert git(host, "rev-list", "--count", session.branch) == "3"
    finally:
        session.close()


def test_a_worktree_with_a_detached_head_and_a_dirty_tree(tmp_path: Path) -> None:
    host = make_repository(tmp_path / "host")
    other = tmp_path / "other"
    git(host, "worktree", "add", "--quiet", "--detach", other, "HEAD~1")
    (other / "a.txt").write_text("dirty\n")
    (other / "untracked").write_text("")
    before = fingerprint(other)
    session = open_session(other, tmp_path / "session")
    try:
        new = round_trip(session)
        assert git(host, "rev-parse", f"{new}~1") == git(host, "rev-parse", "main~1")
        assert reachable_files(host, new) == ["a.txt", "note.txt"]
        assert "1 changed file and 1 untracked" in left_out_notes(session.source)[0]
        assert fingerprint(other) == before
    finally:
        session.close()


def test_odd_file_names(tmp_path: Path) -> None:
    host = make_repository(tmp_path / "host")
    names = [
        b"with space",
        b"line\nfeed",
        b"\xff\xfe\x80",
        b'tab\tquote"back\\slash',
        "\u202erlo".encode(),
        b"-rf",
        b":(top)x",
    ]
    for name in names:
        (host / os.fsdecode(name)).write_text("x\n")
    commit(host, "odd")
    session = open_session(host, tmp_path / "session")
    try:
        session.prepare()
        assert {os.fsencode(name) for name in os.listdir(session.workspace)} >= set(names)
        for name in names:
            (session.workspace / os.fsdecode(name)).write_text("changed\n")
            (session.workspace / os.fsdecode(b"new" + name)).write_text("new\n")
        assert session.finish().committed == 14
        new = session.apply().new
        assert {os.fsencode(name) for name in reachable_files(host, new)} >= {
            *names,
            *(b"new" + name for name in names),
        }
        message = git(host, "log", "-1", "--format=%B", new)
        assert message.isascii()
        assert message.replace("\n", "").isprintable()
    finally:
        session.close()


@pytest.mark.parametrize("place", [b"with space", b"line\nfeed", b"\xff\xfe", b'quo"te\\', b"semi;colon $(x) `y`"])
def test_odd_places(tmp_path: Path, place: bytes) -> None:
    session = open_session(make_repository(tmp_path / os.fsdecode(place) / "host"), tmp_path / "session")
    try:
        round_trip(session)
    finally:
        session.close()


def test_submodules_and_lfs_pointers(tmp_path: Path) -> None:
    host, inner = make_repository(tmp_path / "host"), make_repository(tmp_path / "inner")
    git(host, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "sub")
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"
    (host / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    commit(host, "sub and lfs", big__bin=pointer)
    session = open_session(host, tmp_path / "session")
    try:
        base_tree = set(git(host, "ls-tree", "HEAD").splitlines())
        new = round_trip(session)
        added = set(git(host, "ls-tree", new).splitlines()) ^ base_tree
        assert [line.split("\t")[1] for line in added] == ["note.txt"], "neither the pointer nor the submodule changed"
        assert (session.workspace / "big.bin").read_text() == pointer
        assert os.listdir(session.workspace / "sub") == []
        assert len(left_out_notes(session.source)) == 2
    finally:
        session.close()


@pytest.mark.parametrize("seeded", [True, False], ids=["seeded", "cloned"])
@pytest.mark.parametrize("kind", ["sha256", "shallow", "borrowing", "packed"])
def test_kinds_of_host_repository(tmp_path: Path, kind: str, seeded: bool) -> None:
    host = make_repository(tmp_path / "first", object_format="sha256" if kind == "sha256" else "sha1")
    if kind == "shallow":
        git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{host}", "second")
    elif kind == "borrowing":
        git(tmp_path, "clone", "--quiet", "--shared", host, "second")
    elif kind == "packed":
        git(host, "gc", "--quiet")
        git(host, "pack-refs", "--all")
    host = tmp_path / "second" if (tmp_path / "second").exists() else host
    session = open_session(host, tmp_path / "session")
    try:
        round_trip(session, seeded=seeded)
        session.agent("fsck", "--strict", "--no-dangling")
        git(host, "fsck", "--strict")
    finally:
        session.close()


def test_two_sessions_at_once(tmp_path: Path) -> None:
    host = make_repository(tmp_path / "host")
    sessions = [open_session(host, tmp_path / f"session{number}") for number in range(3)]
    try:
        for session in sessions:
            session.prepare()
            (session.workspace / f"{session.branch[-1]}.txt").write_text(session.branch)
        for session in reversed(sessions):
            session.finish()
            session.apply()
        for session in sessions:
            assert git(host, "show", f"{session.branch}:{session.branch[-1]}.txt") == session.branch
        assert len(branches(host)) == 4
    finally:
        for session in sessions:
            session.close()


def test_a_session_without_work_leaves_the_repository_as_it_was(tmp_path: Path) -> None:
    host = make_repository(tmp_path / "host")
    before = fingerprint(host)
    session = open_session(host, tmp_path / "session")
    try:
        session.prepare()
        assert session.finish().committed == 0
        assert session.apply().commits == ()
        assert release_branch(session.source, session.branch, session.source.base_commit)
        assert fingerprint(host) == before
    finally:
        session.close()


def test_a_quarantine_in_a_directory_that_fills_up_keeps_the_work(tmp_path: Path) -> None:
    """The push is refused, finish says so, and the workspace still has everything: a second try succeeds."""
    session = open_session(make_repository(tmp_path / "host"), tmp_path / "session")
    try:
        session.prepare()
        (session.workspace / "note.txt").write_text("hello\n")
        pack = session.quarantine.path / "objects" / "pack"
        pack.rmdir()
        pack.write_text("in the way")
        assert session.finish().failed
        assert session.quarantine.tip() == session.source.base_commit
        pack.unlink()
        pack.mkdir()
        assert session.finish().failed == ""
        assert git(session.host, "show", f"{session.apply().new}:note.txt") == "hello"
    finally:
        session.close()


@pytest.mark.slow
def test_a_hundred_thousand_files(tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.mkdir()
    git(host, "init", "--quiet", "--initial-branch=main")
    lines = ["commit refs/heads/main", "committer T <t@example.org> 1700000000 +0000", "data 4", "many"]
    for number in range(100_000):
        lines += [f"M 100644 inline d{number % 300}/f{number}", f"data {len(str(number))}", str(number)]
    git(host, "fast-import", "--quiet", stdin="\n".join(lines).encode() + b"\n")
    git(host, "reset", "--quiet", "--hard")
    session = open_session(host, tmp_path / "session")
    try:
        round_trip(session)
    finally:
        session.close()
