"""``containai log``: the one timeline of a session (A5)."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterator
from typing import Any

from containai.audit.writer import Kind
from containai.cli.environ import Surroundings
from containai.cli.output import Console, printable
from containai.errors import NotFoundError, UsageError
from containai.session.state import SessionDir, SessionStore
from containai.session.timeline import LogReader

_MOST_SHOWN = 400  # characters of one event
_FOR_ALL = "(--json for all)"
_COMMON = frozenset({"seq", "ts", "session", "kind", "event", "prev", "hash"})


def main(args: argparse.Namespace, here: Surroundings, console: Console) -> int:
    """Print events, oldest first; 1 when the log is not as it was written, of which all that can be read is shown."""
    kinds = _kinds(args.kind)
    session = _find(SessionStore(here.state_dir), args.session, console)
    reader = LogReader(session)
    wanted = (event for event in reader.events(args.follow) if kinds is None or event.get("kind") in kinds)
    for line in map(json.dumps, wanted) if args.json else _lines(wanted, whole=kinds is not None):
        print(line, flush=args.follow)
    if reader.problem is None:
        return 0
    sys.stdout.flush()
    raise reader.problem


def _kinds(text: str | None) -> tuple[str, ...] | None:
    if not text:
        return None
    known = frozenset(kind.value for kind in Kind)
    wanted = frozenset(text.split(","))
    if wanted - known:
        raise UsageError(
            f"--kind: unknown kind {min(wanted - known)!r}",
            details=f"known: {', '.join(sorted(known))}",
            remedy=["containai log --kind exec,network"],
        )
    return tuple(wanted)


def _find(store: SessionStore, wanted: str | None, console: Console) -> SessionDir:
    if wanted is not None:
        return store.find(wanted)
    survey = store.survey()
    if survey.whole:
        for directory, error in survey.damaged:
            console.damaged(directory.id, error)
    if survey.whole:
        return survey.whole[-1][0]
    if survey.damaged:
        raise survey.damaged[0][1]
    raise NotFoundError("there is no session yet", remedy=["containai run -- COMMAND"])


def _lines(events: Iterator[dict[str, Any]], *, whole: bool) -> Iterator[str]:
    """A line an event. Unless ``whole``, two things of many lines and little interest are counted.

    They are what the session's own last commit executes, and may; and the places of PATH where a program was not.
    """
    if whole:
        yield from map(_line, events)
        return
    first: dict[str, Any] = {}
    count = 0
    for event, places in _searched(events):
        if _is_ours(event):
            first, count = first or event, count + 1
            continue
        if count:
            yield _counted(first, count)
            first, count = {}, 0
        yield f"{_line(event)}  (not in {places} places before)" if places else _line(event)
    if count:
        yield _counted(first, count)


def _is_ours(event: dict[str, Any]) -> bool:
    return event.get("kind") == "exec" and event.get("container") == "finish" and event.get("verdict") == "allow"


def _searched(events: Iterator[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], int]]:
    """The events; those of a search that found its program only as the number of places before. Others as they are."""
    waiting: list[dict[str, Any]] = []
    for event in events:
        if waiting and any(waiting[-1].get(name) != event.get(name) for name in ("kind", "pid", "argv", "container")):
            yield from ((each, 0) for each in waiting)
            waiting = []
        if event.get("absent") and not _is_ours(event):
            waiting.append(event)
        else:
            yield event, len(waiting)
            waiting = []
    yield from ((each, 0) for each in waiting)


def _counted(first: dict[str, Any], count: int) -> str:
    programs = "1 program" if count == 1 else f"{count} programs"
    return f"{_head({**first, 'absent': False})} {programs} of the last commit (--kind exec for all)"


def _shown(event: dict[str, Any]) -> str:
    try:
        return _summary(event)
    except (LookupError, TypeError, AttributeError, ValueError):  # no event that this program writes
        return _cut(json.dumps(event))


def _line(event: dict[str, Any]) -> str:
    return f"{_head(event)} {printable(_shown(event))}".rstrip()


def _head(event: dict[str, Any]) -> str:
    verdict = "absent" if event.get("absent") else event.get("verdict", "")
    moment, kind = str(event.get("ts"))[11:23], str(event.get("kind"))
    return printable(f"{moment:<12}  {kind:<8} {verdict!s:<6}")


def _denial(event: dict[str, Any]) -> str:
    if event.get("would_deny"):
        return f"  (would be denied: {event['would_deny']})"
    if not event.get("denied_by"):
        return ""
    return f"  (by the {event['denied_by']}: {event.get('rule') or event.get('guard', '')})"


def _summary(event: dict[str, Any]) -> str:
    match event["kind"]:
        case "exec":
            by = _denial(event) + (f"  ({event['container']})" if "container" in event else "")
            return _cut(f"[{event['pid']}] {shlex.join([event['path'], *event['argv'][1:]])}") + by
        case "network":
            where = event.get("url") or f"{event.get('host', '')}:{event.get('port', '')}"
            size = f" ({event.get('bytes_in', 0)} in, {event.get('bytes_out', 0)} out)"
            reason = f" - {event['reason']}" if event.get("reason") else ""
            return f"{event['event']} {event.get('method', '')} {where} {event.get('status', '')}{size}{reason}"
        case "git":
            reason = f" - {event['reason']}" if event.get("reason") else ""
            moved = f"{event.get('old', '')[:12]} -> {event.get('new', '')[:12]}" if event.get("new") else ""
            return f"{event['event']} {event.get('ref', '')} {moved}{reason}"
    if event["event"] == "session-config":
        return _configuration(event)
    details = {key: value for key, value in event.items() if key not in _COMMON}
    return _cut(f"{event['event']} {json.dumps(details, ensure_ascii=True)}")


def _configuration(event: dict[str, Any]) -> str:
    """What the session was begun with, as far as a person looks for it here."""
    facts = f"agent {event['agent']}, branch {event['branch']}, network {event['network']}"
    command = _cut(shlex.join(event["command"])).removesuffix(f" {_FOR_ALL}")
    return f"session-config {facts}, command {command} {_FOR_ALL}"


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}... {_FOR_ALL}"
