"""The spool of the exec supervisor: what its loop has recorded, on its way into the log.

The loop (``native/supervise``) lets an exec go on as soon as its record is in this file, so that the record outlives
the launcher; the launcher moves what is there into the chained log, and ``recover`` what a killed launcher left.
"""

from __future__ import annotations

import os
import re
import struct
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from json.encoder import encode_basestring_ascii
from pathlib import Path
from shlex import quote
from typing import Any, BinaryIO

from containai.audit.reading import read_events
from containai.audit.writer import EventLog, Kind
from containai.errors import AuditError
from containai.host.clock import as_rfc3339
from containai.host.ownfile import open_own
from containai.record import dataclass, replace

# native/supervise/supervise.h: struct head
_HEAD = struct.Struct("=IIQiii6H")
_MARK = 0x5845
_LARGEST = 40 + 5 * 4096 + 4096
_CUT, _FOUND, _LOOKED, _NOEXEC, _DENIED, _PATH_UNREAD, _WORDS_UNREAD, _RULE_SHIFT = 1, 2, 4, 8, 16, 32, 64, 16
# What a path, or all words together, may take in the log. A byte that is no text takes five there, a control character
# six: without this bound an exec could write five times into the log what it has asked for.
_MOST_ESCAPED = 4096
_WORST_OF_A_BYTE = 6
_WORST_OF_A_LETTER = 12
_NAMES = "execs*.spool"
_OF_CONTAINER = re.compile(r"execs-([a-z]+)\.spool")

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Denials:
    """What the policy of a session denies, as its records name it.

    Attributes:
        files: Programs that the kernel does not run in this container, by their real paths.
        rules: The names of the rules, in order.
        enforced: Whether that is so, or only looked at.
    """

    files: frozenset[str] = frozenset()
    rules: tuple[str, ...] = ()
    enforced: bool = True

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Denials:
        """From the ``session-config`` event."""
        return cls(
            files=frozenset(config.get("denied", ())),
            rules=tuple(config.get("exec_rules", ())),
            enforced=config.get("exec_policy") != "observe",
        )

    def for_housekeeping(self) -> Denials:
        """For a container of our own, whose one rule it is that it executes our own programs."""
        return replace(self, rules=("housekeeping",), enforced=True)


NOTHING_DENIED = Denials()


def read_records(data: bytes, denials: Denials = NOTHING_DENIED, *, bounded: bool = False) -> tuple[list[Fields], int]:
    """The whole records at the beginning of ``data`` as events, and how many bytes they are.

    Args:
        data: The records.
        denials: What the session denies.
        bounded: For the log: an event that would take more than its bound there is cut.

    Trust: the lengths are the loop's, the texts the agent's.
    """
    found, at = [], 0
    while at + _HEAD.size <= len(data):
        size, flags, nanoseconds, pid, thread, parent, *lengths, mark = _HEAD.unpack_from(data, at)
        if size < _HEAD.size or at + size > len(data) or mark != _MARK:
            break
        texts, start = [], at + _HEAD.size
        for length in lengths:
            texts.append(data[start : start + length])
            start += length
        path, cwd, resolved = (text.decode("utf-8", "backslashreplace") for text in texts[:3])
        interpreters, words = (text.decode("utf-8", "backslashreplace").split("\0")[:-1] for text in texts[3:])
        event = {
            "ts": as_rfc3339(nanoseconds),
            "pid": pid,
            "parent": parent,
            "path": path,
            "cwd": cwd,
            "resolved": resolved,
            "argv": words,
            "truncated": bool(flags & _CUT),
            "verdict": "allow",
        }
        if thread:
            event["thread"] = thread
        if interpreters:
            event["interpreters"] = interpreters
        if flags & (_PATH_UNREAD | _WORDS_UNREAD):
            event["unreadable"] = ["path"] * bool(flags & _PATH_UNREAD) + ["argv"] * bool(flags & _WORDS_UNREAD)
            event |= {"verdict": "deny", "denied_by": "supervisor", "guard": "unreadable"}
        elif flags & _LOOKED and not flags & _FOUND:
            event["absent"] = True  # there was no program: the kernel fails such an exec, unless it appears meanwhile
        else:
            event |= _verdict(flags, (resolved, *interpreters), denials)
        found.append(_bound(event) if bounded and size * _WORST_OF_A_BYTE > _MOST_ESCAPED else event)
        at += size
    return found, at


def _verdict(flags: int, programs: tuple[str, ...], denials: Denials) -> Fields:
    """Who fails this exec, if somebody does. A script takes its interpreters along."""
    if flags & _NOEXEC:
        return {"verdict": "deny", "denied_by": "kernel", "guard": "noexec"}
    number = flags >> _RULE_SHIFT
    if not denials.files.isdisjoint(programs):
        who, enforced = {"denied_by": "kernel", "guard": "landlock"}, denials.enforced
    elif number:
        named = denials.rules[number - 1] if number <= len(denials.rules) else ""
        who, enforced = {"denied_by": "supervisor", "rule": named}, bool(flags & _DENIED)
    else:
        return {}
    if enforced:
        return {"verdict": "deny", **who}
    return {"would_deny": who.get("rule", "deny")}


