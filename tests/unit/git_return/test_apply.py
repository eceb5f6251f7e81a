"""From the quarantine into the host repository: what arrives, where, and what never changes."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from containai.errors import ReturnFailed
from containai.git_return import apply as apply_module
from containai.git_return import inspect, transfer
from containai.git_return.apply import Returned, apply_return
from tests.support.git import ENVIRONMENT, branches, commit, fingerprint, git, make_repository
from tests.support.returning import Session, open_session
from tests.support.users import OrdinaryUser

pytestmark = pytest.mark.user


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    opened = open_session(make_repository(tmp_path / "host"), tmp_path / "session")
    yield opened
    opened.close()


def pushed(session: Session, *, force: bool = False, **files: str) -> str:
    """The agent commits and pushes."""
    if not session.workspace.exists():
        session.prepare()
    if files:
        commit(session.workspace, "work", **files)
    git(
        session.workspace, "push", "--quiet", *(["--force"] if force else []), "local", f"HEAD:{session.quarantine.ref}"
    )
    return git(session.workspace, "rev-parse", "HEAD")


def refusal(session: Session) -> ReturnFailed:
    before = fingerprint(session.host, without=(".git/objects",))
    with pytest.raises(ReturnFailed) as caught:
        session.apply()
    assert fingerprint(session.host, without=(".git/objects",)) == before
    return caught.value


def test_nothing_was_pushed(session: Session) -> None:
    before = fingerprint(session.host)
    base = session.source.base_commit
    assert session.apply() == Returned(branch=session.branch, old=base, new=base)
    assert fingerprint(session.host) == before


def test_commits_arrive_oldest_first_and_are_whole(session: Session) -> None:
    first = pushed(session, c__txt="three\n")
    second = pushed(session, d__txt="four\n")
    returned = session.apply()
    assert returned.commits == (first, second)
    assert (returned.branch, returned.old, returned.new) == (session.branch, session.source.base_commit, second)
    assert not returned.diverged
    assert branches(session.host)[session.branch] == second
    git(session.host, "fsck", "--strict")
    shutil.rmtree(session.quarantine.path)  # nothing of it is borrowed
    assert git(session.host, "show", f"{session.branch}:d.txt") == "four"


def test_nothing_else_of_the_host_changes(session: Session) -> None:
    (session.host / "a.txt").write_text("the user is working\n")
    git(session.host, "add", "a.txt")
    git(session.host, "fetch", "--quiet", ".", "main")  # so that there is a FETCH_HEAD to be left alone
    git(session.host, "merge", "--quiet", "main")
    before = fingerprint(session.host)
    pushed(session, c__txt="three\n")
    session.apply()
    after = fingerprint(session.host)
    changed = {path for path, _ in after.items() ^ before.items()}
    expected = (f".git/refs/heads/{session.branch}", f".git/logs/refs/heads/{session.branch}", ".git/objects/pack/")
    assert all(path.startswith(expected) for path in changed), changed
    assert git(session.host, "status", "--porcelain") == "M  a.txt"


def test_it_can_be_done_again(session: Session) -> None:
    pushed(session, c__txt="three\n")
    once = session.apply()
    refs = branches(session.host)
    again = session.apply()
    assert (again.branch, again.new, again.commits) == (once.branch, once.new, once.commits)
    assert branches(session.host) == refs


def test_a_session_after_a_session(session: Session, tmp_path: Path) -> None:
    """The second starts where the first ended, on packs that were returned."""
    pushed(session, c__txt="three\n")
    session.apply()
    git(session.host, "merge", "--quiet", session.branch)
    second = open_session(session.host, tmp_path / "second")
    try:
        new = pushed(second, d__txt="four\n")
        assert second.apply().commits == (new,)
    finally:
        second.close()


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_both_object_formats(tmp_path: Path, object_format: str) -> None:
    session = open_session(make_repository(tmp_path / "host", object_format=object_format), tmp_path / "session")
    try:
        new = pushed(session, c__txt="three\n")
        assert session.apply().new == new
        git(session.host, "fsck", "--strict")
    finally:
        session.close()


def test_a_host_branch_that_moved_forward_is_not_rewound(session: Session) -> None:
    git(session.host, "branch", f"{session.branch}-2")  # taken
    work = pushed(session, c__txt="three\n")
    tree = git(session.host, "rev-parse", "main^{tree}")
    human = git(session.host, "commit-tree", tree, "-p", session.branch, "-m", "by a human")
    git(session.host, "update-ref", f"refs/heads/{session.branch}", human)
    returned = session.apply()
    assert returned.diverged
    assert returned.branch == f"{session.branch}-3"
    assert session.branch in returned.notes[0]
    assert branches(session.host)[session.branch] == human
    assert branches(session.host)[returned.branch] == work
    assert session.apply().branch == returned.branch, "a second time makes no second branch"


def test_a_host_branch_that_moved_to_part_of_the_work_goes_on(session: Session) -> None:
    first = pushed(session, c__txt="three\n")
    session.apply()
    session.server = type(session.server)(session.listener, session.quarantine, session.log)
    session.server.start()
    second = pushed(session, d__txt="four\n")
    returned = session.apply()
    assert (returned.old, returned.new, returned.diverged) == (first, second, False)


def test_work_that_rewrote_the_starting_point_goes_beside(session: Session) -> None:
    session.prepare()
    git(session.workspace, "commit", "--quiet", "--amend", "-m", "rewritten")
    new = pushed(session, force=True)
    returned = session.apply()
    assert returned.diverged
    assert branches(session.host)[session.branch] == session.source.base_commit
    assert branches(session.host)[returned.branch] == new


def test_a_branch_moved_back_returns_nothing(session: Session) -> None:
    session.prepare()
    git(session.workspace, "reset", "--quiet", "--hard", "HEAD~1")
    pushed(session, force=True)
    before = fingerprint(session.host)
    returned = session.apply()
    assert returned.commits == ()
    assert "nothing to return" in returned.notes[0]
    assert fingerprint(session.host) == before


def test_a_branch_that_the_user_has_checked_out_stays_put(session: Session, tmp_path: Path) -> None:
    git(session.host, "worktree", "add", "--quiet", tmp_path / "look", session.branch)
    work = pushed(session, c__txt="three\n")
    returned = session.apply()
    assert returned.diverged
    assert branches(session.host)[session.branch] == session.source.base_commit
    assert branches(session.host)[returned.branch] == work
    assert git(tmp_path / "look", "status", "--porcelain") == ""


def test_a_branch_that_the_user_deleted_is_made_again(session: Session) -> None:
    work = pushed(session, c__txt="three\n")
    git(session.host, "branch", "--quiet", "-D", session.branch)
    assert session.apply().new == work
    assert branches(session.host)[session.branch] == work


def test_a_branch_whose_name_was_taken_meanwhile(session: Session) -> None:
    work = pushed(session, c__txt="three\n")
    git(session.host, "branch", "--quiet", "-D", session.branch)
    git(session.host, "branch", f"{session.branch}/below")
    returned = session.apply()
    assert branches(session.host)[returned.branch] == work
    assert returned.branch == f"{session.branch}-2"


def test_only_one_of_two_wins_a_race(session: Session) -> None:
    """Both say where the work is, and it is there."""
    pushed(session, c__txt="three\n")
    session.server.stop()
    base = session.source.base_commit
    with ThreadPoolExecutor(4) as threads:
        results = list(
            threads.map(lambda _: apply_return(session.source, session.quarantine, session.branch, base), range(4))
        )
    refs = branches(session.host)
    assert all(refs[result.branch] == result.new for result in results)
    assert {result.branch for result in results} <= {session.branch, f"{session.branch}-2"}


def test_a_directory_taken_for_abandoned_before_it_was_locked_is_made_again(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another transfer of the session looks for what a killed one left, just when this one has made its own."""
    pushed(session, c__txt="three\n")
    made: list[str] = []
    make = tempfile.mkdtemp

    def make_and_lose(**words: Any) -> str:
        made.append(make(**words))
        if len(made) == 1:
            transfer._remove_abandoned(words["dir"], words["prefix"])
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", make_and_lose)
    result = session.apply()
    assert branches(session.host)[result.branch] == result.new
    assert len(made) == 2
    assert not any(Path(name).exists() for name in made)


