"""A session's git side without a container: the real server, the real scripts, on loopback and a plain directory."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from containai.audit.reading import read_events
from containai.audit.writer import EventLog
from containai.git_return.apply import Returned, apply_return
from containai.git_return.quarantine import Quarantine, create_quarantine
from containai.git_return.server import ReturnServer
from containai.plan.model import Source
from containai.supervise.housekeeping import PROGRAMS
from containai.workspace.branch import end_claim, reserve_branch
from containai.workspace.scripts import FinishReport, finish_command, parse_finish_output, prepare_command
from containai.workspace.seed import seed_workspace
from containai.workspace.source import resolve_source
from tests.support.git import ENVIRONMENT, branches, git


@dataclass
class Session:
    """One session of agent ``claude`` on a repository."""

    host: Path
    place: Path
    source: Source
    branch: str
    quarantine: Quarantine
    log: EventLog
    server: ReturnServer
    listener: socket.socket
    variables: dict[str, str] = field(default_factory=dict)  # more of them for the scripts

    @property
    def workspace(self) -> Path:
        return self.place / "workspace"

    @property
    def url(self) -> str:
        return f"git://127.0.0.1:{self.listener.getsockname()[1]}/return.git"

    def prepare(self, *, seeded: bool = True) -> None:
        """Fill the workspace, as the host and the ``prepare`` container do."""
        self.workspace.mkdir()
        if seeded:
            seed_workspace(
                self.workspace,
                quarantine=self.quarantine.path,
                source=self.source,
                branch=self.branch,
                agent="claude",
                url=self.url,
            )
        command = prepare_command(
            source=self.source,
            branch=self.branch,
            agent="claude",
            url=self.url,
            directory=PurePosixPath(self.workspace),
        )
        done = self._run(command)
        assert done.returncode == 0, done.stderr

    def finish(self) -> FinishReport:
        """Commit and push what is left, as the ``finish`` container does."""
        command = finish_command(
            source=self.source,
            branch=self.branch,
            agent="claude",
            session_id="0123456789ab",
            config_sha256="c" * 64,
            url=self.url,
            directory=PurePosixPath(self.workspace),
        )
        # No Linux capability there either: what its owner may not read, root may not.
        bare = ("/usr/bin/setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
        done = self._run((*bare, *command), path=self._own_programs())
        self.finish_said = done.stdout + done.stderr
        assert b": not found\n" not in done.stderr, done.stderr  # a program beside those
        report = parse_finish_output(done.stdout)
        assert (done.returncode == 0) == (not report.failed), done
        return report

    def apply(self) -> Returned:
        """Stop serving and bring the work home."""
        self.server.stop()
        return apply_return(self.source, self.quarantine, self.branch, self.source.base_commit)

    def events(self, name: str) -> list[dict[str, Any]]:
        """The events of this name; complete only once the server has stopped."""
        self.server.stop()
        return [event for event in read_events(self.log.path) if event["event"] == name]

    def agent(self, *arguments: str | bytes | Path, **options: Any) -> str:
        """Git as the agent runs it in its workspace."""
        return git(self.workspace, *arguments, **options)

    def close(self) -> None:
        """End everything."""
        self.server.stop()
        self.listener.close()
        self.log.close()
        end_claim(self.source, self.branch)

    def _own_programs(self) -> str:
        """A search path on which there is nothing but what the supervisor of ``finish`` lets be executed."""
        place = self.place / "programs"
        if not place.exists():
            place.mkdir()
            for name in PROGRAMS:
                (place / name).symlink_to(shutil.which(name, path=ENVIRONMENT["PATH"]) or name)
        return str(place)

    def _run(self, command: tuple[str, ...], path: str = ENVIRONMENT["PATH"]) -> subprocess.CompletedProcess[bytes]:
        scratch = self.place / "tmp"
        scratch.mkdir(exist_ok=True)
        environment = {"PATH": path, "HOME": str(scratch), "TMPDIR": str(scratch), "LC_ALL": "C.UTF-8"}
        environment |= self.variables
        return subprocess.run(command, env=environment, cwd="/", capture_output=True, timeout=60, check=False)


def open_session(host: Path, place: Path, *, name: str | None = None, source: Source | None = None) -> Session:
    """Reserve a branch, make the quarantine and serve it."""
    place.mkdir(mode=0o700)
    source = source or resolve_source(host)
    branch = reserve_branch(source, "claude", name)
    quarantine = create_quarantine(place / "return.git", source, branch)
    log = EventLog(place / "events.jsonl", "0123456789ab")
    listener = socket.create_server(("127.0.0.1", 0))
    server = ReturnServer(listener, quarantine, log)
    server.start()
    return Session(
        host=host,
        place=place,
        source=source,
        branch=branch,
        quarantine=quarantine,
        log=log,
        server=server,
        listener=listener,
    )


def reachable_files(repository: Path, commit: str) -> list[str]:
    """Names of the files in a commit."""
    done = subprocess.run(
        ["git", "-C", repository, "ls-tree", "-r", "-z", "--name-only", commit],
        env=ENVIRONMENT,
        capture_output=True,
        timeout=60,
        check=True,
    )
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]


class Home:
    """What arrived of a session, once it was finished and applied."""

    def __init__(self, session: Session) -> None:
        self.report = session.finish()
        assert self.report.failed == "", session.finish_said
        self.returned = session.apply()
        self.host = session.host
        self.new = self.returned.new
        assert branches(session.host)[self.returned.branch] == self.new
        git(session.host, "fsck", "--strict", "--no-dangling")

    def files(self) -> list[str]:
        return reachable_files(self.host, self.new)

    def read(self, name: str) -> str:
        return git(self.host, "show", f"{self.new}:{name}")

    def history(self) -> list[str]:
        return git(self.host, "log", "--format=%s", self.new).splitlines()

    def said(self) -> str:
        return "\n".join(self.report.notes)