def _bound(event: Fields) -> Fields:
    """An event that takes no more of the log than its bound; what is left out is said by ``truncated``."""
    for key in ("path", "cwd", "resolved"):
        text = _bound_text(event[key], _MOST_ESCAPED)
        if len(text) < len(event[key]):
            event |= {key: text, "truncated": True}
    for key in ("argv", "interpreters"):
        words = event.get(key, ())
        if sum(map(len, words)) * _WORST_OF_A_LETTER <= _MOST_ESCAPED:
            continue
        room, kept = _MOST_ESCAPED, []
        for word in words:
            kept.append(_bound_text(word, room))
            room -= len(encode_basestring_ascii(kept[-1])) - 2
        if kept != words:
            event |= {key: kept, "truncated": True}
    return event


def _bound_text(text: str, room: int) -> str:
    if len(text) * _WORST_OF_A_LETTER <= room or len(encode_basestring_ascii(text)) - 2 <= room:
        return text
    fits = bisect_right(range(len(text)), room, key=lambda end: len(encode_basestring_ascii(text[:end])) - 2)
    return text[: fits - 1]


def spool_name(container: str) -> str:
    """The spool of a container that is not the agent's."""
    return f"execs-{container}.spool"


def move_records(data: bytes, log: EventLog, denials: Denials = NOTHING_DENIED, container: str = "") -> int:
    """Put the whole records at the beginning of ``data`` into the log; how many bytes they are.

    Args:
        container: Whose execs these are, where they are not the agent's.

    Raises:
        AuditError: The log cannot be written.
    """
    records, used = read_records(data, denials, bounded=True)
    _mark(records, container)
    if records:
        log.append_all((Kind.EXEC, "exec", record) for record in records)
    return used


def has_spools(folder: Path) -> bool:
    """Whether records of a session wait for ``recover_spools``."""
    return any(folder.glob(_NAMES))


def _mark(records: list[Fields], container: str) -> None:
    if container:
        for record in records:
            record["container"] = container


def _open(spool: Path) -> BinaryIO:
    try:
        return os.fdopen(open_own(spool), "rb")
    except OSError as error:
        raise AuditError(
            "the supervisor's spool cannot be read",
            details=str(error),
            remedy=[f"mv {quote(str(spool))}{{,.broken}}   # keep it; recover then goes on without its records"],
        ) from error


def _batches(file: BinaryIO, denials: Denials) -> Iterator[tuple[list[Fields], int]]:
    """All whole records, some at a time, and where each batch ends."""
    at = 0
    while True:
        records, used = read_records(os.pread(file.fileno(), 1 << 20, at), denials, bounded=True)
        if not used:
            return
        at += used
        yield records, at


def recover_spools(folder: Path, log: EventLog) -> tuple[str, ...]:
    """Move into the log what a launcher had not when it was killed or the log failed, and remove its spools.

    Returns:
        The programs that the session's policy denies, by their real paths.

    Raises:
        AuditError: The log cannot be written.
    """
    spools = sorted(folder.glob(_NAMES))
    waiting: set[tuple[str, int]] = set()  # of a spool the room is bounded, and of a log less so
    for spool in spools:
        with _open(spool) as file:
            for records, _ in _batches(file, NOTHING_DENIED):
                waiting.update((record["ts"], record["pid"]) for record in records)
    known: set[tuple[str, int]] = set()
    denials = NOTHING_DENIED
    for event in read_events(log.path):
        if event["kind"] == Kind.EXEC.value:
            if (moved := (event["ts"], event["pid"])) in waiting:
                known.add(moved)
        elif event["event"] == "session-config":
            denials = Denials.read(event)
    for spool in spools:
        whose = _OF_CONTAINER.fullmatch(spool.name)
        container = whose[1] if whose else ""
        with _open(spool) as file:
            at, size = 0, os.fstat(file.fileno()).st_size
            for records, end in _batches(file, denials.for_housekeeping() if container else denials):
                _mark(records, container)
                new = [record for record in records if (record["ts"], record["pid"]) not in known]
                log.append_all((Kind.EXEC, "exec", record) for record in new)
                at = end
            rest = os.pread(file.fileno(), _HEAD.size, at)
        known_form = len(rest) < _HEAD.size or _HEAD.unpack(rest)[-1] == _MARK
        if known_form and size - at < _LARGEST:  # at most one record that was cut short by the kill
            spool.unlink()
        else:
            log.append(Kind.SESSION, "spool-damaged", path=spool.name, unread_bytes=size - at)
            spool.rename(spool.with_suffix(".damaged"))
    return tuple(sorted(denials.files)) if denials.enforced else ()
