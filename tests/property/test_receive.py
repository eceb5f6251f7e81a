"""The receiving side against packs, commands and requests of every make.

Real server, real git, a host repository of its own for each example. The judge is plain git, which knows nothing of the
product: whatever was sent, the host repository is sound, no ref but the session's has moved, no other file has changed,
and what the host never showed cannot be fetched.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from containai.errors import ContainaiError
from containai.git_return.apply import apply_return
from tests.support import packs
from tests.support.git import ENVIRONMENT, branches, commit, fingerprint, git, make_repository
from tests.support.returning import Session, open_session

pytestmark = [pytest.mark.property, pytest.mark.user, pytest.mark.timeout(300)]

DEPTH = max(24, settings.default.max_examples // 5) if settings.default else 24
NOWHERE = "1" * 40
ZERO = "0" * 40
FORBIDDEN = {b"", b".", b"..", b".git"}
MODES = {"100644", "100755", "120000", "040000", "160000"}


@dataclass(frozen=True)
class Ground:
    """The repository that each example gets a copy of, and the names in it."""

    template: Path
    base: str
    before_base: str
    tree: str
    file: str
    secret_commit: str
    secret_blob: str

    def known(self) -> list[str]:
        """Names that an object of the agent's may mention."""
        return [
            self.base, self.before_base, self.tree, self.file, self.secret_commit, self.secret_blob, NOWHERE, ZERO
        ]  # fmt: skip


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    host = make_repository(tmp_path_factory.mktemp("ground") / "host")
    git(host, "checkout", "--quiet", "-b", "other")
    secret = commit(host, "never shown", private__txt="the host's own words, which nobody inside has seen\n")
    git(host, "checkout", "--quiet", "main")
    return Ground(
        template=host,
        base=git(host, "rev-parse", "main"),
        before_base=git(host, "rev-parse", "main~1"),
        tree=git(host, "rev-parse", "main^{tree}"),
        file=git(host, "rev-parse", "main:a.txt"),
        secret_commit=secret,
        secret_blob=git(host, "rev-parse", f"{secret}:private.txt"),
    )


