"""Sessions whose records or logs were damaged or edited: each command says what is wrong, and none hides the others."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from containai.audit.chain import GENESIS, link
from tests.support.product import Product, make_repository

NET = ("--network-proxy", "none")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Product, str, str, str]:
    """A user with a session that ended, another one, and one whose work is kept; and their ids."""
    place = tmp_path_factory.mktemp("damaged")
    (place / "home").mkdir(mode=0o700)
    make_repository(place / "repository")
    product = Product(home=place / "home", repository=place / "repository")
    for name, value in (("name", "Ada"), ("email", "ada@example.org")):
        product.git("config", f"user.{name}", value)
    ran = [product.run(f"echo {word} > {word}", *NET, *options) for word, options in WORK]
    ids = [str(one.result["session"]) for one in ran]
    return product, ids[0], ids[1], ids[2]


WORK = (("one", ()), ("two", ()), ("three", ("--no-push",)))


@pytest.fixture
def user(prepared: tuple[Product, str, str, str], tmp_path: Path) -> Product:
    """The same user, with state and repository that are the test's own."""
    product = prepared[0]
    shutil.copytree(product.home / "state", tmp_path / "state", symlinks=True)
    if os.geteuid() == 0:  # the agent's files keep their owner
        for path in (product.home / "state").rglob("*"):
            there = tmp_path / "state" / path.relative_to(product.home / "state")
            os.chown(there, path.lstat().st_uid, path.lstat().st_gid, follow_symlinks=False)
    return Product(
        home=product.home, repository=product.repository, variables={"XDG_STATE_HOME": str(tmp_path / "state")}
    )


def _session(user: Product, session: str) -> Path:
    return Path(user.variables["XDG_STATE_HOME"]) / "containai" / "sessions" / session


