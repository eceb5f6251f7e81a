"""The record of a session: what it is and how far it came. ``parse_record`` is pure."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from containai.record import as_dict, dataclass, names_of, needed_by

MAX_RECORD_BYTES = 64 * 1024 * 1024
"""Room for more than a million commits."""

_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
_MAX_ID = 2**32 - 2  # the last number is no user: "do not change", to chown(2)


class Phase(Enum):
    """How far a session has come."""

    CREATING = "creating"
    RUNNING = "running"
    RETURNING = "returning"
    ENDED = "ended"
    UNRETURNED = "unreturned"  # its work is kept in the session's directory


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """What is known about a session; everything ``recover`` needs."""

    id: str
    name: str
    agent: str
    engine: str
    repository: str
    git_dir: str
    base_commit: str
    branch: str
    created: str
    phase: Phase = Phase.CREATING
    agent_uid: int
    agent_gid: int
    push: bool = True
    config_sha256: str = ""
    author: tuple[str, str] | None = None
    exit_code: int | None = None
    commits: tuple[str, ...] = ()
    note: str = ""
    planned_branch: str = ""  # what it was before the work had to stand beside it; empty in records of old
    in_place: bool = False  # that is the user's own: --use-current-branch
    with_commit: bool = False  # the base commit is one that holds what the user had not committed: --with-changes
    image: str = ""  # of the engine, where it has images
    verdict: str = ""  # what its user decided: "merged", "dropped", or nothing yet

    def as_json(self) -> dict[str, Any]:
        """As it is written."""
        return as_dict(self) | {"phase": self.phase.value}


def session_branch(record: SessionRecord) -> str:
    """The branch that the session itself knows: the one in its workspace and its quarantine."""
    return record.planned_branch or record.branch


def parse_record(content: bytes, session_id: str) -> SessionRecord:
    """Read a record, each field by its own rule: what follows from one is done without asking again.

    Args:
        content: The file.
        session_id: The session in whose directory it lies.

    Raises:
        ValueError: It is damaged, or another session's; the message says where.

    Trust: it may have been edited by anyone who can write there.
    """
    try:
        data = json.loads(content, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"it is no JSON: {error}") from error
    if not isinstance(data, dict):
        raise ValueError("it is no JSON object")
    known = names_of(SessionRecord)
    if unknown := data.keys() - set(known):
        raise ValueError(f"{min(unknown)!r} is no field of it")
    for name in known:
        if name not in data:
            if name in needed_by(SessionRecord):
                raise ValueError(f"{name} is missing")
        elif not _RULES[name](data[name]):
            raise ValueError(f"{name} cannot be {_shown(data[name])}")
    if not data.get("in_place") and not data["branch"].startswith(f"{data['agent']}/"):
        raise ValueError(f"branch cannot be {_shown(data['branch'])}, which is none of the agent's")
    if data["id"] != session_id:
        raise ValueError(f"it is the record of session {_shown(data['id'])}")
    return SessionRecord(**data | _typed(data))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _typed(data: Mapping[str, Any]) -> dict[str, Any]:
    typed: dict[str, Any] = {name: tuple(data[name]) for name in ("commits", "author") if data.get(name) is not None}
    if "phase" in data:
        typed["phase"] = Phase(data["phase"])
    return typed


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _is_text(value: Any) -> bool:
    """Text that a program can be given: a path or a name may have bytes that are no UTF-8."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        return False
    return True


def _is_name(value: Any) -> bool:
    """Of a branch, a session or an agent: never an option, and nothing that a terminal would obey."""
    return _is_text(value) and not value.startswith("-") and all(c >= " " and c != "\x7f" for c in value)


def _is_path(value: Any) -> bool:
    return _is_text(value) and value.startswith("/")


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and _HASH.fullmatch(value) is not None


def _is_number(value: Any, most: int) -> bool:
    return type(value) is int and 0 <= value <= most


def _is_user(value: Any) -> bool:
    return _is_number(value, _MAX_ID)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _one_of(*values: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in values


def _filled(rule: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: bool(value) and rule(value)


_RULES: Mapping[str, Callable[[Any], bool]] = {
    "id": _filled(_is_name),
    "name": _filled(_is_name),
    "agent": _filled(_is_name),
    "engine": _one_of("embedded", "docker"),
    "repository": _is_path,
    "git_dir": _is_path,
    "base_commit": _is_hash,
    "branch": _filled(_is_name),
    "created": lambda value: isinstance(value, str) and _MOMENT.fullmatch(value) is not None,
    "phase": _one_of(*(phase.value for phase in Phase)),
    "agent_uid": _is_user,
    "agent_gid": _is_user,
    "push": _is_flag,
    "config_sha256": _is_name,
    "author": lambda value: (
        value is None or (isinstance(value, list) and len(value) == 2 and all(map(_is_text, value)))
    ),
    "exit_code": lambda value: value is None or _is_number(value, 255),
    "commits": lambda value: isinstance(value, list) and all(map(_is_hash, value)),
    "note": _is_text,
    "planned_branch": _is_name,
    "in_place": _is_flag,
    "with_commit": _is_flag,
    "image": _is_name,
    "verdict": _one_of("", "merged", "dropped"),
}