@contextlib.contextmanager
def served(ground: Ground, place: Path) -> Iterator[Session]:
    """A session on a fresh copy."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    shutil.copytree(ground.template, place / "host", symlinks=True)
    session = open_session(place / "host", place / "session")
    try:
        yield session
    finally:
        session.close()


# --- what is sent -----------------------------------------------------------------------------------

NAMES = st.one_of(
    st.sampled_from(
        [b"a.txt", b"new", b"dir", b".git", b".GIT", b"git~1", b".git ", b".g\xe2\x80\x8cit", b"..", b".", b"", b"a/b",
         b"../up", b".gitmodules", b".gitattributes", b"\xff\xfe", b"con", b"x" * 300, b"A.TXT", b"\x1b[2J"]
    ),
    st.binary(min_size=1, max_size=4).map(lambda name: name.replace(b"\0", b"0")),
)  # fmt: skip
MODE = st.sampled_from(
    [b"100644"] * 9 + [b"100755", b"40000", b"120000", b"160000", b"100664", b"0", b"040000", b"777777", b"-1"]
)
WHO = st.one_of(
    st.just(b"A <a@example.org> 1 +0000"),
    st.sampled_from(
        [b"", b"A", b"A <a> 99999999999999999999 +0000", b"A <a\0b> 1 +0000", b"<> 1", b"A <b> 1 +9999999"]
    ),
    st.binary(max_size=12),
)
EXTRA = st.sampled_from([b"", b"", b"encoding x\n", b"gpgsig x\n y\n", b"parent " + b"1" * 40 + b"\n", b"mergetag \n"])
INSTRUCTIONS = st.one_of(
    st.just(b"\x04\x04\x90\x04"),  # the four bytes of a.txt, copied
    st.just(b"\x33\x33\x90\x33"),  # the private file, copied whole
    st.binary(max_size=12),
)


@st.composite
def objects(draw: st.DrawFn, ground: Ground, *, odd: bool) -> list[packs.Made | bytes]:
    """Objects that mention each other; some, if odd, what is nowhere or never was shown. The last is a commit."""
    result: list[packs.Made | bytes] = []

    def now() -> bool:
        return odd and draw(st.integers(0, 7)) == 0

    def mention(kind: str, usual: str) -> str:
        own = [thing.name for thing in result if isinstance(thing, packs.Made) and thing.kind == kind]
        return draw(st.sampled_from(ground.known())) if now() else own[-1] if own else usual

    def rows() -> list[tuple[bytes, bytes, str]]:
        names = sorted(draw(st.sets(NAMES if now() else st.sampled_from([b"a.txt", b"new", b"x.py"]), max_size=3)))
        if now():
            names.reverse()
        return [(draw(MODE) if now() else b"100644", name, mention("blob", ground.file)) for name in names]

    def who() -> bytes:
        return draw(WHO) if now() else b"A <a@example.org> 1 +0000"

    for shape in draw(st.lists(st.sampled_from("btcbtcbtcxdo" if odd else "btc"), max_size=5)):
        if shape == "b":
            result.append(packs.blob(draw(st.binary(max_size=20))))
        elif shape == "t":
            result.append(packs.tree(*rows()))
        elif shape == "c":
            result.append(packs.commit(mention("tree", ground.tree), mention("commit", ground.base), who=who()))
        elif shape == "x":
            result.append(packs.made(draw(st.sampled_from(sorted(packs.KINDS))), draw(st.binary(max_size=30))))
        elif shape == "d":
            result.append(packs.delta_on(draw(st.sampled_from(ground.known())), draw(INSTRUCTIONS)))
        else:
            result.append(packs.delta_before(draw(st.integers(0, 127)), draw(INSTRUCTIONS)))
    parents = [mention("commit", ground.base) for _ in range(draw(st.integers(0, 3)) if now() else 1)]
    extra = draw(EXTRA) if now() else b""
    result.append(packs.commit(mention("tree", ground.tree), *parents, who=who(), extra=extra))
    return result


@st.composite
def packed(draw: st.DrawFn, things: list[packs.Made | bytes]) -> bytes:
    """These in a pack, which may be damaged."""
    entries = [thing.entry if isinstance(thing, packs.Made) else thing for thing in things]
    damage = draw(
        st.sampled_from(["none"] * 12 + ["drop", "twice", "order", "count", "version", "flip", "cut", "tail"])
    )
    if damage == "drop":
        entries.pop(draw(st.integers(0, len(entries) - 1)))
    elif damage == "twice":
        entries.append(draw(st.sampled_from(entries)))
    elif damage == "order":
        entries = draw(st.permutations(entries))
    count = draw(st.sampled_from([0, 1, len(entries) + 1, 2**31, 2**32 - 1])) if damage == "count" else None
    data = packs.pack(*entries, announced=count, version=draw(st.integers(0, 4)) if damage == "version" else 2)
    at = draw(st.integers(0, len(data) - 1))
    if damage == "flip":
        return data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
    return data[:at] if damage == "cut" else data + draw(st.binary(max_size=40)) if damage == "tail" else data


def honest_command(old: str, new: str, ref: str) -> bytes:
    """The command list of a plain push."""
    return packs.line(f"{old} {new} {ref}".encode() + b"\0report-status") + b"0000"


@st.composite
def command_lines(draw: st.DrawFn, ground: Ground, tip: str, ours: str) -> bytes:
    """A command list that asks for other refs, says what is not so, or is none."""
    ref = st.sampled_from(
        [ours, ours, ours, "refs/heads/main", "HEAD", "refs/notes/containai", "refs/heads/../../config", f"{ours}/x", "main",
         f"refs/replace/{ground.base}", "refs/heads/" + "y" * 300, "refs/heads/a b", "refs/tags/v1"]
    )  # fmt: skip
    name = st.sampled_from([ground.base, tip, *ground.known()])
    commands = draw(st.lists(st.tuples(name, name, ref), max_size=3))
    lines = [f"{old} {new} {ref}".encode() for old, new, ref in commands]
    caps = draw(
        st.sampled_from([b"report-status", b"report-status side-band-64k", b"", b"atomic push-options", b"\xff"])
    )
    shallow = packs.line(b"shallow " + ground.base.encode()) if draw(st.booleans()) else b""
    end = draw(st.sampled_from([b"0000", b"0000", b"0000", b"", b"0001", b"0002", b"ffff", b"zzzz"]))
    return (
        shallow
        + b"".join([packs.line(text + b"\0" + caps) for text in lines[:1]] + [*map(packs.line, lines[1:])])
        + end
    )


REQUESTS = st.one_of(
    st.binary(max_size=60),
    st.builds(
        lambda service, path, rest: packs.line(b"git-" + service + b" " + path + rest),
        st.sampled_from([b"upload-pack", b"receive-pack", b"upload-archive", b"--exec=x upload-pack"]),
        st.sampled_from(
            [b"/return.git", b"/return.git/", b"/", b"/../return.git", b"'/return.git'", b"/return.git\n/etc"]
        ),
        st.one_of(st.just(b"\0host=x\0\0version=2\0"), st.binary(max_size=20)),
    ),
)


# --- sending ----------------------------------------------------------------------------------------


def talk(session: Session, *pieces: bytes, listen_first: bool = True) -> None:
    """Say all of it, and listen until the other side is done. A refusal may come in the middle."""
    with socket.create_connection(session.listener.getsockname(), timeout=30) as wire, contextlib.suppress(OSError):
        wire.sendall(pieces[0])
        heard = b""
        while listen_first and not heard.endswith(b"0000"):
            chunk = wire.recv(65536)
            if not chunk:
                return
            heard += chunk
        for piece in pieces[1:]:
            wire.sendall(piece)
        wire.shutdown(socket.SHUT_WR)
        while wire.recv(65536):
            pass


def push_by_hand(session: Session, commands: bytes, data: bytes) -> None:
    talk(session, packs.line(b"git-receive-pack /return.git\0host=x\0"), commands, data)


# --- judging ----------------------------------------------------------------------------------------


def judge_host(session: Session, refs: dict[str, str], files: dict[str, str]) -> None:
    host = session.host
    git(host, "fsck", "--strict", "--full", "--no-dangling")
    after = branches(host)
    for name, new in after.items():
        if name == session.branch or name.startswith(f"{session.branch}-"):
            subprocess.run(
                ["git", "-C", host, "merge-base", "--is-ancestor", refs.get(name, new), new],
                env=ENVIRONMENT, timeout=60, check=True,
            )  # fmt: skip
            judge_trees(host, refs.values(), new)
        else:
            assert refs.get(name) == new, name
    assert refs.keys() <= after.keys()
    known = {f"refs/heads/{name}" for name in after}
    assert set(git(host, "for-each-ref", "--format=%(refname)").splitlines()) == known
    assert fingerprint(host, without=(".git/objects", ".git/refs", ".git/logs")) == files
    assert [path.name for path in (host / ".git/objects").glob("tmp_*")] == []


def judge_trees(host: Path, known: Iterable[str], tip: str) -> None:
    """Every commit that came home: modes that exist, names that are one plain name everywhere."""
    for returned in git(host, "rev-list", tip, "--not", *known).splitlines():
        listing = git(host, "ls-tree", "-r", "-t", "-z", "--full-tree", returned)
        for row in filter(None, os.fsencode(listing).split(b"\0")):
            facts, _, path = row.partition(b"\t")
            assert facts.split()[0].decode() in MODES, row
            for part in path.split(b"/"):
                plain = part.decode(errors="replace").replace("\u200c", "").rstrip(" .").casefold().encode()
                assert part not in FORBIDDEN, row
                assert plain not in {b".git", b"git~1"}, row
                assert len(part) <= 255, row


def judge_what_is_served(session: Session, ground: Ground, place: Path) -> None:
    """An honest client still gets its branch, whole, and nothing that was never shown."""
    git(place, "clone", "--quiet", "--no-checkout", session.url, "copy")
    copy = place / "copy"
    git(copy, "fsck", "--full", "--connectivity-only", "--no-dangling")
    for hidden in (ground.secret_commit, ground.secret_blob):
        assert git(copy, "cat-file", "-t", hidden, status=None) == "", "the host's own object came inside"


def judge_honest_push(session: Session, number: int) -> None:
    """After all that, a good push is taken."""
    tip = session.quarantine.tip()
    good = packs.commit(git(session.quarantine.path, "rev-parse", f"{tip}^{{tree}}"), tip, extra=b"x-n %d\n" % number)
    push_by_hand(session, honest_command(tip, good.name, session.quarantine.ref), packs.pack(good.entry))
    git(session.place, "ls-remote", session.url)  # takes its turn behind the push
    assert session.quarantine.tip() == good.name


# --- the properties ---------------------------------------------------------------------------------


def test_whatever_is_pushed(ground: Ground, tmp_path: Path) -> None:
    seen: Counter[str] = Counter()
    numbers = itertools.count()

    @settings(max_examples=DEPTH, deadline=None)
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        with served(ground, tmp_path / "example") as session:
            refs, files = branches(session.host), fingerprint(
                session.host, without=(".git/objects", ".git/refs", ".git/logs")
            )  # fmt: skip
            odd = data.draw(st.sampled_from(["objects", "objects", "pack", "commands"]))  # one at a time reaches deeper
            things = data.draw(objects(ground, odd=odd == "objects"))
            tip = things[-1]
            assert isinstance(tip, packs.Made)
            ours = session.quarantine.ref
            commands = honest_command(ground.base, tip.name, ours)
            if odd == "commands":
                commands = data.draw(command_lines(ground, tip.name, ours))
            whole = packs.pack(*(thing.entry if isinstance(thing, packs.Made) else thing for thing in things))
            push_by_hand(session, commands, data.draw(packed(things)) if odd == "pack" else whole)
            git(session.place, "ls-remote", session.url)  # takes its turn behind the push
            took = session.quarantine.tip() != ground.base
            seen["taken" if took else "refused"] += 1
            judge_what_is_served(session, ground, tmp_path / "example")
            if took and next(numbers) % 2:
                judge_honest_push(session, next(numbers))
            try:
                returned = apply_return(session.source, session.quarantine, session.branch, ground.base)
                seen["returned" if returned.commits else "empty"] += 1
            except ContainaiError as error:
                seen[error.code] += 1
            judge_host(session, refs, files)

    check()
    print(dict(seen))
    assert min(seen["taken"], seen["refused"], seen["returned"]) >= 3, "the examples no longer reach every part"


@settings(max_examples=DEPTH, deadline=None)
@given(request=REQUESTS, more=st.binary(max_size=40))
def test_whatever_is_asked_for(
    ground: Ground, tmp_path_factory: pytest.TempPathFactory, request: bytes, more: bytes
) -> None:
    place = tmp_path_factory.getbasetemp() / "asked"
    with served(ground, place) as session:
        host, inside = fingerprint(session.host), fingerprint(session.quarantine.path)
        talk(session, request, more, listen_first=False)
        judge_what_is_served(session, ground, place)
        assert session.quarantine.tip() == ground.base
        assert fingerprint(session.host) == host
        assert fingerprint(session.quarantine.path) == inside
