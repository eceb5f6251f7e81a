"""Sign statements about commits and put them into the repository's notes."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from containai.errors import ProvenanceError
from containai.host.clock import now_rfc3339
from containai.provenance.envelope import looks_like_envelope, open_envelope, seal
from containai.provenance.hosttree import read_host_tree
from containai.provenance.keys import TrustedKey, load_signer
from containai.provenance.notes import append_lines, attempts, read_notes
from containai.provenance.statement import (
    MAX_SUBJECTS,
    Checkpoint,
    MergeFacts,
    SessionFacts,
    Statement,
    encode_statement,
    parse_statement,
)
from containai.record import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """What was signed. ``notes_commit`` is empty when everything had been signed before."""

    key_id: str
    notes_commit: str


def session_facts(
    *,
    session: str,
    agent: str,
    engine: str,
    branch: str,
    base_commit: str,
    config_sha256: str,
    policy_sha256: str,
    checkpoint: tuple[int, str],
) -> SessionFacts:
    """The facts of a session that ends now, on this host, with this version."""
    return SessionFacts(
        session=session,
        agent=agent,
        engine=engine,
        branch=branch,
        base_commit=base_commit,
        config_sha256=config_sha256,
        policy_sha256=policy_sha256,
        host_tree=read_host_tree(),
        checkpoint=Checkpoint(seq=checkpoint[0], hash=checkpoint[1]),
        containai_version=version("containai"),
        finished=now_rfc3339(),
    )


def attest_session(*, git_dir: Path, config_dir: Path, commits: Sequence[str], facts: SessionFacts) -> Attested:
    """State that ``commits`` came back from a session. Idempotent: what this key has stated before is not repeated.

    Raises:
        ProvenanceError: It could not be signed or written; the notes are as they were.
    """
    return _attest(git_dir, config_dir, commits, facts)


def attest_merge(
    *, git_dir: Path, config_dir: Path, merged: str, returned: str, session: str, acknowledged: Sequence[str] = ()
) -> Attested:
    """State that the user's commit ``merged`` holds the work ``returned``, and what he acknowledged. Idempotent.

    Args:
        git_dir: The common git directory of the user's repository.
        config_dir: The user's configuration directory; his key is below it.
        merged: Full hash of the commit that the merge has made (or moved to).
        returned: Full hash of the returned tip that was merged.
        session: Id of the session that returned it.
        acknowledged: Ids of the review's triggers that the user acknowledged.

    Raises:
        ProvenanceError: It could not be signed or written; the notes are as they were.
    """
    facts = MergeFacts(
        session=session,
        returned=returned,
        acknowledged=tuple(acknowledged),
        containai_version=version("containai"),
        finished=now_rfc3339(),
    )
    return _attest(git_dir, config_dir, (merged,), facts)


def _attest(git_dir: Path, config_dir: Path, commits: Sequence[str], facts: SessionFacts | MergeFacts) -> Attested:
    signer = load_signer(config_dir)
    public = signer.public_key
    own = {public.keyid: TrustedKey(key_id=public.keyid, origin="your own key", public=public)}
    line_of: dict[str, bytes] = {}
    for start in range(0, len(commits), MAX_SUBJECTS):
        part = tuple(commits[start : start + MAX_SUBJECTS])
        payload = encode_statement(Statement(subjects=part, facts=facts))
        parse_statement(payload)  # what we could not read again is not signed
        line_of |= dict.fromkeys(part, seal(payload, signer))
    done = _Stated(own, facts)
    for _ in attempts():
        held = read_notes(git_dir, commits)
        missing = {c: line for c, line in line_of.items() if not done.has(c, held.texts.get(c, b""))}
        if not missing:
            return Attested(key_id=public.keyid, notes_commit="")
        if tip := append_lines(git_dir, missing, f"containai: session {facts.session}\n", held):
            return Attested(key_id=public.keyid, notes_commit=tip)
    raise AssertionError("attempts() ends with an error")


class _Stated:
    """Which commits this key has already made the same statement about. Each line is opened once."""

    def __init__(self, own: dict[str, TrustedKey], facts: SessionFacts | MergeFacts) -> None:
        self._own, self._facts = own, facts
        self._seen: dict[bytes, frozenset[str]] = {}

    def has(self, commit: str, note: bytes) -> bool:
        """Whether a line of ``note`` says of ``commit`` what we are about to say."""
        return any(commit in self._subjects(line) for line in note.split(b"\n") if looks_like_envelope(line))

    def _subjects(self, line: bytes) -> frozenset[str]:
        if line not in self._seen:
            self._seen[line] = self._open(line)
        return self._seen[line]

    def _open(self, line: bytes) -> frozenset[str]:
        try:
            statement = parse_statement(open_envelope(line, self._own)[0])
        except ProvenanceError:
            return frozenset()
        return frozenset(statement.subjects) if _same(statement.facts, self._facts) else frozenset()


def _same(one: SessionFacts | MergeFacts, other: SessionFacts | MergeFacts) -> bool:
    if isinstance(one, MergeFacts) and isinstance(other, MergeFacts):
        return (one.session, one.returned, one.acknowledged) == (other.session, other.returned, other.acknowledged)
    return type(one) is type(other) and one.session == other.session
