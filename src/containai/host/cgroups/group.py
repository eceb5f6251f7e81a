"""One session's groups: made with limits, killed as a whole, removed."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from containai.errors import EngineError
from containai.host.cgroups.layout import Layout, parse_hierarchies, read_layout
from containai.host.cgroups.limits import limits_of, write_v1, write_v2
from containai.host.cgroups.model import (
    CONTROLLERS,
    GROUP_PREFIX,
    Delegation,
    EffectiveLimits,
    Kind,
)
from containai.host.clock import monotonic_s
from containai.policy.model import Limits
from containai.record import dataclass

END_TIMEOUT_S = 10.0
_POLL_S = 0.002
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cgroup:
    """The groups of one container: one directory (v2), or one for each controller (v1)."""

    directories: tuple[Path, ...]

    @property
    def procs_files(self) -> tuple[Path, ...]:
        """Files into each of which a process writes its own id (or ``0``) to be limited."""
        return tuple(directory / "cgroup.procs" for directory in self.directories)

    def processes(self) -> frozenset[int]:
        """Ids of the processes inside; empty when the groups are gone."""
        found: set[int] = set()
        for file in self.procs_files:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found.update(map(int, file.read_text().split()))
        return frozenset(found)

    def read_limits(self) -> EffectiveLimits:
        """The limits as the kernel has them."""
        hierarchies = parse_hierarchies(os.fsdecode(Path("/proc/self/mountinfo").read_bytes()))
        membership: dict[str, str] = {}
        for directory in self.directories:
            for hierarchy in hierarchies:
                if directory.is_relative_to(hierarchy.mount_point):
                    group = os.path.normpath(f"{hierarchy.root}/{directory.relative_to(hierarchy.mount_point)}")
                    membership |= dict.fromkeys(hierarchy.controllers or {""}, group)
        return limits_of(Layout(hierarchies=hierarchies, membership=membership))

    def kill(self) -> None:
        """End every process inside, including those that are being forked.

        Raises:
            EngineError: ``engine.cgroup-busy``: one did not end in time.
        """
        deadline_s = monotonic_s() + END_TIMEOUT_S
        if not self.processes():
            return
        self._stop_forks()
        while pids := self.processes():
            if not self._kill_at_once() or len(self.directories) > 1:  # one may not have entered all of them yet
                for pid in pids:
                    self._kill_one(pid)
            if monotonic_s() > deadline_s:
                raise self._busy(f"processes {', '.join(map(str, sorted(pids)))}")
            time.sleep(_POLL_S)

    def destroy(self) -> None:
        """End every process inside and remove the groups. Idempotent.

        Raises:
            EngineError: ``engine.cgroup-busy``: the kernel keeps one.
        """
        self.kill()
        deadline_s = monotonic_s() + END_TIMEOUT_S
        for directory in self.directories:
            while True:
                try:
                    directory.rmdir()
                except FileNotFoundError:
                    break
                except OSError as error:
                    # A process that has just ended still counts for a moment.
                    if error.errno != errno.EBUSY or monotonic_s() > deadline_s:
                        raise self._busy(str(error)) from error
                    self.kill()
                    time.sleep(_POLL_S)
                else:
                    break

    def _stop_forks(self) -> None:
        """Without new processes, killing the present ones comes to an end."""
        for directory in self.directories:
            with contextlib.suppress(OSError):
                (directory / "pids.max").write_text("0")

    def _kill_at_once(self) -> bool:
        killed = False
        for directory in self.directories:
            file = directory / "cgroup.kill"  # Linux 5.14, v2 only
            with contextlib.suppress(OSError):
                if file.exists():
                    file.write_text("1")
                    killed = True
        return killed

    def _kill_one(self, pid: int) -> None:
        """Kill a process that is certainly inside: its id may have gone to another one meanwhile."""
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if pid in self.processes():
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        except ProcessLookupError:
            pass
        finally:
            os.close(handle)

    def _busy(self, details: str) -> EngineError:
        return EngineError(
            "the container's cgroup cannot be removed",
            code="engine.cgroup-busy",
            details=f"{self.directories[0]}: {details}",
            remedy=["containai recover"],
        )


def create(delegation: Delegation, name: str, limits: Limits) -> Cgroup | None:
    """Make the groups of one container.

    Args:
        delegation: Where.
        name: Unique; begins with the session's id, so that ``find_leftovers`` finds it.
        limits: What to write.

    Returns:
        The groups; None where ``delegation.command_prefix`` limits the container instead.

    Raises:
        EngineError: ``engine.cgroup``: the kernel refused; nothing is left behind.
    """
    if delegation.kind is Kind.SYSTEMD:
        return None
    if not _NAME.fullmatch(name):
        raise EngineError(f"{name!r} cannot name a cgroup", code="engine.cgroup")
    group = Cgroup(directories=tuple(base / f"{GROUP_PREFIX}{name}" for base in delegation.bases))
    made: list[Path] = []
    try:
        _prepare(delegation)
        for directory in group.directories:
            directory.mkdir(mode=0o755)
            made.append(directory)
        if delegation.kind is Kind.V2:
            write_v2(group.directories[0], limits)
        else:
            write_v1(dict(zip(CONTROLLERS, group.directories, strict=False)), limits)  # v2's has none
    except OSError as error:
        for directory in made:
            with contextlib.suppress(OSError):
                directory.rmdir()
        raise EngineError(
            "the container's limits cannot be set",
            code="engine.cgroup",
            details=str(error),
            remedy=["containai doctor"],
        ) from error
    return group


def find_leftovers(sessions: Collection[str]) -> tuple[Cgroup, ...]:
    """The groups that these sessions left; call only for sessions that are dead.

    Sessions are named, never guessed: another user's, or those of another state directory, are none
    of ours. Groups of one name in several v1 hierarchies come together.
    """
    found: dict[str, list[Path]] = {}
    for hierarchy in read_layout().hierarchies:
        for directory in _groups_below(hierarchy.mount_point):
            name = directory.name.removeprefix(GROUP_PREFIX)
            if any(name == session or name.startswith(f"{session}-") for session in sessions):
                found.setdefault(name, []).append(directory)
    return tuple(Cgroup(directories=tuple(dict.fromkeys(paths))) for _, paths in sorted(found.items()))


def _groups_below(top: Path) -> Iterator[Path]:
    for path, names, _ in os.walk(top):
        yield from (Path(path, name) for name in names if name.startswith(GROUP_PREFIX))


def _prepare(delegation: Delegation) -> None:
    """v2: hand the controllers down to the directory in which groups are made. Idempotent."""
    if delegation.kind is not Kind.V2:
        return
    base = delegation.bases[0]
    if delegation.parent is not None:
        _enable(delegation.parent)
        base.mkdir(mode=0o755, exist_ok=True)
    if delegation.leaf is not None:
        delegation.leaf.mkdir(mode=0o755, exist_ok=True)
        for pid in (base / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                (delegation.leaf / "cgroup.procs").write_text(pid)
    _enable(base)


def _enable(directory: Path) -> None:
    control = directory / "cgroup.subtree_control"
    missing = [name for name in CONTROLLERS if name not in control.read_text().split()]
    if missing:
        control.write_text(" ".join(f"+{name}" for name in missing))
