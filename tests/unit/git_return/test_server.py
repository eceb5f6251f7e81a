"""The return server against clients that mean no good."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from containai.errors import AuditError
from containai.git_return import closure as closure_module
from containai.git_return import push as push_module
from containai.git_return import relay as relay_module
from containai.git_return import server as server_module
from containai.git_return.quarantine import MAX_OBJECTS
from containai.git_return.wire import packet
from tests.support.git import branches, commit, fingerprint, git, make_repository
from tests.support.returning import Session, open_session

pytestmark = pytest.mark.user

REQUEST_PUSH = packet(b"git-receive-pack /return.git\0host=x\0")
REQUEST_FETCH = packet(b"git-upload-pack /return.git\0host=x\0")
ZERO = "0" * 40


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    opened = open_session(make_repository(tmp_path / "host"), tmp_path / "session")
    yield opened
    opened.close()


def talk(session: Session, *messages: bytes, timeout_s: float = 20) -> bytes:
    """Send, then read until the server hangs up."""
    with socket.create_connection(session.listener.getsockname(), timeout=timeout_s) as client:
        answer = b""
        try:
            for message in messages:
                client.sendall(message)
            while chunk := client.recv(65536):
                answer += chunk
        except ConnectionError:
            pass
        return answer


def children_of_this_process() -> list[str]:
    """Names of the processes that descend from this one, without its threads."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = entry.read_text().partition(" (")[2].rpartition(") ")
        except OSError:
            continue
        fields = rest.split()
        if fields[1] == str(os.getpid()) and fields[0] != "Z":
            found.append(name)
    return found


def refused(session: Session) -> list[dict[str, Any]]:
    return [event for name in ("push", "connection") for event in session.events(name) if event["verdict"] == "deny"]


def clone(session: Session, name: str = "clone") -> Path:
    git(session.place, "clone", "--quiet", session.url, name)
    return session.place / name


