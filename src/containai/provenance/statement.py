"""The signed statements about commits: in-toto statements, built and read. PURE.

Source: in-toto Attestation Framework v1, Statement layer. Two predicates of our own: ``session`` says which contained
session returned a commit, ``merge`` says which returned work a merged commit holds and what its user acknowledged.
No statement holds a secret or a path of the user's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from containai.errors import ProvenanceError
from containai.record import dataclass

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
SESSION_PREDICATE = "https://containai.invalid/provenance/session/v1"
MERGE_PREDICATE = "https://containai.invalid/provenance/merge/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"

MAX_SUBJECTS = 1000
"""Commits in one statement; more of them get several. A note is so never larger than its reader takes."""

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TEXT = re.compile(r"[^\x00-\x1f\x7f]{1,400}")
_SESSION = re.compile(r"[0-9a-f]{12}")
_SESSION_TEXTS = ("agent", "engine", "branch", "containai_version", "finished")
_SESSION_DIGESTS = ("config_sha256", "policy_sha256")
_SESSION_FIELDS = {"session", "base_commit", "host_tree", "audit_checkpoint", *_SESSION_TEXTS, *_SESSION_DIGESTS}
_MERGE_FIELDS = {"session", "materials", "acknowledged", "containai_version", "finished"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A place in a session's event log: everything up to it is fixed by ``hash``."""

    seq: int
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTree:
    """Digest of the files that say which packages the host has, and their paths."""

    sha256: str
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFacts:
    """What the ``session`` predicate says."""

    session: str
    agent: str
    engine: str
    branch: str
    base_commit: str
    config_sha256: str
    policy_sha256: str
    host_tree: HostTree
    checkpoint: Checkpoint
    containai_version: str
    finished: str

    def as_predicate(self) -> dict[str, Any]:
        """The predicate's JSON object."""
        return {
            "session": self.session,
            "agent": self.agent,
            "engine": self.engine,
            "branch": self.branch,
            "base_commit": _digest(self.base_commit),
            "config_sha256": self.config_sha256,
            "policy_sha256": self.policy_sha256,
            "host_tree": {"sha256": self.host_tree.sha256, "files": list(self.host_tree.files)},
            "audit_checkpoint": {"seq": self.checkpoint.seq, "hash": self.checkpoint.hash},
            "containai_version": self.containai_version,
            "finished": self.finished,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeFacts:
    """What the ``merge`` predicate says: the returned tip that was merged, and the triggers that were acknowledged."""

    session: str
    returned: str
    acknowledged: tuple[str, ...]
    containai_version: str
    finished: str

    def as_predicate(self) -> dict[str, Any]:
        """The predicate's JSON object."""
        return {
            "session": self.session,
            "materials": [_resource(self.returned)],
            "acknowledged": list(self.acknowledged),
            "containai_version": self.containai_version,
            "finished": self.finished,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A statement: about these commits, these facts."""

    subjects: tuple[str, ...]
    facts: SessionFacts | MergeFacts


def encode_statement(statement: Statement) -> bytes:
    """The statement's bytes, which are signed."""
    merge = isinstance(statement.facts, MergeFacts)
    body = {
        "_type": STATEMENT_TYPE,
        "subject": [_resource(commit) for commit in statement.subjects],
        "predicateType": MERGE_PREDICATE if merge else SESSION_PREDICATE,
        "predicate": statement.facts.as_predicate(),
    }
    return encode_json(body)


def parse_statement(payload: bytes) -> Statement:
    """Read a statement, strictly: what is not expected is refused.

    Raises:
        ProvenanceError: It is no statement of this version.

    Trust: the signature has been checked; the content has not.
    """
    body = parse_object(payload, "statement")
    if body.get("_type") != STATEMENT_TYPE:
        raise ProvenanceError(
            "the signed payload is no in-toto statement of version 1",
            code="provenance.statement-type",
            details=_shown(body.get("_type")),
        )
    kind = body.get("predicateType")
    if kind not in (SESSION_PREDICATE, MERGE_PREDICATE):
        raise ProvenanceError(
            "the statement is of a kind that this version does not know",
            code="provenance.predicate-type",
            details=_shown(kind),
            remedy=["it may be of a later version: verify with that"],
        )
    _expect(set(body) == {"_type", "subject", "predicateType", "predicate"}, "its fields")
    subjects = body["subject"]
    _expect(isinstance(subjects, list) and 0 < len(subjects) <= MAX_SUBJECTS, "subject")
    commits = tuple(_read_resource(entry, "subject") for entry in subjects)
    _expect(len(set(commits)) == len(commits), "subject: one commit twice")
    predicate = body["predicate"]
    _expect(isinstance(predicate, dict), "predicate")
    facts = _read_session(predicate) if kind == SESSION_PREDICATE else _read_merge(predicate)
    return Statement(subjects=commits, facts=facts)


def encode_json(value: Mapping[str, Any]) -> bytes:
    """The one way in which we write JSON: sorted, without spaces, ASCII only, no line feed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def parse_object(text: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object that was written by ``encode_json``: no key twice, no other spelling of the same.

    Trust: anyone may have written it.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        canonical = isinstance(value, dict) and encode_json(value) == text
    except ProvenanceError:
        raise
    except (ValueError, RecursionError) as error:
        raise ProvenanceError(f"the {what} is no JSON", code="provenance.json", details=_shown(error)) from error
    if not canonical:
        raise ProvenanceError(
            f"the {what} is not written the one way that is accepted",
            code="provenance.not-canonical",
            details="sorted keys, no spaces, one JSON object",
        )
    return dict(value)


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ProvenanceError("a key stands twice in one JSON object", code="provenance.duplicate-key")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _read_session(predicate: Mapping[str, Any]) -> SessionFacts:
    _expect(set(predicate) == _SESSION_FIELDS, "predicate: its fields")
    for name in _SESSION_DIGESTS:
        _expect_text(predicate[name], _SHA256, name)
    for name in _SESSION_TEXTS:
        _expect_text(predicate[name], _TEXT, name)
    tree, checkpoint = predicate["host_tree"], predicate["audit_checkpoint"]
    _expect(isinstance(tree, dict) and set(tree) == {"sha256", "files"}, "host_tree")
    _expect_text(tree["sha256"], _SHA256, "host_tree")
    _expect(isinstance(tree["files"], list), "host_tree")
    _expect(isinstance(checkpoint, dict) and set(checkpoint) == {"seq", "hash"}, "audit_checkpoint")
    _expect(type(checkpoint["seq"]) is int and checkpoint["seq"] > 0, "audit_checkpoint")
    return SessionFacts(
        session=_expect_text(predicate["session"], _SESSION, "session"),
        base_commit=_read_digest(predicate["base_commit"], "base_commit"),
        host_tree=HostTree(
            sha256=tree["sha256"], files=tuple(_expect_text(path, _TEXT, "host_tree") for path in tree["files"])
        ),
        checkpoint=Checkpoint(seq=checkpoint["seq"], hash=_expect_text(checkpoint["hash"], _SHA256, "hash")),
        **{name: predicate[name] for name in (*_SESSION_TEXTS, *_SESSION_DIGESTS)},
    )


def _read_merge(predicate: Mapping[str, Any]) -> MergeFacts:
    _expect(set(predicate) == _MERGE_FIELDS, "predicate: its fields")
    materials, acknowledged = predicate["materials"], predicate["acknowledged"]
    _expect(isinstance(materials, list) and len(materials) == 1, "materials")
    _expect(isinstance(acknowledged, list), "acknowledged")
    return MergeFacts(
        session=_expect_text(predicate["session"], _SESSION, "session"),
        returned=_read_resource(materials[0], "materials"),
        acknowledged=tuple(_expect_text(trigger, _TEXT, "acknowledged") for trigger in acknowledged),
        containai_version=_expect_text(predicate["containai_version"], _TEXT, "containai_version"),
        finished=_expect_text(predicate["finished"], _TEXT, "finished"),
    )


def _digest(commit: str) -> dict[str, str]:
    return {"gitCommit": commit}


def _resource(commit: str) -> dict[str, Any]:
    # The name is for people; only the digest counts.
    return {"name": f"commit-{commit[:12]}", "digest": _digest(commit)}


def _read_resource(value: Any, what: str) -> str:
    _expect(isinstance(value, dict) and set(value) == {"name", "digest"}, what)
    commit = _read_digest(value["digest"], what)
    _expect(value["name"] == f"commit-{commit[:12]}", f"{what}: a name that is not its commit's")
    return commit


def _read_digest(value: Any, what: str) -> str:
    _expect(isinstance(value, dict) and set(value) == {"gitCommit"}, what)
    return _expect_text(value["gitCommit"], _COMMIT, what)


def _expect_text(value: Any, pattern: re.Pattern[str], what: str) -> str:
    _expect(isinstance(value, str) and pattern.fullmatch(value) is not None, what)
    return str(value)


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise ProvenanceError("the statement is not as it must be", code="provenance.statement", details=what)


def _shown(value: Any) -> str:
    return repr(value)[:200]
