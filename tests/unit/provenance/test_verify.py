"""Statements that were tampered with: each is refused, for its own reason."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from containai.audit.writer import EventLog, Kind
from containai.errors import ProvenanceError
from containai.provenance.attest import attest_merge, attest_session, session_facts
from containai.provenance.envelope import seal
from containai.provenance.keys import load_signer, trusted_keys
from containai.provenance.notes import NOTES_REF, read_notes
from containai.provenance.statement import SessionFacts, Statement, encode_json, encode_statement
from containai.provenance.verify import Verdict, Verifier
from tests.support.git import commit, git, make_repository

pytestmark = pytest.mark.user
SESSION = "0123456789ab"
CONFIG, POLICY = "c" * 64, "d" * 64


@dataclass(frozen=True)
class Host:
    """A repository with a commit that a session returned, its log, and its user's key."""

    repository: Path
    config_dir: Path
    sessions: Path
    commit: str
    facts: SessionFacts

    @property
    def git_dir(self) -> Path:
        return self.repository / ".git"

    @property
    def log(self) -> Path:
        return self.sessions / SESSION / "events.jsonl"

    def verdict(self, of: str = "") -> Verdict:
        keys = trusted_keys(self.config_dir, [])
        return Verifier(self.git_dir, keys, self.sessions).verify([of or self.commit])[0]

    def code(self, of: str = "") -> str:
        problem = self.verdict(of).problem
        return problem.code if problem else ""

    @property
    def note(self) -> bytes:
        return read_notes(self.git_dir, [self.commit]).texts[self.commit]

    def set_note(self, note: bytes, of: str = "") -> None:
        blob = git(self.repository, "hash-object", "-w", "--stdin", stdin=note)
        git(self.repository, "notes", f"--ref={NOTES_REF}", "add", "-f", "-C", blob, of or self.commit)

    def envelope(self, payload: bytes, payload_type: str = "application/vnd.in-toto+json") -> bytes:
        """As our own key signs it: what a fault of ours, or a stolen key, could sign."""
        return seal(payload, load_signer(self.config_dir), payload_type) + b"\n"

    def statement(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(encode_statement(Statement(subjects=(self.commit,), facts=self.facts)))
        return body


def make_host(place: Path, object_format: str = "sha1") -> Host:
    repository = make_repository(place / "repo", object_format=object_format)
    base = git(repository, "rev-parse", "HEAD")
    returned = commit(repository, "by an agent", c__txt="three\n")
    (place / "sessions" / SESSION).mkdir(parents=True)
    log = EventLog(place / "sessions" / SESSION / "events.jsonl", SESSION)
    log.append(Kind.SESSION, "session-config", config_sha256=CONFIG, policy_sha256=POLICY)
    log.append(Kind.GIT, "git-return", new=returned)
    facts = session_facts(
        session=SESSION,
        agent="claude",
        engine="embedded",
        branch="claude/x",
        base_commit=base,
        config_sha256=CONFIG,
        policy_sha256=POLICY,
        checkpoint=log.checkpoint,
    )
    log.append(Kind.SESSION, "session-end", status=0)
    log.close()
    config_dir = place / "config"
    attest_session(git_dir=repository / ".git", config_dir=config_dir, commits=[returned], facts=facts)
    return Host(repository=repository, config_dir=config_dir, sessions=place / "sessions", commit=returned, facts=facts)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return make_host(tmp_path)


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_what_was_signed_is_proven(tmp_path: Path, object_format: str) -> None:
    host = make_host(tmp_path, object_format)
    assert len(host.commit) == (40 if object_format == "sha1" else 64)
    verdict = host.verdict()
    assert verdict.problem is None
    (proven,) = verdict.proven
    assert proven.statement == Statement(subjects=(host.commit,), facts=host.facts)
    assert "unbroken up to event 2" in proven.log
    assert host.code(git(host.repository, "rev-parse", "HEAD^{tree}")) == "provenance.no-commit"


Change = Callable[[Host, dict[str, Any]], None]


def _swap(*path: Any, to: Any) -> Change:
    def change(host: Host, body: dict[str, Any]) -> None:
        where: Any = body
        for key in path[:-1]:
            where = where[key]
        where[path[-1]] = to

    return change


# What is changed in a statement before a trusted key signs it: the signature holds, the content must not.
SIGNED: dict[str, tuple[Change, str]] = {
    "another statement type": (_swap("_type", to="https://in-toto.io/Statement/v0.1"), "provenance.statement-type"),
    "no statement type": (lambda h, b: b.pop("_type"), "provenance.statement-type"),
    "another predicate": (_swap("predicateType", to="https://slsa.dev/provenance/v1"), "provenance.predicate-type"),
    "a later version": (
        _swap("predicateType", to="https://containai.invalid/provenance/session/v2"),
        "provenance.predicate-type",
    ),
    "the other predicate's type": (
        _swap("predicateType", to="https://containai.invalid/provenance/merge/v1"),
        "provenance.statement",
    ),
    "another commit": (
        lambda h, b: b.update(
            subject=[
                {"name": f"commit-{h.facts.base_commit[:12]}", "digest": {"gitCommit": h.facts.base_commit}},
            ]
        ),
        "provenance.subject",
    ),
    "no subject": (_swap("subject", to=[]), "provenance.statement"),
    "a subject twice": (lambda h, b: b["subject"].append(b["subject"][0]), "provenance.statement"),
    "a name that is not its commit's": (_swap("subject", 0, "name", to="main"), "provenance.statement"),
    "another digest algorithm": (
        lambda h, b: b["subject"][0].update(digest={"sha1": h.commit}),
        "provenance.statement",
    ),
    "a short hash": (
        lambda h, b: b["subject"][0].update(digest={"gitCommit": h.commit[:12]}),
        "provenance.statement",
    ),
    "a field more": (_swap("predicate", "more", to="x"), "provenance.statement"),
    "a field more outside": (_swap("more", to="x"), "provenance.statement"),
    "a field less": (lambda h, b: b["predicate"].pop("policy_sha256"), "provenance.statement"),
    "a path as session": (_swap("predicate", "session", to="../../../etc"), "provenance.statement"),
    "a terminal's commands": (_swap("predicate", "agent", to="\x1b[2J"), "provenance.statement"),
    "a checkpoint before the first": (_swap("predicate", "audit_checkpoint", "seq", to=0), "provenance.statement"),
    "true for a number": (_swap("predicate", "audit_checkpoint", "seq", to=True), "provenance.statement"),
    "another checkpoint": (_swap("predicate", "audit_checkpoint", "hash", to="0" * 64), "provenance.log-differs"),
    "a later checkpoint": (_swap("predicate", "audit_checkpoint", "seq", to=99), "provenance.log-short"),
    "another policy": (_swap("predicate", "policy_sha256", to="e" * 64), "provenance.log-differs"),
    "another configuration": (_swap("predicate", "config_sha256", to="e" * 64), "provenance.log-differs"),
}


@pytest.mark.parametrize("name", SIGNED)
def test_signed_but_not_true(host: Host, name: str) -> None:
    change, code = SIGNED[name]
    body = host.statement()
    host.set_note(host.envelope(encode_json(body)))
    assert host.code() == "", "unchanged it holds"
    change(host, body)
    host.set_note(host.envelope(encode_json(body)))
    assert host.code() == code


def _payload(host: Host, change: Callable[[bytes], bytes]) -> bytes:
    envelope = json.loads(host.note)
    envelope["payload"] = base64.b64encode(change(base64.b64decode(envelope["payload"]))).decode()
    return encode_json(envelope) + b"\n"


def _envelope(host: Host, **changes: Any) -> bytes:
    return encode_json(json.loads(host.note) | changes) + b"\n"


def _signature(host: Host, **changes: Any) -> bytes:
    envelope = json.loads(host.note)
    envelope["signatures"][0] |= changes
    return encode_json(envelope) + b"\n"


def _raw(host: Host) -> bytes:
    return base64.b64decode(json.loads(host.note)["payload"])


NOTES: dict[str, tuple[Callable[[Host], bytes], str]] = {
    "the session changed": (lambda h: _payload(h, lambda p: p.replace(b"0123456789ab", b"0123456789ac")), "signature"),
    "the commit changed": (lambda h: _payload(h, lambda p: p.replace(h.commit.encode(), b"0" * 40)), "signature"),
    "the signature of nothing": (lambda h: _signature(h, sig=base64.b64encode(bytes(64)).decode()), "signature"),
    "a short signature": (lambda h: _signature(h, sig="AAAA"), "envelope"),
    "an unknown key": (lambda h: _signature(h, keyid="f" * 64), "untrusted-key"),
    "no key id": (lambda h: _signature(h, keyid=""), "untrusted-key"),
    "a field more in the signature": (lambda h: _signature(h, cert="x"), "envelope"),
    "no signature": (lambda h: _envelope(h, signatures=[]), "envelope"),
    "two signatures": (lambda h: _envelope(h, signatures=json.loads(h.note)["signatures"] * 2), "envelope"),
    "another payload type, after signing": (lambda h: _envelope(h, payloadType="text/plain"), "signature"),
    "another payload type, signed": (lambda h: h.envelope(_raw(h), "text/plain"), "payload-type"),
    "no base64": (lambda h: _envelope(h, payload="%%%%"), "envelope"),
    "a payload that is no text": (lambda h: _envelope(h, payload=None), "envelope"),
    "a field more": (lambda h: _envelope(h, more=1), "envelope"),
    "cut short": (lambda h: h.note[:-40], "json"),
    "spaces": (lambda h: h.note.replace(b'":"', b'": "'), "not-canonical"),
    "a key twice": (lambda h: h.note.replace(b'{"payload":', b'{"payload":"","payload":'), "duplicate-key"),
    "a key twice, signed": (
        lambda h: h.envelope(_raw(h).replace(b'{"_type":', b'{"_type":"x","_type":')),
        "duplicate-key",
    ),
    "signed, and no JSON": (lambda h: h.envelope(b"certainly"), "json"),
    "signed, and no object": (lambda h: h.envelope(b"[]"), "not-canonical"),
    "deep nesting": (lambda h: b'{"payload":' + b"[" * 200_000, "json"),
    "not a number": (lambda h: h.note.replace(b'{"payload":', b'{"a":NaN,"payload":'), "json"),
    "nothing of ours": (lambda h: b"looks good to me\n", "no-statement"),
    "a note beside a broken one": (lambda h: h.note + _signature(h, sig="AAAA"), "envelope"),
    "too large": (lambda h: h.note + b"x" * (9 * 1024 * 1024), "note-too-large"),
}


@pytest.mark.parametrize("name", NOTES)
def test_tampered_note(host: Host, name: str) -> None:
    assert host.code() == ""
    change, code = NOTES[name]
    host.set_note(change(host))
    try:
        found = host.code()
    except ProvenanceError as error:
        found = error.code
    assert found == f"provenance.{code}"


def test_the_note_of_another_commit(host: Host) -> None:
    other = commit(host.repository, "not by an agent", d__txt="four\n")
    assert host.code(other) == "provenance.no-note"
    git(host.repository, "notes", f"--ref={NOTES_REF}", "copy", host.commit, other)
    assert host.code(other) == "provenance.subject"


def test_a_replaced_commit_is_not_taken_for_it(host: Host) -> None:
    """``git replace`` shows other content under the same name; the statement is about the real one."""
    evil = commit(host.repository, "evil", c__txt="evil\n")
    git(host.repository, "replace", host.commit, evil)
    assert "evil" in git(host.repository, "log", "-1", "--format=%s", host.commit)
    assert host.code() == ""


def test_a_commit_with_other_content_than_its_name(host: Host) -> None:
    evil = commit(host.repository, "evil", c__txt="evil\n")
    objects = host.git_dir / "objects"
    content = (objects / evil[:2] / evil[2:]).read_bytes()
    target = objects / host.commit[:2] / host.commit[2:]
    target.chmod(0o600)
    target.write_bytes(content)
    assert host.code() == "provenance.commit"


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b"git-return", b"git-refuse", "provenance.log-broken"),
        (b'"seq":2', b'"seq":3', "provenance.log-broken"),
        (b"{", b"[", "provenance.log-broken"),
    ],
)
def test_a_changed_log(host: Host, old: bytes, new: bytes, code: str) -> None:
    host.log.write_bytes(host.log.read_bytes().replace(old, new, 1))
    assert host.code() == code