@pytest.mark.parametrize(
    "message",
    [
        b"garbage garbage garbage",
        b"\0" * 100,
        b"ffff" + b"x" * 70000,
        b"0000",
        packet(b"git-upload-pack /../return.git\0host=x\0"),
        packet(b"git-upload-pack /etc/passwd\0host=x\0"),
        packet(b"git-upload-archive /return.git\0host=x\0"),
        packet(b"git-upload-pack --help\0"),
        b"GET /return.git HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_requests_that_are_none(session: Session, message: bytes) -> None:
    before = fingerprint(session.quarantine.path)
    answer = talk(session, message)
    assert b"ERR " in answer
    assert b"refs/" not in answer
    assert fingerprint(session.quarantine.path) == before
    assert [event["event"] for event in refused(session)] == ["connection"]
    assert children_of_this_process() == []


def test_the_host_repository_itself_cannot_be_reached(session: Session) -> None:
    secret = str(session.host)
    for path in (secret, f"/return.git/../..{secret}", f"{secret}/.git", "/return.git/.", "/~/"):
        url = session.url.removesuffix("/return.git") + path
        git(session.place, "ls-remote", url, status=128)
    assert len(refused(session)) == 5


def test_only_the_branch_is_shown_and_given(session: Session) -> None:
    secret = commit(session.host, "secret work of the user", secret__txt="secret\n")
    git(session.host, "tag", "v1", secret)
    shown = git(session.place, "ls-remote", session.url).splitlines()
    assert {line.split("\t")[1] for line in shown} == {"HEAD", f"refs/heads/{session.branch}"}
    work = clone(session)
    for protocol in ("0", "1", "2"):
        git(work, "-c", f"protocol.version={protocol}", "fetch", "origin", secret, status=None)
        git(work, "cat-file", "-e", secret, status=1)
    # A client of the agent's own making asks without having been offered.
    want = packet(f"want {secret} ofs-delta\n".encode()) + b"0000" + packet(b"done\n")
    for version in (b"", b"\0version=1\0", b"\0version=2\0"):
        answer = talk(session, packet(b"git-upload-pack /return.git\0host=x\0" + version), want)
        assert b"not our ref" in answer
        assert b"PACK" not in answer
    # The advertisement of a push tells no more than that of a fetch.
    answer = talk(session, REQUEST_PUSH, b"0000")
    assert answer.count(b"refs/") == 1
    assert secret.encode() not in answer
    assert b".have" not in answer


def test_pushes_move_one_ref_only(session: Session) -> None:
    work = clone(session)
    new = commit(work, "work", c__txt="three\n")
    for target in ("main", "refs/heads/other", "refs/tags/v1", "refs/notes/x", f"{session.branch}-2", "refs/replace/x"):
        git(work, "push", session.url, f"HEAD:{target if '/' in target else 'refs/heads/' + target}", status=1)
    git(work, "push", session.url, f"HEAD:refs/heads/{session.branch}/below", status=1)
    git(work, "ls-remote", session.url)  # waits for its turn, so the pushes are all over
    assert branches(session.quarantine.path, "refs") == {session.branch: session.source.base_commit}
    assert os.listdir(session.quarantine.path / "objects" / "pack") == []
    git(work, "push", "--quiet", session.url, f"HEAD:refs/heads/{session.branch}")
    assert branches(session.quarantine.path, "refs") == {session.branch: new}
    pushes = session.events("push")
    assert [event["verdict"] for event in pushes] == ["deny"] * 7 + ["allow"]
    assert pushes[0]["ref"] == "refs/heads/main"
    assert pushes[-1]["old"] == session.source.base_commit
    assert pushes[-1]["new"] == new
    assert branches(session.host) == {"main": session.source.base_commit, session.branch: session.source.base_commit}


def test_the_branch_cannot_be_deleted(session: Session) -> None:
    work = clone(session)
    git(work, "push", session.url, f":refs/heads/{session.branch}", status=1)
    assert session.quarantine.tip() == session.source.base_commit
    assert [event["reason"] for event in refused(session)] == ["the branch cannot be deleted"]


def test_an_amended_commit_replaces_the_pushed_one(session: Session) -> None:
    work = clone(session)
    commit(work, "work", c__txt="three\n")
    git(work, "push", "--quiet", session.url, f"HEAD:refs/heads/{session.branch}")
    git(work, "commit", "--quiet", "--amend", "-m", "better work")
    git(work, "push", "--quiet", "--force", session.url, f"HEAD:refs/heads/{session.branch}")
    assert session.quarantine.tip() == git(work, "rev-parse", "HEAD")


def test_a_thousand_refs(session: Session) -> None:
    commands = [
        packet(f"{ZERO} {session.source.base_commit} refs/heads/x{number}\0side-band-64k\n".encode())
        for number in range(1000)
    ]
    answer = talk(session, REQUEST_PUSH, *commands, b"0000")
    assert b"too many refs" in answer
    assert branches(session.quarantine.path, "refs") == {session.branch: session.source.base_commit}
    assert len(refused(session)) == 1


def test_a_command_list_without_end(session: Session) -> None:
    line = packet(f"shallow {session.source.base_commit}".encode())
    started = time.monotonic()
    talk(session, REQUEST_PUSH, line * 40000)
    assert time.monotonic() - started < 15
    assert len(refused(session)) == 1


@pytest.mark.parametrize("count", [MAX_OBJECTS + 1, 2**32 - 1])
def test_too_many_objects_are_refused_before_git_sees_them(session: Session, count: int) -> None:
    base = session.source.base_commit
    command = packet(f"{base} {'1' * 40} {session.quarantine.ref}\0report-status side-band-64k\n".encode())
    answer = talk(session, REQUEST_PUSH, command + b"0000", b"PACK\0\0\0\2" + count.to_bytes(4, "big") + b"x" * 1000)
    assert b"objects in one push" in answer
    assert session.quarantine.tip() == base
    assert len(refused(session)) == 1


def test_too_many_bytes_are_refused_and_leave_nothing(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_module, "MAX_PACK_BYTES", 100_000)
    work = clone(session)
    (work / "big").write_bytes(os.urandom(400_000))
    commit(work)
    git(work, "push", session.url, f"HEAD:refs/heads/{session.branch}", status=1)
    assert session.quarantine.tip() == session.source.base_commit
    session.server.stop()
    sizes = [path.stat().st_size for path in (session.quarantine.path / "objects").rglob("*") if path.is_file()]
    assert sum(sizes) < 1000


def test_the_session_has_a_total(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_module, "MAX_TOTAL_BYTES", 150_000)
    work = clone(session)
    for number in range(3):
        (work / "big").write_bytes(os.urandom(100_000))
        commit(work, str(number))
        git(work, "push", session.url, f"HEAD:refs/heads/{session.branch}", status=0 if number == 0 else 1)
    assert sum(session.quarantine.packs().values()) <= 150_000


def test_broken_objects_are_refused(session: Session) -> None:
    """A tree with a twin of .git, which fsck knows; a plain git accepts it."""
    work = clone(session)
    blob = git(work, "hash-object", "-w", "--stdin", stdin=b"[core]\n")
    for name in (b".git", b".GIT", b"git~1", ".g\u200cit".encode(), b".."):
        tree = git(work, "hash-object", "-t", "tree", "-w", "--literally", "--stdin",
                   stdin=b"100644 " + name + b"\0" + bytes.fromhex(blob))  # fmt: skip
        bad = git(work, "commit-tree", tree, "-p", "HEAD", "-m", "bad")
        git(work, "push", session.url, f"{bad}:refs/heads/{session.branch}", status=1)
        assert session.quarantine.tip() == session.source.base_commit, name
    assert len(refused(session)) == 5


def test_objects_that_were_never_given_cannot_be_had_by_pushing_their_name(session: Session) -> None:
    """The quarantine borrows all objects of the host: naming one in a push must not deliver it."""
    secret = commit(session.host, "secret", secret__txt="the secret\n")
    tree = git(session.host, "rev-parse", f"{secret}^{{tree}}")
    work = clone(session)
    # A commit onto the secret one, and one with the secret tree. The client has neither, so packs are made by hand.
    for body in (
        f"tree {git(work, 'rev-parse', 'HEAD^{tree}')}\nparent {secret}\n",
        f"tree {tree}\nparent {session.source.base_commit}\n",
    ):
        person = "A <a@example.org> 1700000000 +0000"
        theft = git(work, "hash-object", "-t", "commit", "-w", "--literally", "--stdin",
                    stdin=f"{body}author {person}\ncommitter {person}\n\nx\n".encode())  # fmt: skip
        pack = raw_pack(work, theft)
        command = packet(f"{session.source.base_commit} {theft} {session.quarantine.ref}\0report-status\n".encode())
        talk(session, REQUEST_PUSH, command + b"0000" + pack)
        assert session.quarantine.tip() == session.source.base_commit
        assert session.quarantine.packs() == {}
        git(work, "fetch", "--quiet", session.url, session.quarantine.ref)
        git(work, "cat-file", "-e", secret, status=1)
    # And without any object of its own: the branch simply set to the secret commit.
    command = packet(f"{session.source.base_commit} {secret} {session.quarantine.ref}\0report-status\n".encode())
    talk(session, REQUEST_PUSH, command + b"0000" + raw_pack(work))
    assert session.quarantine.tip() == session.source.base_commit
    assert len([event for event in refused(session) if "not given" in event["reason"]]) == 3


def test_a_delta_against_an_object_that_was_never_given(session: Session) -> None:
    """A thin pack makes git complete it with the secret object: then the pack itself would hold it."""
    secret = commit(session.host, "secret", secret__txt="the secret\n")
    blob = git(session.host, "rev-parse", f"{secret}:secret.txt")
    size = len("the secret\n")
    work = clone(session)
    tree = git(work, "mktree", "--missing", stdin=f"100644 blob {blob}\tstolen\n".encode())
    theft = git(work, "commit-tree", tree, "-p", "HEAD", "-m", "x")
    delta = bytes([size, 1, 1, ord("!")])  # from the secret, whatever it is, to "!"
    entry = bytes([0x70 | len(delta)]) + bytes.fromhex(blob) + zlib_of(delta)
    pack = raw_pack(work, tree, theft, extra=(entry,))
    command = packet(f"{session.source.base_commit} {theft} {session.quarantine.ref}\0report-status\n".encode())
    talk(session, REQUEST_PUSH, command + b"0000" + pack)
    assert session.quarantine.tip() == session.source.base_commit
    assert session.quarantine.packs() == {}
    assert [event["reason"] for event in refused(session)] == [
        "the pack leans on objects that it does not hold (push with --no-thin)"
    ]


def test_old_content_that_comes_back_is_no_theft(session: Session) -> None:
    """A client may leave out objects that it knows we have: here, the whole tree of the commit before."""
    work = clone(session)
    restored = git(work, "commit-tree", "HEAD~1^{tree}", "-p", "HEAD", "-m", "back")
    command = packet(f"{session.source.base_commit} {restored} {session.quarantine.ref}\0report-status\n".encode())
    talk(session, REQUEST_PUSH, command + b"0000" + raw_pack(work, restored))
    assert session.quarantine.tip() == restored
    assert session.events("push")[0]["verdict"] == "allow"


def test_a_push_that_refers_to_endless_objects_of_earlier_ones(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each push is bounded; the next one may refer to the objects of all that were before it."""
    work = clone(session)
    base, ref = session.source.base_commit, session.quarantine.ref
    for number in range(5):
        (work / f"{number}").write_text(f"{number}\n")
    full = commit(work, "five")
    git(work, "push", "--quiet", session.url, f"{full}:{ref}")
    git(work, "push", "--quiet", "--force", session.url, f"{base}:{ref}")
    again = git(work, "commit-tree", f"{full}^{{tree}}", "-p", base, "-m", "again")
    command = packet(f"{base} {again} {ref}\0report-status\n".encode())
    monkeypatch.setattr(closure_module, "_MOST_MISSING", 4)
    talk(session, REQUEST_PUSH, command + b"0000" + raw_pack(work, again))
    assert session.quarantine.tip() == base
    monkeypatch.setattr(closure_module, "_MOST_MISSING", 6)
    talk(session, REQUEST_PUSH, command + b"0000" + raw_pack(work, again))
    assert session.quarantine.tip() == again
    assert [event["reason"] for event in refused(session)] == [
        "it refers to more than 4 objects that it does not bring"
    ]


def raw_pack(repository: Path, *names: str, extra: tuple[bytes, ...] = ()) -> bytes:
    """A pack with exactly these objects, and entries made by hand."""
    import hashlib

    kinds = {"commit": 1, "tree": 2, "blob": 3}
    entries = list(extra)
    for name in names:
        kind = git(repository, "cat-file", "-t", name)
        done = __import__("subprocess").run(
            ["git", "-C", repository, "cat-file", kind, name], capture_output=True, check=True, timeout=30
        )
        size = len(done.stdout)
        head = bytearray([(kinds[kind] << 4) | (size & 15)])
        size >>= 4
        while size:
            head[-1] |= 0x80
            head.append(size & 0x7F)
            size >>= 7
        entries.append(bytes(head) + zlib_of(done.stdout))
    body = b"PACK\0\0\0\2" + len(entries).to_bytes(4, "big") + b"".join(entries)
    return body + hashlib.sha1(body).digest()


def zlib_of(data: bytes) -> bytes:
    import zlib

    return zlib.compress(data)


def test_a_client_that_says_nothing(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_REQUEST_S", 0.3)
    monkeypatch.setattr(push_module, "IDLE_S", 0.3)
    monkeypatch.setattr(relay_module, "IDLE_S", 0.3)
    started = time.monotonic()
    talk(session, b"00")
    talk(session, REQUEST_PUSH)
    talk(session, REQUEST_FETCH)
    base = session.source.base_commit
    command = packet(f"{base} {'1' * 40} {session.quarantine.ref}\0report-status\n".encode()) + b"0000"
    talk(session, REQUEST_PUSH, command)
    talk(session, REQUEST_PUSH, command, b"PACK\0\0\0\2\0\0\0\5")
    assert time.monotonic() - started < 15
    session.server.stop()
    assert children_of_this_process() == []
    assert session.quarantine.tip() == base


def test_silent_clients_do_not_lock_out_others(session: Session) -> None:
    silent = [socket.create_connection(session.listener.getsockname(), timeout=20) for _ in range(10)]
    half = socket.create_connection(session.listener.getsockname(), timeout=20)
    half.sendall(REQUEST_PUSH)
    try:
        assert git(session.place, "ls-remote", session.url)
    finally:
        for client in (*silent, half):
            client.close()


def test_more_clients_than_allowed_are_sent_away(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_MAX_CLIENTS", 2)
    clients = [socket.create_connection(session.listener.getsockname(), timeout=20) for _ in range(6)]
    time.sleep(0.3)
    gone = [client for client in clients if _hung_up(client)]
    for client in clients:
        client.close()
    assert len(gone) == 4


def _hung_up(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_stop_is_prompt_and_complete_in_the_middle_of_everything(session: Session) -> None:
    clients = []
    for messages in ([b""], [REQUEST_FETCH], [REQUEST_PUSH], [b"00"]):
        client = socket.create_connection(session.listener.getsockname(), timeout=20)
        client.sendall(b"".join(messages))
        clients.append(client)
    base = session.source.base_commit
    pushing = socket.create_connection(session.listener.getsockname(), timeout=20)
    command = packet(f"{base} {'1' * 40} {session.quarantine.ref}\0report-status\n".encode())
    pushing.sendall(REQUEST_PUSH + command + b"0000PACK\0\0\0\2\0\0\1\0")
    time.sleep(0.4)
    started = time.monotonic()
    session.server.stop()
    assert time.monotonic() - started < 15
    assert children_of_this_process() == []
    for client in (*clients, pushing):
        client.close()
    assert session.quarantine.tip() == base
    # The caller's own listener still takes connections; nobody answers them.
    late = socket.create_connection(session.listener.getsockname(), timeout=0.3)
    with late, pytest.raises(TimeoutError):
        late.recv(1)
    session.server.stop()


def test_when_the_log_fails_nothing_more_is_served(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AuditError("no space")

    assert git(session.place, "ls-remote", session.url)
    monkeypatch.setattr(session.log, "append", fail)
    git(session.place, "ls-remote", session.url, status=None)
    deadline = time.monotonic() + 5
    while session.server.failure is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert session.server.failure is not None
    assert talk(session, REQUEST_FETCH) == b""


def test_a_store_that_cannot_be_written_refuses_the_push(session: Session) -> None:
    work = clone(session)
    commit(work, "work", c__txt="three\n")
    pack = session.quarantine.path / "objects" / "pack"
    shutil.rmtree(pack)
    pack.write_text("in the way")
    git(work, "push", session.url, f"HEAD:refs/heads/{session.branch}", status=128)
    assert len(refused(session)) == 1
    pack.unlink()
    pack.mkdir()
    assert session.quarantine.tip() == session.source.base_commit


def test_the_host_repository_is_untouched_by_all_this(session: Session) -> None:
    before = fingerprint(session.host)
    work = clone(session)
    commit(work, "work", c__txt="three\n")
    git(work, "push", "--quiet", session.url, f"HEAD:refs/heads/{session.branch}")
    git(work, "push", "--quiet", session.url, "HEAD:refs/heads/main", status=1)
    git(work, "fetch", "--quiet")
    session.server.stop()
    assert fingerprint(session.host) == before
