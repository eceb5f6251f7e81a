"""Prove what a commit's note says, without a network. In this order.

1. The commit is in the repository, and its bytes have the hash that names it.
2. It has a note of a bounded size.
3. The note has an envelope, which is strictly well-formed.
4. A trusted key has signed it.
5. What was signed is an in-toto statement, of a kind that is known, with nothing unknown in it.
6. The statement names this commit; of a merge, the work came from the session that it names.
7. If the session's event log is on this machine: it is unbroken up to the checkpoint, has the checkpoint's hash there,
   and begins with the same configuration and policy.

A note may hold several statements. One of a key that is not trusted here counts for nothing; anything else wrong in
any of them is an error.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from containai.audit.chain import Chain
from containai.audit.reading import read_lines
from containai.errors import ProvenanceError
from containai.host.ownfile import open_own
from containai.provenance.envelope import looks_like_envelope, open_envelope
from containai.provenance.keys import TrustedKey
from containai.provenance.notes import NOTES_REF, read_notes, read_objects
from containai.provenance.statement import MergeFacts, SessionFacts, Statement, parse_statement
from containai.record import dataclass

_TOGETHER = 100  # commits that are held at a time: one may have a megabyte


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """One statement about a commit that holds. ``log``: what the event log added, or why it could not."""

    statement: Statement
    key: TrustedKey
    log: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is proven about a commit, or the first thing that is wrong."""

    commit: str
    proven: tuple[Proven, ...] = ()
    passed_over: int = 0
    problem: ProvenanceError | None = None


class Verifier:
    """Verifies commits of one repository; each statement and each log is looked at once.

    Args:
        git_dir: The common git directory.
        keys: The keys that count.
        sessions: Where this machine keeps its sessions.
    """

    def __init__(self, git_dir: Path, keys: Mapping[str, TrustedKey], sessions: Path) -> None:
        self._git_dir, self._keys, self._sessions = git_dir, keys, sessions
        self._opened: dict[bytes, tuple[Statement, TrustedKey] | ProvenanceError] = {}
        self._logs: dict[SessionFacts, str | ProvenanceError] = {}

    def verify(self, commits: Sequence[str]) -> list[Verdict]:
        """A verdict for each commit.

        Raises:
            ProvenanceError: The notes as a whole cannot be read.
        """
        notes = read_notes(self._git_dir, commits).texts
        verdicts = []
        for start in range(0, len(commits), _TOGETHER):
            part = commits[start : start + _TOGETHER]
            content = read_objects(self._git_dir, part, "commit")
            verdicts += [self._verdict(commit, content.get(commit), notes.get(commit)) for commit in part]
        return verdicts

    def _verdict(self, commit: str, content: bytes | None, note: bytes | None) -> Verdict:
        try:
            _check_commit(commit, content)
            proven, passed_over = self._read_note(commit, note)
        except ProvenanceError as problem:
            return Verdict(commit=commit, problem=problem)
        return Verdict(commit=commit, proven=proven, passed_over=passed_over)

    def _read_note(self, commit: str, note: bytes | None) -> tuple[tuple[Proven, ...], int]:
        if note is None:
            raise ProvenanceError(
                "the commit has no note, so nothing is stated about it",
                code="provenance.no-note",
                remedy=[
                    "# no session here returned it; if one elsewhere did, fetch its notes:",
                    f"git fetch REMOTE {NOTES_REF}:{NOTES_REF}",
                ],
            )
        proven, strangers = [], []
        for line in filter(looks_like_envelope, note.split(b"\n")):
            try:
                statement, key = self._open(line)
            except ProvenanceError as problem:
                if problem.code != "provenance.untrusted-key":
                    raise
                strangers.append(problem)
                continue
            if commit not in statement.subjects:
                raise ProvenanceError(
                    "the statement is about other commits, not this one",
                    code="provenance.subject",
                    remedy=["git log --oneline --all   # was the commit copied, and its note with it?"],
                )
            self._check_materials(statement)
            proven.append(Proven(statement=statement, key=key, log=self._check_log(statement)))
        if not proven:
            if strangers:
                raise strangers[0]
            raise ProvenanceError(
                "the commit's note holds no statement",
                code="provenance.no-statement",
                remedy=[
                    f"git notes --ref={NOTES_REF} show COMMIT   # what is in it",
                    f"git fetch REMOTE +{NOTES_REF}:{NOTES_REF}   # if it was overwritten here, and not there",
                ],
            )
        return tuple(proven), len(strangers)

    def _open(self, line: bytes) -> tuple[Statement, TrustedKey]:
        if line not in self._opened:
            try:
                payload, key = open_envelope(line, self._keys)
                self._opened[line] = (parse_statement(payload), key)
            except ProvenanceError as problem:
                self._opened[line] = problem
        found = self._opened[line]
        if isinstance(found, ProvenanceError):
            raise found
        return found

    def _check_materials(self, statement: Statement) -> None:
        """Of a merge: that the work it names is stated to come from the session it names, where anything is stated."""
        facts = statement.facts
        if not isinstance(facts, MergeFacts):
            return
        note = read_notes(self._git_dir, [facts.returned]).texts.get(facts.returned, b"")
        sessions = set()
        for line in filter(looks_like_envelope, note.split(b"\n")):
            with suppress(ProvenanceError):  # it is another commit's note, which is verified with that commit
                stated, _ = self._open(line)
                if isinstance(stated.facts, SessionFacts) and facts.returned in stated.subjects:
                    sessions.add(stated.facts.session)
        if sessions and facts.session not in sessions:
            raise ProvenanceError(
                "the merged work is stated to come from another session",
                code="provenance.materials",
                details=f"{facts.returned} was returned by {', '.join(sorted(sessions))}, not by {facts.session}",
            )

    def _check_log(self, statement: Statement) -> str:
        facts = statement.facts
        if not isinstance(facts, SessionFacts):
            return ""
        if facts not in self._logs:
            try:
                self._logs[facts] = check_log(self._sessions / facts.session / "events.jsonl", facts)
            except ProvenanceError as problem:
                self._logs[facts] = problem
        found = self._logs[facts]
        if isinstance(found, ProvenanceError):
            raise found
        return found


