"""What the attacks came to, as seen from outside.

The word of a program inside makes no claim hold by itself where the host can look.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from containai.audit.chain import find_break
from containai.errors import ProvenanceError
from containai.host import cgroups
from containai.provenance.keys import trusted_keys
from containai.provenance.verify import Verifier
from containai.record import dataclass
from containai.selftest.result import Verdict
from containai.selftest.stage import FLOOD, Stage

Said = tuple[Verdict, str]
_NOT_TRIED = (Verdict.UNAVAILABLE, "the session ended before it was tried")
_IN_LOG = {  # attacks whose program says a word of its own, for which the log is searched
    "plain-exec": "plain",
    "exec-of-a-script": "script",
    "exec-from-memory": "memfd",
    "exec-by-descriptor": "descriptor",
    "exec-by-the-loader": "loader",
    "exec-through-the-root-link": "root",
    "exec-of-a-copy": "copy",
    "exec-by-a-thread": "thread",
    "exec-without-arguments-in-reach": "many",
    "exec-from-memory-that-is-not-read": "write-only",
    "exec-by-a-process-that-is-not-read": "undumpable",
    "exec-under-a-false-name": "link",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One session of the self-test that has ended: its ``--json`` result, and what its program said."""

    result: Mapping[str, Any]
    said: Mapping[str, Said]

    @property
    def log(self) -> Path:
        """Its event log."""
        return Path(self.result["event_log"])

    def lines(self) -> list[bytes]:
        """The log's lines."""
        return self.log.read_bytes().splitlines(keepends=True)

    def events(self) -> list[dict[str, Any]]:
        """The log's events. A line that is none is no reason to end: an attack may have written it."""
        events = []
        for line in self.lines():
            with suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict) and {"kind", "event"} <= event.keys():
                    events.append(event)
        return events


def judge(
    stage: Stage, first: Session, limits: Session, ending: Session, *, before: str, config_dir: Path
) -> dict[str, Said]:
    """A verdict for every attack, by its id."""
    found: dict[str, Said] = {**first.said, **limits.said, **ending.said}
    found.update(_processes(stage, found))
    found.update(_network(stage, first))
    found.update(_secrets(stage, first))
    found.update(_repository(stage, first, before))
    found.update(_limits(stage, limits))
    found.update(_recorded(stage, first))
    found.update(_last_commit(stage, first))
    found.update(_evidence(stage, first, config_dir))
    found.update(_ending(stage, ending))
    return found


def _held(holds: bool, detail: str, otherwise: str) -> Said:
    return (Verdict.HELD, detail) if holds else (Verdict.BROKEN, otherwise)


def _processes(stage: Stage, said: Mapping[str, Said]) -> Iterator[tuple[str, Said]]:
    _, detail = said.get("processes.kill-the-hosts", _NOT_TRIED)
    alive = stage.victim.poll() is None
    yield "processes.kill-the-hosts", _held(alive, f"it lives; inside: {detail}", "the host's process was ended")


def _network(stage: Stage, session: Session) -> Iterator[tuple[str, Said]]:
    visitors = stage.service.visitors
    yield "network.seen-from-the-host", _held(visitors == 0, "no visitor", f"{visitors} visitors")
    events = [event for event in session.events() if event["kind"] == "network"]
    denied = {event.get("host") for event in events if event.get("verdict") == "deny"}
    wanted = {f"{stage.token}.example", "169.254.169.254", "127.0.0.1"}
    if not any(name.startswith("network.proxy-") for name in session.said):
        yield "network.refusals-recorded", _NOT_TRIED
    elif session.said["network.proxy-unlisted-host"][1].startswith("ECONNREFUSED"):
        yield "network.refusals-recorded", (Verdict.HELD, "the policy grants no network: there is no proxy to refuse")
    else:
        missing = sorted(wanted - denied)
        yield "network.refusals-recorded", _held(not missing, f"{len(denied)} hosts", f"not in the log: {missing}")


