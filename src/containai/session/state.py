"""Sessions on disk: one directory each, a record written atomically, a lock held while a launcher lives.

    <state>/sessions/<id>/
        record.json     what the session is and how far it came
        lock            locked by the launcher; free when the launcher is gone
        events.jsonl    the event log
        egress/         the proxy's files
        return.git/     the quarantine repository
        reserve/        room on the disk for the session's end (``reserve.py``)
        workspace/      the agent's copy; the only directory that the container writes

Nobody but the user who launched can enter any of it: what the agent leaves in the workspace, whatever its mode, is
out of every other user's reach. As root the session's own user cannot enter either, the workspace is bound for
him (``engine/embedded/reach.py``); only the proxy's group can walk to the proxy's files.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from containai.errors import ContainaiError, NotFoundError, StateError
from containai.host.ownfile import open_own, read_own
from containai.host.process import run
from containai.record import dataclass, replace
from containai.session.record import MAX_RECORD_BYTES, Phase, SessionRecord, parse_record

_REMOVE_TIMEOUT_S = 600.0
_WALKABLE, _PRIVATE, _PROXY_WALKS = 0o711, 0o700, 0o710


class SessionDir:
    """The directory of one session."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name
        self.record_path = path / "record.json"
        self.events_path = path / "events.jsonl"
        self.workspace = path / "workspace"
        self.quarantine = path / "return.git"
        self.egress = path / "egress"
        self._lock_fd = -1

    def let_proxy_walk(self, gid: int) -> None:
        """As root: let the group of the session's proxy, and no other user, walk to what lies in here."""
        os.chown(self.path, 0, gid)
        self.path.chmod(_PROXY_WALKS)

    def lock(self) -> bool:
        """Take the session's lock; False when a living launcher holds it.

        Raises:
            StateError: There is something else in its place.
        """
        path = self.path / "lock"
        try:
            fd = open_own(path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise StateError(
                "the session's lock cannot be opened",
                code="state.lock",
                details=str(error),
                remedy=[f"ls -ld {path}", "when no launcher works on the session: move that away"],
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._lock_fd = fd
        return True

    def unlock(self) -> None:
        """Give the lock back. Idempotent."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    @property
    def is_born(self) -> bool:
        """Whether it ever had a record: the log is begun after that. What cannot be looked into may have one."""
        try:
            names = set(os.listdir(self.path))
        except FileNotFoundError:
            return self.path.is_symlink()
        except OSError:
            return True
        return self.path.is_symlink() or bool(names & {self.record_path.name, self.events_path.name})

    @property
    def is_live(self) -> bool:
        """Whether a launcher works on this session now."""
        if not self.lock():
            return True
        self.unlock()
        return False

    def write(self, record: SessionRecord) -> None:
        """Replace the record, atomically; from the return on also durably.

        While the session is made a loss of power may still lose its record (``make_durable`` ends that): an fsync of
        the directory would be waited for by every launch.
        """
        temporary = self.record_path.with_suffix(".new")
        try:
            with open(temporary, "w", opener=_private) as file:
                json.dump(record.as_json(), file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.record_path)
            if record.phase not in (Phase.CREATING, Phase.RUNNING):
                _sync(self.path)
        except OSError as error:
            raise self._unwritable(error) from error

    def make_durable(self) -> None:
        """Make sure that a loss of power leaves the session and what a return needs: the record and the quarantine.

        Without a record ``recover`` brings nothing home; without the quarantine's own files nothing that was pushed
        could be read again.
        """
        try:
            for folder, _, files in os.walk(self.quarantine):  # a push may run: what is gone again needs no sync
                for path in (*(Path(folder, name) for name in files), Path(folder)):
                    with suppress(FileNotFoundError):
                        _sync(path)
            for path in (self.path, self.path.parent):
                _sync(path)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> StateError:
        return StateError(
            "the session record cannot be written",
            details=f"{self.path}: {error}",
            remedy=[f"ls -ld {self.path}", "df -h: is there room where the state is kept?"],
        )

    def read(self) -> SessionRecord:
        """Read the record.

        Raises:
            StateError: It is missing or damaged.
        """
        try:
            if self.path.is_symlink():
                raise ValueError("the session's directory is a link")
            return parse_record(read_own(self.record_path, MAX_RECORD_BYTES), self.id)
        except (OSError, ValueError) as error:
            raise StateError(
                "the session record cannot be read",
                code="state.record",
                details=f"{self.record_path}: {error}" if isinstance(error, ValueError) else str(error),
                remedy=[
                    f"ls {self.path}   # workspace/, where it is there, has the agent's files",
                    f"containai remove {self.id} --force   # throws all of it away, and leaves the branch as it is",
                ],
            ) from error

    def review_key(self) -> bytes:
        """The key of the ids of this session's triggers. Made when the agent is gone; no container ever holds it.

        Raises:
            StateError: It cannot be kept.
        """
        path = self.path / "review.key"
        try:
            with suppress(FileExistsError):
                temporary = self.path / f"review.key.{secrets.token_hex(4)}"
                with open(temporary, "xb", opener=_private) as file:
                    file.write(secrets.token_bytes(32))
                try:
                    os.link(temporary, path)
                finally:
                    temporary.unlink()
            return path.read_bytes()
        except OSError as error:
            raise StateError(
                "the key of the review cannot be kept",
                details=f"{path}: {error}",
                remedy=[f"ls -ld {path}", "df -h: is there room where the state is kept?"],
            ) from error

    def update(self, **changes: Any) -> SessionRecord:
        """Change some fields of the record."""
        record = replace(self.read(), **changes)
        self.write(record)
        return record

    def remove_workspace(self) -> None:
        """Delete the agent's copy and everything else that only a running session needs."""
        for path in (self.workspace, self.quarantine, self.egress):
            _remove_tree(path)

    @property
    def has_leftovers(self) -> bool:
        """Whether anything is left that only a running session needs."""
        return any(map(os.path.lexists, (self.workspace, self.quarantine, self.egress)))

    def remove(self) -> None:
        """Delete the whole session. Idempotent."""
        if self.path.is_symlink():
            self.path.unlink()
            return
        with suppress(OSError):  # first: a record that is gone from beside a log is damage, and no session half made
            self.events_path.unlink()
        _remove_tree(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """All sessions with what is known about them, oldest first, and those about which nothing is."""

    whole: tuple[tuple[SessionDir, SessionRecord], ...]
    damaged: tuple[tuple[SessionDir, StateError], ...]


class SessionStore:
    """All sessions below one state directory."""

    def __init__(self, state_dir: Path) -> None:
        self.root = state_dir / "sessions"

    def create(self) -> SessionDir:
        """Make the directory of a new session, locked.

        Raises:
            StateError: The state directory cannot be written.
        """
        mode = _WALKABLE if os.geteuid() == 0 else _PRIVATE
        try:
            _make_directory(self.root.parent, mode)
            _make_directory(self.root, mode)
            path = self.root / secrets.token_hex(6)
            path.mkdir(mode=_PRIVATE)
        except OSError as error:
            raise StateError(
                "the state directory cannot be written",
                code="state.unwritable",
                details=str(error),
                remedy=[f"make {self.root.parent} writable, or set XDG_STATE_HOME to a directory that is"],
            ) from error
        session = SessionDir(path)
        session.lock()
        return session

    def all(self) -> Iterator[SessionDir]:
        """Every session that has a record or a log, be it damaged.

        Raises:
            StateError: The directory of the sessions cannot be read.
        """
        for session in self._directories():
            if session.is_born:
                yield session

    def _directories(self) -> list[SessionDir]:
        try:
            return [SessionDir(path) for path in self.root.iterdir() if path.is_dir() or path.is_symlink()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StateError(
                "the sessions cannot be read",
                code="state.unreadable",
                details=str(error),
                remedy=[f"ls -ld {self.root.parent} {self.root}"],
            ) from error

    def survey(self) -> Survey:
        """Every session, oldest first; those whose record is damaged apart, so that they stop nobody else's."""
        whole: list[tuple[SessionDir, SessionRecord]] = []
        damaged: list[tuple[SessionDir, StateError]] = []
        for session in self.all():
            try:
                whole.append((session, session.read()))
            except StateError as error:
                if session.is_born:  # else it has been removed meanwhile
                    damaged.append((session, error))
        whole.sort(key=lambda entry: (entry[1].created, entry[1].id))
        return Survey(whole=tuple(whole), damaged=tuple(sorted(damaged, key=lambda entry: entry[0].id)))

    def remove_unborn(self) -> None:
        """Remove what launchers left that died before they had written a record; a living one holds its lock."""
        for session in self._directories():
            if not session.is_born and (session.path / "lock").exists() and session.lock():
                session.remove()
                session.unlock()

    def find_damaged(self, session_id: str) -> SessionDir | None:
        """The session with this whole id, if its record cannot be read."""
        return next((session for session, _ in self.survey().damaged if session.id == session_id), None)

    def find(self, wanted: str) -> SessionDir:
        """The session with this id (or a unique beginning of it), name or branch; of several, the newest.

        Names and branches are those of the repository that the user stands in; of another one only if there alone
        they exist.

        Raises:
            NotFoundError: There is none, or what was given fits several.
        """
        survey = self.survey()
        sessions = survey.whole
        exact = [(s, r) for s, r in sessions if wanted in (r.id, r.name, r.branch)]
        here = [(s, r) for s, r in exact if r.id == wanted or _stands_in(r.repository)]
        if here or exact:
            places = {r.repository for _, r in here or exact}
            if len(places) > 1:
                raise NotFoundError(
                    f"{wanted!r} is a session in {len(places)} repositories",
                    code="session.ambiguous",
                    details="\n".join(f"{r.id}  {r.repository}" for _, r in exact[-10:]),
                    remedy=["name it by its id", "or change to the repository"],
                )
            return (here or exact)[-1][0]
        begun = [s for s, r in sessions if r.id.startswith(wanted)]
        if not begun:
            for session, error in survey.damaged:
                if session.id.startswith(wanted):
                    raise error
        if len(begun) != 1:
            raise NotFoundError(
                f"no session {wanted!r}" if not begun else f"{wanted!r} fits {len(begun)} sessions",
                details="" if begun else _did_you_mean(wanted, survey),
                remedy=["containai list"],
            )
        return begun[0]


def _did_you_mean(wanted: str, survey: Survey) -> str:
    """The name most like it: of the repository that the user stands in where there is one."""
    from difflib import get_close_matches

    records = [record for _, record in survey.whole]
    for some in ([record for record in records if _stands_in(record.repository)], records):
        names = {name for record in some for name in (record.id, record.name, record.branch)}
        if near := get_close_matches(wanted, sorted(names), n=1):
            return f"did you mean {near[0]!r}?"
    damaged = " ".join(session.id for session, _ in survey.damaged)
    return f"it may be one whose record cannot be read: {damaged}" if damaged else ""


def _stands_in(repository: str) -> bool:
    with suppress(OSError):
        return Path.cwd().is_relative_to(repository)
    return False


def _remove_tree(path: Path) -> None:
    """Delete a tree, however deep and whatever its permissions. What cannot be deleted stays for ``recover``.

    Trust: the agent made it. ``rm`` follows no link, and stays on this file system.
    """
    if not os.path.lexists(path):
        return
    with contextlib.suppress(ContainaiError):
        if run(["rm", "-rf", "--one-file-system", "--", path], timeout_s=_REMOVE_TIMEOUT_S).status != 0:
            run(["chmod", "-R", "u+rwX", "--", path], timeout_s=_REMOVE_TIMEOUT_S)
            run(["rm", "-rf", "--one-file-system", "--", path], timeout_s=_REMOVE_TIMEOUT_S)


def _make_directory(path: Path, mode: int) -> None:
    if not path.is_dir():
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        path.chmod(mode)


def _sync(path: Path) -> None:
    """Make a file, or the names in a directory, durable. Source: fsync(2), "Calling fsync() does not ..."."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