def check_log(path: Path, facts: SessionFacts) -> str:
    """Compare a session's event log with the checkpoint of its statement.

    Raises:
        ProvenanceError: The log is here and is not the one that was signed.
    """
    wanted = facts.checkpoint
    chain, first = Chain(facts.session), b"{}"
    try:
        with os.fdopen(open_own(path), "rb") as log:
            for number, line in enumerate(islice(read_lines(log), wanted.seq), 1):
                if fault := chain.find_fault(line):
                    raise _log_problem("provenance.log-broken", f"line {number}: {fault}")
                first = line if number == 1 else first
    except FileNotFoundError:
        return "the session's log is not here"
    except OSError as error:
        raise ProvenanceError(
            "the session's log cannot be read",
            code="provenance.log-unreadable",
            details=str(error),
            remedy=[f"ls -ld {path}"],
        ) from error
    if chain.seq < wanted.seq:
        raise _log_problem("provenance.log-short", f"{chain.seq} events; {wanted.seq} when the statement was signed")
    if chain.prev != wanted.hash:
        raise _log_problem("provenance.log-differs", f"event {wanted.seq} has another hash than was signed")
    begun = json.loads(first)
    if any(begun.get(name) != getattr(facts, name) for name in ("config_sha256", "policy_sha256")):
        raise _log_problem("provenance.log-differs", "it begins with another configuration or policy")
    return f"the session's log is unbroken up to event {wanted.seq}, as it was signed"


def _log_problem(code: str, details: str) -> ProvenanceError:
    return ProvenanceError(
        "the session's log is not the one that was signed",
        code=code,
        details=details,
        remedy=["restore the log from a backup: the statement is about that one"],
    )


def _check_commit(commit: str, content: bytes | None) -> None:
    if content is None:
        raise ProvenanceError(
            "the commit cannot be read", code="provenance.no-commit", details=commit, remedy=["git fsck"]
        )
    algorithm = "sha1" if len(commit) == 40 else "sha256"
    digest = hashlib.new(algorithm, b"commit %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    if digest != commit:
        raise ProvenanceError(
            "the commit's content is not what its name says",
            code="provenance.commit",
            details=f"it is {digest}",
            remedy=["git fsck"],
        )