def _replace(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def damage(session: Path) -> None:
        path = session / name
        path.unlink()
        make(path)

    return damage


def _enormous(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def _edited(**fields: object) -> Callable[[Path], None]:
    def damage(session: Path) -> None:
        path = session / "record.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return damage


RECORDS: dict[str, Callable[[Path], None]] = {
    "no object": _replace("record.json", lambda path: path.write_text("[]")),
    "rubbish": _replace("record.json", lambda path: path.write_bytes(bytes(range(256)))),
    "deep": _replace("record.json", lambda path: path.write_text("[" * 100_000)),
    "gone": _replace("record.json", lambda _: None),
    "a link": _replace("record.json", lambda path: path.symlink_to("/dev/zero")),
    "a directory": _replace("record.json", lambda path: path.mkdir()),
    "a pipe": _replace("record.json", os.mkfifo),
    "huge": _replace("record.json", _enormous),
    "another time": _edited(created=None),
    "another session's": _edited(id="ffffffffffff"),
    "an option": _edited(branch="--all"),
}


@pytest.mark.parametrize("damage", RECORDS)
def test_a_damaged_record_is_named_and_hides_no_other_session(
    user: Product, prepared: tuple[Product, str, str, str], damage: str
) -> None:
    _, one, two, three = prepared
    RECORDS[damage](_session(user, one))
    every = damage == "no object"  # the reading is the same in all; how it fails is not
    for words in (["list"], ["review"], ["log"])[: 3 if every else 1]:
        told = user.command(*words, timeout_s=20)
        assert f"error[state.record]: session {one}: " in told.stderr, (words, told)
        assert "internal.error" not in told.stderr
        if words == ["list"]:
            assert (two in told.stdout, three in told.stdout) == (True, True), told
        assert told.status == (0 if words == ["log"] else 1), (words, told)
    each = (["remove", one], ["log", one], ["review", one], ["merge", one], ["drop", one], ["recover", one])
    for words in each[: 6 if every else 1]:
        told = user.command(*words, timeout_s=20)
        assert (told.status, "error[state.record]" in told.stderr) == (1, True), (words, told)
    assert _session(user, one).is_dir()
    removed = user.command("remove", one, "--force")
    assert (removed.status, _session(user, one).exists()) == (0, False), removed
    assert "shell/session-1" in user.branches()


def test_recover_does_not_take_a_session_without_a_record_for_one_that_never_began(
    user: Product, prepared: tuple[Product, str, str, str]
) -> None:
    three = prepared[3]
    (_session(user, three) / "record.json").unlink()
    told = user.command("recover")
    assert (told.status, "error[state.record]" in told.stderr) == (1, True), told
    assert (_session(user, three) / "workspace").is_dir()


@pytest.mark.parametrize("place", ["lock", "sessions", "containai"])
def test_other_things_in_the_place_of_what_is_kept(
    user: Product, prepared: tuple[Product, str, str, str], place: str
) -> None:
    _, one, two, _ = prepared
    path = {"lock": _session(user, one) / "lock", "sessions": _session(user, one).parent}.get(place)
    path = path or _session(user, one).parent.parent
    path.rename(path.with_name("away"))
    if place == "lock":
        path.mkdir()
        listed = user.command("list")
        assert (two in listed.stdout, "error[state.lock]" in listed.stderr, listed.status) == (True, True, 1), listed
    else:
        path.write_text("no directory\n")
        judged = user.command("doctor", "--engine", "embedded")
        assert (judged.status, f"{path} is not a directory" in judged.stdout) == (1, True), judged
        for words in (["list"], ["log"], ["review"], ["recover"], ["remove", one]):
            told = user.command(*words)
            assert (told.status, "error[state.unreadable]" in told.stderr) == (1, True), (words, told)


@pytest.mark.needs("root")
def test_what_belongs_to_somebody_else_is_not_believed(user: Product, prepared: tuple[Product, str, str, str]) -> None:
    _, one, two, _ = prepared
    os.chown(_session(user, one) / "record.json", 12345, 12345)
    os.chown(_session(user, two) / "events.jsonl", 12345, 12345)
    listed = user.command("list")
    assert "this belongs to user 12345, not to you" in listed.stderr
    log = user.command("log", two)
    assert (log.status, log.stdout, "this belongs to user 12345" in log.stderr) == (1, "", True), log


def _lines(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path], None]:
    def damage(session: Path) -> None:
        log = session / "events.jsonl"
        log.write_bytes(b"".join(change(log.read_bytes().splitlines(keepends=True))))

    return damage


def _forged(lines: list[bytes]) -> list[bytes]:
    """The same log with its chain made anew: as of another session."""
    prev, made = GENESIS, []
    for line in lines:
        body = json.loads(line) | {"session": "ffffffffffff"}
        again, prev = link({key: body[key] for key in body if key not in ("prev", "hash")}, prev)
        made.append(again)
    return made


LOGS: dict[str, tuple[Callable[[Path], None], str]] = {
    "edited": (_lines(lambda lines: [line.replace(b"echo", b"true") for line in lines]), "line 1: content does not"),
    "cut": (_lines(lambda lines: lines[:4]), "line 5: the log breaks off here"),
    "cut in a line": (_lines(lambda lines: [*lines[:4], lines[4][:20]]), "line 5: cut short"),
    "headless": (_lines(lambda lines: lines[2:]), "line 1: sequence number 3, expected 1"),
    "reordered": (_lines(lambda lines: [lines[0], lines[2], lines[1], *lines[3:]]), "line 2: sequence number 3"),
    "doubled": (_lines(lambda lines: [*lines[:3], *lines[2:]]), "line 4: sequence number 3, expected 4"),
    "spliced": (_lines(_forged), "line 1: an event of session 'ffffffffffff'"),
    "rubbish in it": (_lines(lambda lines: [*lines[:3], b"\xff\xfe\n", *lines[3:]]), "line 4: not valid JSON"),
    "no objects": (_lines(lambda lines: [*lines, b"[]\n"]), "not a JSON object"),
    "deep": (_lines(lambda lines: [*lines, b"[" * 100_000 + b"\n"]), "not valid JSON"),
    "other types": (
        _lines(lambda lines: [*lines, b'{"kind": [], "ts": 5, "event": {}, "argv": 7}\n']),
        "sequence number None",
    ),
    "empty": (_lines(lambda _: []), "line 1: the log breaks off here"),
    "a pipe": (_replace("events.jsonl", os.mkfifo), "this is no regular file"),
    "a link": (_replace("events.jsonl", lambda log: log.symlink_to("/dev/zero")), "this is a symbolic link"),
    "gone": (_replace("events.jsonl", lambda _: None), "is gone"),
}


@pytest.mark.parametrize("damage", LOGS)
def test_a_damaged_log_is_shown_as_far_as_it_can_be_and_called_damaged(
    user: Product, prepared: tuple[Product, str, str, str], damage: str
) -> None:
    one = prepared[1]
    log = _session(user, one) / "events.jsonl"
    events = [json.loads(line) for line in log.read_bytes().splitlines()]
    change, told = LOGS[damage]
    change(_session(user, one))
    shown = user.command("log", one, timeout_s=20)
    assert (shown.status, "error[audit." in shown.stderr, told in shown.stderr) == (1, True, True), shown
    if damage == "rubbish in it":
        shown = user.command("log", one, "--json", "--follow")
        assert (shown.status, [json.loads(line) for line in shown.stdout.splitlines()]) == (1, events)


@pytest.mark.parametrize("damage", ["edited", "cut", "a pipe", "gone"])
def test_review_says_so_before_it_shows_what_would_be_merged(
    user: Product, prepared: tuple[Product, str, str, str], damage: str
) -> None:
    one = prepared[1]
    change, told = LOGS[damage]
    change(_session(user, one))
    shown = user.command("review", one, timeout_s=20)
    assert (shown.status, "error[audit." in shown.stderr, told in shown.stderr) == (1, True, True), shown
    warning, diff = shown.stdout.index("Before you merge: "), shown.stdout.index("diff --git")
    assert warning < shown.stdout.index(told) < diff
    if damage == "edited":
        answer = user.command("review", one, "--json")
        assert (answer.status, told in json.loads(answer.stdout)["notes"][0]) == (1, True), answer
        page = user.command("review", one, "--web")
        assert (page.status, told in Path(page.stdout.strip()).read_text()) == (1, True), page


@pytest.mark.user
def test_a_whole_log_is_shown_without_a_word(user: Product, prepared: tuple[Product, str, str, str]) -> None:
    for session in prepared[1:]:
        shown = user.command("log", session)
        assert (shown.status, shown.stderr, "session-end" in shown.stdout) == (0, "", True), shown
    shown = user.command("review", prepared[1])
    assert (shown.status, shown.stderr, "proven" in shown.stdout) == (0, "", False), shown


def test_nothing_is_decided_onto_a_log_that_was_edited(user: Product, prepared: tuple[Product, str, str, str]) -> None:
    one = prepared[1]
    LOGS["edited"][0](_session(user, one))
    before = user.git("for-each-ref")
    for words in (["merge", one], ["drop", one]):
        told = user.command(*words)
        assert (told.status, "error[audit.broken]" in told.stderr) == (1, True), (words, told)
    assert user.git("for-each-ref") == before


@pytest.mark.user
@pytest.mark.parametrize("damage", ["edited", "spliced", "doubled"])
def test_recover_states_nothing_about_a_log_that_was_edited(
    user: Product, prepared: tuple[Product, str, str, str], damage: str
) -> None:
    three = prepared[3]
    log = _session(user, three) / "events.jsonl"
    LOGS[damage][0](_session(user, three))
    before = user.git("for-each-ref")
    told = user.command("recover", three)
    assert (told.status, "error[audit.broken]" in told.stderr) == (1, True), told
    assert user.git("for-each-ref") == before
    if damage != "edited":
        return
    log.rename(log.with_name("events.jsonl.broken"))  # what the error says
    recovered = user.command("recover", three)
    assert (recovered.status, "no signed statement was made" in recovered.stderr) == (0, True), recovered
    assert user.git("show", "shell/session-3:three") == "three"
    assert "provenance.no-note" in user.command("provenance", "verify", "shell/session-3").stderr
    assert "begins with the session's configuration" in user.command("log", three).stderr


def test_a_link_in_the_place_of_the_quarantine_is_not_followed(
    user: Product, prepared: tuple[Product, str, str, str]
) -> None:
    three = prepared[3]
    quarantine = _session(user, three) / "return.git"
    quarantine.rename(quarantine.with_name("away"))
    quarantine.symlink_to(user.repository / ".git")
    before = user.git("for-each-ref")
    told = user.command("recover", three)
    assert (told.status, "error[state.quarantine]" in told.stderr) == (1, True), told
    assert user.git("for-each-ref") == before


def test_a_log_of_another_session_proves_nothing(user: Product, prepared: tuple[Product, str, str, str]) -> None:
    one = prepared[1]
    LOGS["spliced"][0](_session(user, one))
    told = user.command("provenance", "verify", "shell/session-1")
    assert (told.status, "provenance.log-broken" in told.stderr) == (1, True), told
    (_session(user, one) / "events.jsonl").unlink()
    os.mkfifo(_session(user, one) / "events.jsonl")
    told = user.command("provenance", "verify", "shell/session-1", timeout_s=20)
    assert (told.status, "provenance.log-unreadable" in told.stderr) == (1, True), told


def test_a_repository_that_is_gone_is_said_to_be(user: Product, prepared: tuple[Product, str, str, str]) -> None:
    _, one, two, _ = prepared
    _edited(git_dir="/nonexistent/.git")(_session(user, one))
    for words in (["review", one], ["merge", one], ["drop", one]):
        told = user.command(*words)
        assert (told.status, "error[review.no-repository]" in told.stderr) == (1, True), (words, told)
    _edited(git_dir="/etc")(_session(user, one))
    kept = user.command("remove", one)
    assert (kept.status, "error[workspace.refs]" in kept.stderr) == (1, True), kept
    waiting = user.command("review")
    assert (waiting.status, two in waiting.stdout, "error[workspace.refs]" in waiting.stderr) == (1, True, True), (
        waiting
    )
    removed = user.command("remove", one, "--force")
    assert (removed.status, "stays: its repository could not be read" in removed.stderr) == (0, True), removed
    assert not _session(user, one).exists()


def test_notes_without_a_statement_and_a_key_that_is_no_file(
    user: Product, prepared: tuple[Product, str, str, str], tmp_path: Path
) -> None:
    place = user.home / ".config" / "containai" / "keys" / "provenance.pem"
    elsewhere = Product(home=user.home, repository=tmp_path / "clone", variables=user.variables)
    user.git("clone", "-q", str(user.repository), str(tmp_path / "clone"))
    elsewhere.git("-c", "user.name=A", "-c", "user.email=a@b", "notes", "--ref=containai", "add", "-m", "no", "HEAD")
    shown = elsewhere.command("provenance", "show", "HEAD")
    assert (shown.status, shown.stdout, "provenance.no-statement" in shown.stderr) == (1, "", True), shown
    place.rename(place.with_name("away"))
    place.mkdir()
    try:
        told = user.command("provenance", "verify", "shell/session-1")
        assert (told.status, "provenance.key-permissions" in told.stderr) == (1, True), told
    finally:
        place.rmdir()
        place.with_name("away").rename(place)