def objects_by_hand(session: Session, *, name: bytes) -> str:
    """The agent's commit with a tree entry that no git would make, put into the quarantine past its guard."""
    work = session.workspace
    blob = git(work, "hash-object", "-w", "--stdin", stdin=b"x\n")
    tree = git(work, "hash-object", "-t", "tree", "-w", "--literally", "--stdin",
               stdin=b"100644 " + name + b"\0" + bytes.fromhex(blob))  # fmt: skip
    bad = git(work, "commit-tree", tree, "-p", "HEAD", "-m", "bad")
    git(session.quarantine.path, "config", "transfer.fsckObjects", "false")
    git(session.quarantine.path, "config", "receive.fsckObjects", "false")
    git(work, "push", "--quiet", "local", f"{bad}:{session.quarantine.ref}")
    return bad


@pytest.mark.parametrize("name", [b".git", b".GIT", b"git~1", ".g\u200cit".encode(), b"..", b".gitmodules\0"[:-1]])
def test_names_that_mean_git_elsewhere_are_refused_here_too(session: Session, name: bytes) -> None:
    """The second of two checks: here the quarantine's own has been switched off."""
    session.prepare()
    bad = objects_by_hand(session, name=name)
    if name == b".gitmodules":  # the control: a harmless name made the same way arrives
        assert session.apply().new == bad
        return
    assert refusal(session).code == "return.fsck"
    assert branches(session.host)[session.branch] == session.source.base_commit


