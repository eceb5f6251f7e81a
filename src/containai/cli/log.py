"""``containai log``: the one timeline of a session (A5)."""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Iterator
from typing import Any

from containai.audit.writer import Kind
from containai.cli.environ import Surroundings
from containai.cli.output import Console, printable
from containai.errors import NotFoundError, UsageError
from containai.session.state import SessionDir, SessionStore

_POLL_S = 0.2
_MOST_SHOWN = 400  # characters of one event
_FOR_ALL = "(--json for all)"
_COMMON = frozenset({"seq", "ts", "session", "kind", "event", "prev", "hash"})


def main(args: argparse.Namespace, here: Surroundings, _console: Console) -> int:
    """Print events, oldest first."""
    kinds = _kinds(args.kind)
    session = _find(SessionStore(here.state_dir), args.session)
    for event in _events(session, args.follow):
        if event["kind"] in kinds:
            print(json.dumps(event) if args.json else _line(event), flush=args.follow)
    return 0


def _kinds(text: str | None) -> frozenset[str]:
    known = frozenset(kind.value for kind in Kind)
    wanted = frozenset(text.split(",")) if text else known
    if wanted - known:
        raise UsageError(
            f"--kind: unknown kind {min(wanted - known)!r}",
            details=f"known: {', '.join(sorted(known))}",
            remedy=["containai log --kind exec,network"],
        )
    return wanted


def _find(store: SessionStore, wanted: str | None) -> SessionDir:
    if wanted is not None:
        return store.find(wanted)
    survey = store.survey()
    if survey.whole:
        return survey.whole[-1][0]
    if survey.damaged:
        raise survey.damaged[0][1]
    raise NotFoundError("there is no session yet", remedy=["containai run -- COMMAND"])


def _events(session: SessionDir, follow: bool) -> Iterator[dict[str, Any]]:
    with session.events_path.open("rb") as log:
        pending = b""
        while True:
            live = follow and session.is_live  # asked first: what it wrote before its end is then read
            while chunk := log.readline():
                pending += chunk
                if pending.endswith(b"\n"):
                    yield json.loads(pending)
                    pending = b""
            if not live:
                return
            time.sleep(_POLL_S)


def _line(event: dict[str, Any]) -> str:
    verdict = "absent" if event.get("absent") else event.get("verdict", "")
    moment = event["ts"][11:23]
    return printable(f"{moment}  {event['kind']:<8} {verdict:<6} {_summary(event)}").rstrip()


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