def test_another_log_that_is_whole(host: Host) -> None:
    host.log.unlink()
    log = EventLog(host.log, SESSION)
    for _ in range(3):
        log.append(Kind.SESSION, "session-config", config_sha256=CONFIG, policy_sha256=POLICY)
    log.close()
    assert host.code() == "provenance.log-differs"


def test_an_event_after_the_checkpoint_and_no_log_at_all_are_no_contradiction(host: Host) -> None:
    assert host.log.read_bytes().count(b"\n") == 3 > host.facts.checkpoint.seq
    host.log.unlink()
    verdict = host.verdict()
    assert verdict.problem is None
    assert verdict.proven[0].log == "the session's log is not here"


def test_a_stranger_counts_for_nothing_and_hides_nothing(host: Host, tmp_path: Path) -> None:
    stranger = load_signer(tmp_path / "stranger")
    line = seal(encode_statement(Statement(subjects=(host.commit,), facts=host.facts)), stranger) + b"\n"
    ours = host.note
    host.set_note(line)
    assert host.code() == "provenance.untrusted-key"
    host.set_note(line + ours)
    verdict = host.verdict()
    assert (verdict.problem, len(verdict.proven), verdict.passed_over) == (None, 1, 1)


def test_a_merge_is_stated_beside_the_session_and_once(host: Host) -> None:
    def attest() -> str:
        return attest_merge(
            git_dir=host.git_dir,
            config_dir=host.config_dir,
            merged=host.commit,
            returned=host.commit,
            session=SESSION,
            acknowledged=["workflow:.github/workflows/ci.yml"],
        ).notes_commit

    assert attest() == git(host.repository, "rev-parse", NOTES_REF)
    assert attest() == ""
    verdict = host.verdict()
    assert verdict.problem is None
    assert [type(proven.statement.facts).__name__ for proven in verdict.proven] == ["SessionFacts", "MergeFacts"]