def _secrets(stage: Stage, session: Session) -> Iterator[tuple[str, Said]]:
    for name, value in (("secret-on-disk", stage.secret), ("passed-value-on-disk", stage.passed)):
        where = [path for path in _files(session.log.parent) if value.encode() in path.read_bytes()]
        yield f"credentials.{name}", _held(not where, "in none", f"in {', '.join(map(str, where))}")


def _files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place, name) for name in names if Path(place, name).is_file())


def _repository(stage: Stage, session: Session, before: str) -> Iterator[tuple[str, Said]]:
    then, now = before.split(SEPARATOR), look(stage).split(SEPARATOR)
    for place, name in enumerate(("refs-of-the-host", "working-tree", "configuration")):
        yield f"git.{name}", _held(then[place] == now[place], "as before", f"{then[place]!r} became {now[place]!r}")
    planted = [path.name for path in (stage.repository / ".git/hooks").glob("*") if path.suffix != ".sample"]
    ran = stage.marker.exists()
    otherwise = f"hooks here: {planted}; one ran: {ran}"
    yield "git.plant-a-hook", _held(not planted and not ran, "nothing came back, nothing ran", otherwise)
    commits = session.result["commits"]
    home = bool(commits) and "honest-work" in stage.git("ls-tree", "--name-only", commits[-1]).split()
    yield "git.work-came-home", _held(home, f"{len(commits)} commits", "it is in no returned commit")
    events = [event for event in session.events() if event["kind"] == "git"]
    refused = {str(event.get("ref")) for event in events if event.get("verdict") == "deny"}
    if session.said.get("git.push-main", _NOT_TRIED)[0] is not Verdict.HELD:
        yield "git.push-recorded", _NOT_TRIED
    else:
        yield "git.push-recorded", _held("refs/heads/main" in refused, "main, among others", f"only {sorted(refused)}")


SEPARATOR = "\0"


