"""What a review consists of. PURE data."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Iterable
from typing import Any

from containai.record import dataclass

LINK, SUBMODULE, EXECUTABLE, REGULAR, ABSENT = "120000", "160000", "100755", "100644", "000000"
"""Modes of git's tree entries. Source: git-fast-import(1), filemodify."""

_ID_DIGITS = 10
_NAMED_CHARACTERS = 200
_NAMED_BYTES = 4 * 1024 * 1024  # of all, as JSON: a note, and a line of a log, may not be much longer


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One path that differs. ``old`` and ``new`` are object names; zeros where there is none.

    Trust: path and content are the agent's making.
    """

    path: bytes
    old_mode: str
    new_mode: str
    old: str
    new: str

    @property
    def status(self) -> str:
        """``added``, ``removed``, ``changed``, or ``mode`` when only the mode differs."""
        if self.old_mode == ABSENT:
            return "added"
        if self.new_mode == ABSENT:
            return "removed"
        return "mode" if self.old == self.new else "changed"

    @property
    def name(self) -> str:
        """The path as text that can be printed and put into JSON, the same for the same bytes."""
        return shown(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """A change that runs, obeys or hides something, and therefore has to be acknowledged.

    Attributes:
        digest: SHA-256 of kind, path, mode and content: anybody can compute it again.
        id: Short name of the same: when one of them changes, an old acknowledgement no longer holds.
        detail: What was found there; sanitised.
    """

    digest: str
    id: str
    kind: str
    path: str
    why: str
    detail: str = ""

    @property
    def named(self) -> str:
        """How logs and statements name it."""
        return f"{self.kind} {self.path[:_NAMED_CHARACTERS]} sha256:{self.digest}"

    def as_json(self) -> dict[str, str]:
        """For ``--json``."""
        return {name: getattr(self, name) for name in ("id", "kind", "path", "why", "detail", "digest")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A commit under review, printable. ``skips_ci``: words of its message that tell a CI to do nothing."""

    hash: str
    subject: str
    author: str
    skips_ci: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """Everything about a branch that a person should see before the diff.

    Attributes:
        base: Where the agent started; the diff is from there.
        tip: The branch's last commit.
        triggers: What has to be acknowledged, most telling kinds first.
        notes: What is odd and needs no acknowledgement.
    """

    branch: str
    base: str
    tip: str
    commits: tuple[Commit, ...]
    files: tuple[Change, ...]
    triggers: tuple[Trigger, ...]
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For ``--json``, without the session."""
        return {
            "branch": self.branch,
            "base": self.base,
            "tip": self.tip,
            "commits": [commit.hash for commit in self.commits],
            "files": [{"path": change.name, "status": change.status} for change in self.files],
            "triggers": [trigger.as_json() for trigger in self.triggers],
            "notes": list(self.notes),
        }


def name_all(triggers: Iterable[Trigger]) -> tuple[str, ...]:
    """How logs and statements name triggers: each, up to a bound; then how many more, with one digest."""
    named: list[str] = []
    room, more, rest = _NAMED_BYTES, 0, hashlib.sha256()
    for trigger in triggers:
        room -= len(json.dumps(trigger.named)) + 2
        if room > 0:
            named.append(trigger.named)
        else:
            more += 1
            rest.update(trigger.named.encode() + b"\n")
    return (*named, f"and {more} more sha256:{rest.hexdigest()}") if more else tuple(named)


def build_trigger(key: bytes, kind: str, change: Change, why: str, detail: str = "") -> Trigger:
    """A trigger for a change.

    Args:
        key: The session's own, never seen by the agent: without it nobody can look for a second content whose id,
            of ten digits, is the same.
    """
    parts = (kind.encode(), change.path, change.new_mode.encode(), change.new.encode())
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()
    short = hmac.new(key, digest.encode(), hashlib.sha256).hexdigest()[:_ID_DIGITS]
    return Trigger(digest=digest, id=short, kind=kind, path=change.name, why=why, detail=detail)


def shown(path: bytes) -> str:
    """A path as printable text; what cannot be shown appears as an escape."""
    return "".join(c if c.isprintable() else _escape(c) for c in os.fsdecode(path))


def _escape(character: str) -> str:
    """Source: PEP 383: a byte that is no UTF-8 stands as a lone surrogate."""
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
