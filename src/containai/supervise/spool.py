"""The spool of the exec supervisor: what its loop has recorded, on its way into the log.

The loop (``native/supervise``) lets an exec go on as soon as its record is in this file, so that the record outlives
the launcher; the launcher moves what is there into the chained log, and ``recover`` what a killed launcher left.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from containai.audit.writer import EventLog, Kind, read_events
from containai.host.clock import as_rfc3339
from containai.record import dataclass

# native/supervise/supervise.c: struct head
_HEAD = struct.Struct("=IIQii4H")
_LARGEST = 32 + 4 * 4096 + 4096
_CUT, _FOUND, _LOOKED, _NOEXEC, _DENIED, _RULE_SHIFT = 1, 2, 4, 8, 16, 16
_NAMES = "execs*.spool"

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


NOTHING_DENIED = Denials()


def read_records(data: bytes, denials: Denials = NOTHING_DENIED) -> tuple[list[Fields], int]:
    """The whole records at the beginning of ``data`` as events, and how many bytes they are.

    Trust: the lengths are the loop's, the texts the agent's.
    """
    found, at = [], 0
    while at + _HEAD.size <= len(data):
        size, flags, nanoseconds, pid, parent, *lengths = _HEAD.unpack_from(data, at)
        if size < _HEAD.size or at + size > len(data):
            break
        texts, start = [], at + _HEAD.size
        for length in lengths:
            texts.append(data[start : start + length])
            start += length
        path, cwd, resolved = (text.decode("utf-8", "backslashreplace") for text in texts[:3])
        words = texts[3].decode("utf-8", "backslashreplace").split("\0")[:-1]
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
        if flags & _LOOKED and not flags & _FOUND:
            event["absent"] = True  # there was no program: the kernel fails such an exec, unless it appears meanwhile
        else:
            event |= _verdict(flags, resolved, denials)
        found.append(event)
        at += size
    return found, at


def _verdict(flags: int, resolved: str, denials: Denials) -> Fields:
    """Who fails this exec, if somebody does."""
    if flags & _NOEXEC:
        return {"verdict": "deny", "denied_by": "kernel", "guard": "noexec"}
    number = flags >> _RULE_SHIFT
    if resolved in denials.files:
        who, enforced = {"denied_by": "kernel", "guard": "landlock"}, denials.enforced
    elif number:
        named = denials.rules[number - 1] if number <= len(denials.rules) else ""
        who, enforced = {"denied_by": "supervisor", "rule": named}, bool(flags & _DENIED)
    else:
        return {}
    if enforced:
        return {"verdict": "deny", **who}
    return {"would_deny": who.get("rule", "deny")}


def drain(spool: int, at: int, log: EventLog, denials: Denials = NOTHING_DENIED) -> tuple[int, list[Fields]]:
    """Move what is in the spool behind ``at`` into the log; where the rest begins, and what was moved.

    Raises:
        AuditError: The log cannot be written.
    """
    data = os.pread(spool, 1 << 20, at)
    records, used = read_records(data, denials)
    if records:
        log.append_all((Kind.EXEC, "exec", record) for record in records)
    return at + used, records


def recover_spools(folder: Path, log: EventLog) -> None:
    """Move into the log what a killed launcher had not, and remove its spools.

    Raises:
        AuditError: The log cannot be written.
    """
    spools = sorted(folder.glob(_NAMES))
    if not spools:
        return
    known: set[tuple[str, int]] = set()
    denials = NOTHING_DENIED
    for event in read_events(log.path):
        if event["kind"] == Kind.EXEC.value:
            known.add((event["ts"], event["pid"]))
        elif event["event"] == "session-config":
            denials = Denials.read(event)
    for spool in spools:
        at, size = 0, spool.stat().st_size
        with spool.open("rb") as file:
            while True:
                records, used = read_records(os.pread(file.fileno(), 1 << 20, at), denials)
                if not used:
                    break
                new = [record for record in records if (record["ts"], record["pid"]) not in known]
                log.append_all((Kind.EXEC, "exec", record) for record in new)
                at += used
        if size - at < _LARGEST:  # at most one record that was cut short by the kill
            spool.unlink()
        else:
            log.append(Kind.SESSION, "spool-damaged", path=spool.name, unread_bytes=size - at)
            spool.rename(spool.with_suffix(".damaged"))