def look(stage: Stage) -> str:
    """All that sessions must leave as it is: refs but for their own branches, working tree, configuration."""
    refs = stage.git("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    kept = [ref for ref in refs if not ref.startswith(("refs/heads/shell/", "refs/notes/containai "))]
    status = stage.git("status", "--porcelain", "--ignored")
    return SEPARATOR.join(["\n".join(kept), status, stage.git("config", "--list", "--local")])


def _limits(stage: Stage, session: Session) -> Iterator[tuple[str, Said]]:
    status = session.result["exit_code"]
    broken = find_break(session.lines())
    flood = sum(event["kind"] == "exec" and event["argv"] == [f"{stage.token}-flood"] for event in session.events())
    problems = {
        "limits.flood-of-execs": flood < FLOOD and f"{flood} of {FLOOD} programs are in the log",
        "limits.flood-of-output": status != 0 and f"the session ended with status {status}",
    }
    for name, problem in problems.items():
        if session.said.get(name, _NOT_TRIED)[0] is Verdict.UNAVAILABLE:
            continue
        found = problem or (broken and f"the log breaks: {broken}")
        yield name, _held(not found, "the log is whole, the session went on", str(found))


def _recorded(stage: Stage, session: Session) -> Iterator[tuple[str, Said]]:
    execs = [event for event in session.events() if event["kind"] == "exec"]
    refused = any(event.get("guard") == "unreadable" for event in execs)
    for name, word in _IN_LOG.items():
        verdict, detail = session.said.get(f"evidence.{name}", _NOT_TRIED)
        if verdict is not Verdict.HELD:
            continue
        found = [event for event in execs if f"{stage.token}-{word}" in event["argv"]]
        if detail.startswith("EFAULT"):
            yield f"evidence.{name}", _held(refused, "refused, which is in the log", "its refusal is not in the log")
        else:
            yield f"evidence.{name}", _held(bool(found), "it is in the log", "it ran, and is not in the log")
        if name == "exec-under-a-false-name" and found:
            file = str(found[0].get("resolved"))
            yield f"evidence.{name}", _held(not file.startswith(("/tmp/", "/proc/")), file, f"the log says {file}")


def _last_commit(stage: Stage, session: Session) -> Iterator[tuple[str, Said]]:
    """What ran in the container that commits what is left."""
    name = "evidence.plant-for-the-last-commit"
    if session.said.get(name, _NOT_TRIED)[0] is not Verdict.HELD:
        return
    ours = [event for event in session.events() if event["kind"] == "exec" and event.get("container") == "finish"]
    planted = [event for event in ours if f"{stage.token}-planted" in " ".join(event["argv"])]
    if any(event["verdict"] != "deny" for event in planted):
        yield name, (Verdict.BROKEN, "it ran")
    else:
        yield (
            name,
            _held(bool(ours), f"{len(ours)} programs ran, none of them its own", "the log does not say what ran"),
        )


def _evidence(stage: Stage, session: Session, config_dir: Path) -> Iterator[tuple[str, Said]]:
    lines, events = session.lines(), session.events()
    broken = find_break(lines)
    yield "evidence.chain", _held(broken is None, f"{len(lines)} events", f"it breaks: {broken}")
    ends = (events[0]["event"], events[-1]["event"])
    yield (
        "evidence.from-beginning-to-end",
        _held(ends == ("session-config", "session-end"), " to ".join(ends), " to ".join(ends)),
    )
    yield "evidence.statement", _verified(stage, session, config_dir, session.log.parent.parent)
    middle = len(lines) // 2
    edited = copy.copy(lines)
    edited[middle] = edited[middle].replace(b'"kind":"', b'"kind":"x', 1)
    forged = {
        "edited": edited,
        "removed": lines[:middle] + lines[middle + 1 :],
        "swapped": [*lines[:middle], lines[middle + 1], lines[middle], *lines[middle + 2 :]],
    }
    for name, other in forged.items():
        seen = find_break(other)
        yield f"evidence.{name}", _held(seen is not None, f"{seen}", "nobody would have seen it")
    with tempfile.TemporaryDirectory(prefix="containai-selftest-") as folder:
        place = Path(folder) / session.log.parent.name
        shutil.copytree(session.log.parent, place, ignore=lambda _, names: [n for n in names if n != "events.jsonl"])
        (place / "events.jsonl").write_bytes(b"".join(lines[:3]))
        verdict, detail = _verified(stage, session, config_dir, Path(folder))
    if verdict is not Verdict.UNAVAILABLE:
        yield "evidence.cut", _held(verdict is Verdict.BROKEN, detail, "nobody would have seen it")


def _verified(stage: Stage, session: Session, config_dir: Path, sessions: Path) -> Said:
    if not session.result["commits"]:
        return _NOT_TRIED
    problem: ProvenanceError | None
    try:
        verifier = Verifier(stage.repository / ".git", trusted_keys(config_dir, []), sessions)
        problem = verifier.verify([session.result["commits"][-1]])[0].problem
    except ProvenanceError as error:  # there is no key, and so no statement
        problem = error
    detail = f"{problem.summary}: {problem.details}" if problem else "verified, with its log"
    return _held(problem is None, detail, detail)


def _ending(stage: Stage, session: Session) -> Iterator[tuple[str, Said]]:
    result = session.result
    if session.said.get("ending.kill-everything", _NOT_TRIED)[0] is not Verdict.HELD:
        return  # it was ended before it had begun
    alive = stage.victim.poll() is None
    yield "ending.kill-everything", _held(alive, "the host's processes live", "a process of the host's was ended")
    reason = result["reason"]
    yield "ending.time-limit", _held(reason == "timeout", "ended by the launcher", f"it ended with {reason!r}")
    home = bool(result["commits"]) and "work-of-the-last-moment" in stage.git(
        "ls-tree", "--name-only", result["commits"][-1]
    )
    yield "ending.work-of-the-last-moment", _held(home, "it is in the returned commit", "it is not")
    groups = list(cgroups.find_leftovers({result["session"]}))
    left = [
        name for name in ("workspace", "return.git", "egress") if (Path(result["event_log"]).parent / name).exists()
    ]
    nothing = not groups and not left
    yield "ending.nothing-left", _held(nothing, "no process, no copy", f"groups {groups}, folders {left}")