def test_names_too_long_to_check_out(session: Session) -> None:
    session.prepare()
    objects_by_hand(session, name=b"x" * 300)
    assert refusal(session).code == "return.path-too-long"


def test_paths_too_long_to_check_out(session: Session) -> None:
    session.prepare()
    tree = git(session.workspace, "rev-parse", "HEAD^{tree}")
    for _ in range(20):
        tree = git(session.workspace, "mktree", stdin=f"040000 tree {tree}\t{'d' * 200}\n".encode())
    deep = git(session.workspace, "commit-tree", tree, "-p", "HEAD", "-m", "deep")
    git(session.workspace, "push", "--quiet", "local", f"{deep}:{session.quarantine.ref}")
    assert refusal(session).code == "return.path-too-long"


def test_too_many_objects(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed(session, c__txt="three\n")
    monkeypatch.setattr(apply_module, "MAX_OBJECTS", 1)
    assert refusal(session).code == "return.too-large"


def test_a_few_objects_that_describe_ten_billion_paths(session: Session) -> None:
    session.prepare()
    blob = git(session.workspace, "hash-object", "-w", "--stdin", stdin=b"x")
    tree = git(session.workspace, "mktree", stdin=f"100644 blob {blob}\tx\n".encode())
    for _ in range(10):
        tree = git(session.workspace, "mktree", stdin="".join(f"040000 tree {tree}\t{n}\n" for n in range(10)).encode())
    bomb = git(session.workspace, "commit-tree", tree, "-p", "HEAD", "-m", "bomb")
    git(session.workspace, "push", "--quiet", "local", f"{bomb}:{session.quarantine.ref}")
    assert refusal(session).code == "return.too-large"


def test_a_refused_transfer_and_a_killed_one_leave_nothing(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = session.host / ".git" / "objects"
    abandoned = objects / f"tmp_objdir-containai-{session.place.name}-x"
    foreign = [objects / "tmp_objdir-incoming-x", objects / "pack" / "tmp_pack_x"]
    for folder in (abandoned / "pack", foreign[0]):
        folder.mkdir(parents=True)
    foreign[1].write_text("another git is at work")
    session.prepare()
    (session.workspace / "big").write_bytes(os.urandom(300_000))
    pushed(session, c__txt="three\n")
    monkeypatch.setattr(apply_module, "MAX_TOTAL_BYTES", 100_000)
    assert refusal(session).code == "return.too-large"
    assert sorted(objects.rglob("tmp_*")) == sorted(foreign)


def test_names_that_other_systems_confuse_are_told(session: Session) -> None:
    session.prepare()
    (session.workspace / "aux").write_text("x\n")
    pushed(session, A__txt="twin\n", fine="x\n")
    notes = session.apply().notes
    assert [note.split(" ")[0] for note in notes] == ["1", "1"]
    assert "only in case" in notes[0]
    assert "Windows" in notes[1]


def deep(session: Session, folders: int, levels: int = 1800) -> None:
    """The agent pushes a file in each of some folders, all of which hold one and the same chain of folders."""
    session.prepare()
    said = "commit refs/heads/deep\ncommitter a <a@b> 1 +0000\ndata 4\ndeep\nfrom HEAD\n"
    said += "".join(f"M 100644 inline {n}/{'a/' * levels}f\ndata 2\nx\n" for n in range(folders))
    git(session.workspace, "fast-import", "--quiet", stdin=said.encode())
    git(session.workspace, "push", "--quiet", "local", f"deep:{session.quarantine.ref}")


def test_long_names_of_few_objects_take_little_memory(session: Session) -> None:
    deep(session, 30)
    tracemalloc.start()
    try:
        assert session.apply().commits
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_of_too_many_names_the_first_are_compared(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    session.prepare()
    pushed(session, A__txt="twin\n", b="x\n", zz="x\n", ZZ="x\n")
    monkeypatch.setattr(inspect, "MAX_COMPARED", 1)
    notes = session.apply().notes
    assert [note.split(" ")[0] for note in notes] == ["1", "so"]


def test_too_many_bytes_of_changed_paths(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    deep(session, 30)
    monkeypatch.setattr(inspect, "MAX_CHANGED_BYTES", 100_000)
    assert refusal(session).code == "return.too-large"


def test_too_many_bytes(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    session.prepare()
    (session.workspace / "big").write_bytes(os.urandom(300_000))
    pushed(session, c__txt="three\n")
    monkeypatch.setattr(apply_module, "MAX_TOTAL_BYTES", 100_000)
    assert refusal(session).code == "return.too-large"


def test_missing_objects(session: Session) -> None:
    pushed(session, c__txt="three\n")
    session.server.stop()
    for path in (session.quarantine.path / "objects" / "pack").iterdir():
        path.unlink()
    assert refusal(session).code == "return.incomplete"


@pytest.mark.needs("root")
def test_a_host_repository_that_cannot_be_written_keeps_the_work_in_the_session(session: Session) -> None:
    work = pushed(session, c__txt="three\n")
    pack = session.host / ".git" / "objects" / "pack"
    if subprocess.run(["chattr", "+i", pack], capture_output=True, check=False).returncode != 0:
        pytest.skip("this file system has no immutable flag")
    try:
        assert refusal(session).code == "return.unwritable"
    finally:
        subprocess.run(["chattr", "-i", pack], check=True)
    assert session.quarantine.tip() == work
    assert session.apply().new == work


def test_a_hostile_repository_configuration_and_its_hooks_do_nothing(session: Session, tmp_path: Path) -> None:
    """Everything that the agent can plant in its own repository, and still nothing runs on the host."""
    session.prepare()
    witness = tmp_path / "witness"
    planted = session.workspace / ".git"
    run = f"touch {witness}"
    for hook in ("post-update", "pre-receive", "update", "post-receive", "reference-transaction", "post-merge"):
        path = planted / "hooks" / hook
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{run}\n")
        path.chmod(0o755)
    for key in (
        "core.fsmonitor",
        "core.sshCommand",
        "uploadpack.packObjectsHook",
        "core.alternateRefsCommand",
        "gpg.program",
    ):
        git(session.workspace, "config", key, run)
    files = {
        "__gitattributes": "* filter=evil diff=evil merge=evil export-subst\n",
        "__gitmodules": '[submodule "x"]\n\tpath = x\n\turl = https://example.org/x\n\tupdate = none\n',
        "__gitconfig": f"[core]\n\tfsmonitor = {run}\n",
    }
    git(session.workspace, "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "add", "-A")
    for name, content in files.items():
        (session.workspace / name.replace("__", ".")).write_text(content)
    (session.workspace / "out").symlink_to("/etc/passwd")
    safe = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
    git(session.workspace, *safe, "add", "-A")
    git(session.workspace, *safe, "commit", "--quiet", "-m", "planted")
    git(session.workspace, *safe, "push", "--quiet", "local", f"HEAD:{session.quarantine.ref}")
    assert not witness.exists()
    before = fingerprint(
        session.host, without=(".git/objects", ".git/refs/heads/claude", ".git/logs/refs/heads/claude")
    )
    assert len(session.apply().commits) == 1
    after = fingerprint(session.host, without=(".git/objects", ".git/refs/heads/claude", ".git/logs/refs/heads/claude"))
    assert after == before
    assert not witness.exists()


@pytest.mark.needs("root")
def test_root_returns_into_a_users_repository_as_that_user(tmp_path: Path, ordinary: OrdinaryUser) -> None:
    for parent in (tmp_path, *tmp_path.parents):
        parent.chmod(parent.stat().st_mode | 0o011)
    host = make_repository(tmp_path / "host")
    subprocess.run(["chown", "-R", f"{ordinary.uid}:{ordinary.gid}", host], check=True)
    home = tmp_path / "home"
    home.mkdir()
    subprocess.run(
        ["git", "config", "--global", "--add", "safe.directory", host], env={**ENVIRONMENT, "HOME": str(home),
         "GIT_CONFIG_GLOBAL": str(home / ".gitconfig")}, check=True)  # fmt: skip
    from containai.workspace.source import resolve_source

    session = open_session(host, tmp_path / "session", source=resolve_source(host, user={"HOME": str(home)}))
    try:
        session.prepare()
        commit(session.workspace, "work", c__txt="three\n")
        git(session.workspace, "push", "--quiet", "local")
        session.apply()
    finally:
        session.close()
    strangers = [path for path in host.rglob("*") if path.lstat().st_uid != ordinary.uid]
    assert strangers == []
    seen = ordinary.run(["git", "-C", host, "show", f"{session.branch}:c.txt"])
    assert seen.stdout == b"three\n", seen.stderr