def test_a_merge_of_another_sessions_work_is_not_proven(host: Host) -> None:
    attest_merge(
        git_dir=host.git_dir,
        config_dir=host.config_dir,
        merged=host.commit,
        returned=host.commit,
        session="fedcba987654",
        acknowledged=[],
    )
    assert host.code() == "provenance.materials"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Host, bytes]:
    host = make_host(tmp_path_factory.mktemp("shared"))
    return host, host.note


@pytest.mark.property
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_byte_of_a_note_can_be_another(shared: tuple[Host, bytes], data: st.DataObject) -> None:
    host, note = shared
    at = data.draw(st.integers(0, len(note) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != note[at]))
    changed = note[:at] + bytes([byte]) + note[at + 1 :]
    verifier = Verifier(host.git_dir, trusted_keys(host.config_dir, []), host.sessions)
    with pytest.raises(ProvenanceError) as refused:
        verifier._read_note(host.commit, changed)
    assert refused.value.code.startswith("provenance.")


def test_not_one_bit_of_a_note_can_be_another(shared: tuple[Host, bytes]) -> None:
    """The same without chance: every byte, with its lowest bit turned and with its sixth (the case of a letter)."""
    host, note = shared
    verifier = Verifier(host.git_dir, trusted_keys(host.config_dir, []), host.sessions)
    for at in range(len(note)):
        for bit in (0x01, 0x20):
            with pytest.raises(ProvenanceError):
                verifier._read_note(host.commit, note[:at] + bytes([note[at] ^ bit]) + note[at + 1 :])


def test_spare_bits_of_base64_carry_nothing(shared: tuple[Host, bytes]) -> None:
    """Before the padding, several letters mean the same bytes: one of them is right."""
    host, note = shared
    verifier = Verifier(host.git_dir, trusted_keys(host.config_dir, []), host.sessions)
    places = [at for at in range(len(note) - 1) if note[at : at + 1] != b"=" and note[at + 1 : at + 2] == b"="]
    assert places, "a signature of 64 bytes is padded"
    for at in places:
        for byte in set(range(256)) - {note[at]}:
            with pytest.raises(ProvenanceError):
                verifier._read_note(host.commit, note[:at] + bytes([byte]) + note[at + 1 :])


def test_a_key_that_is_not_ours_is_named_alone(host: Host, tmp_path: Path) -> None:
    from containai.provenance.keys import public_pem

    named = tmp_path / "other.pub"
    named.write_text(public_pem(tmp_path / "other"))
    keys = trusted_keys(host.config_dir, [named])
    problem = Verifier(host.git_dir, keys, host.sessions).verify([host.commit])[0].problem
    assert problem is not None
    assert problem.code == "provenance.untrusted-key"
    assert replace(host.facts, session="0" * 12) != host.facts
