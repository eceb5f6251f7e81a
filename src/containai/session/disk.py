"""The guard of the disk: an agent that fills it is ended before it is full, and its work comes home.

No quota of the file system's: those need a file system that has them, and root. Once a second the free space and the
free files are asked for, which costs nothing; when they have gone down, what the session holds is measured: its whole
directory, and open files without a name. So what is granted can be exceeded by as much as is written meanwhile.

A neighbour's disk is shared too: space that is gone is held against a session only for what it holds itself. Where it
holds something that cannot be measured (a folder that is shut to this user, a file hidden in a socket, names that are
gone each time they are looked for), nothing speaks for it any more, and the space that is gone counts as its.

A tree that moves while it is measured can hide what is moved, or exchanged, in step with that. So before space that
is gone is left to others, the session is measured once more while its processes stand still, where that can be had.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from containai.errors import ContainaiError, WorkspaceError
from containai.host.cgroups import Freezer
from containai.host.clock import monotonic_s
from containai.host.holdings import look
from containai.host.measure import Measured, measure_trees
from containai.record import dataclass
from containai.session import reserve
from containai.session.lookout import Lookout

RESERVE_BYTES = 512 * 1024 * 1024
"""Free space below which an agent that took some of it is ended: its work has to be packed, and others write too."""
RESERVE_FILES = 10_000
"""The same of files (inodes), or a twentieth of all where the file system has few."""

_INTERVAL_S = 1.0
_MEASURE_S = 120.0
_URGENT_S = 5.0
_STILL_S = 30.0  # that its processes stand still for, at most
_TRIES = 3  # where names vanish meanwhile, and so much is gone that it matters what they were
_PAUSE_FACTOR = 10  # a measurement that took a second is followed by ten without one
# How often, on the way to its limit, a session is measured; and the share of a reserve that is held against it.
_STEPS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Bytes and files (inodes)."""

    bytes: int
    files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Held(Space):
    """What a session holds; ``hidden`` says why that is not all, or nothing."""

    hidden: str = ""


class DiskGuard(Lookout):
    """Watches one session until it is stopped.

    Args:
        session: Its directory; all in it but the reserve counts.
        workspace: The part of it that the agent writes.
        first: The container's first process.
        most_bytes: What the session may hold.
        reserve_bytes: What is left free to others.
        reserve_files: The same of files.
        freezer: What makes the container's processes stand still.
    """

    def __init__(
        self,
        session: Path,
        workspace: Path,
        first: int,
        most_bytes: int,
        on_failure: Callable[[ContainaiError], None],
        *,
        reserve_bytes: int = RESERVE_BYTES,
        reserve_files: int = RESERVE_FILES,
        freezer: Freezer | None = None,
    ) -> None:
        super().__init__("disk-guard", first, _INTERVAL_S, self._look_at_disk, on_failure, _blind)
        self._session, self._workspace, self._first, self._most_bytes = session, workspace, first, most_bytes
        self._reserve_bytes = reserve_bytes
        self._files_reserve = min(reserve_files, total_files(workspace) // 20)
        self._begun = self._highest = self._measured_at = free_space(workspace)
        self._had: Space | None = None  # from the first look that saw all
        self._has_looked = False
        self._not_before = self._still_not_before = 0.0
        self._freezer, self._restless = freezer, 0

    def _look_at_disk(self) -> ContainaiError | None:
        free = free_space(self._workspace)
        # Others make room meanwhile: what is lost is lost since there was most of it.
        self._highest, self._measured_at = _most(self._highest, free), _most(self._measured_at, free)
        lost = self._measured_at.bytes - free.bytes
        due = lost > self._most_bytes // _STEPS and monotonic_s() > self._not_before
        if not (due or not self._has_looked or self._is_short(free)):
            return None
        start = monotonic_s()
        held = self._measure(start + _URGENT_S, with_files=self._had is None or self._is_few(free))
        self._measured_at, self._not_before = free, monotonic_s() + _PAUSE_FACTOR * (monotonic_s() - start)
        had = self._had or self._had_before(held, free)
        if not held.hidden:
            self._had = had
        self._has_looked = True
        free = free_space(self._workspace)
        why = self._judge(free, held, had)
        if why is None and self._might_hide(free, had) and monotonic_s() > self._still_not_before:
            why = self._look_in_stillness(had)
        return why

    def _might_hide(self, free: Space, had: Space) -> bool:
        """Whether so much is gone that it could hold more than it may, if all of that were its."""
        lost = self._highest.bytes - free.bytes
        return had.bytes + lost > self._most_bytes or self._is_short(free)

    def _look_in_stillness(self, had: Space) -> ContainaiError | None:
        if self._freezer is None:
            return None
        start = monotonic_s()
        with self._freezer.frozen() as still:
            self._restless = 0 if still else self._restless + 1
            held = self._measure(start + _URGENT_S, with_files=True, timeout_s=_STILL_S) if still else None
        self._still_not_before = monotonic_s() + _PAUSE_FACTOR * (monotonic_s() - start)
        if held is None and self._restless >= _TRIES:
            held = Held(bytes=0, files=0, hidden="its processes cannot be stopped while it is measured")
        return None if held is None else self._judge(free_space(self._workspace), held, had)

    def _had_before(self, held: Held, free: Space) -> Space:
        """What of that was there when it began; what is gone since then is held against it."""
        return Space(
            bytes=max(0, held.bytes - max(0, self._begun.bytes - free.bytes)),
            files=max(0, held.files - max(0, self._begun.files - free.files)),
        )

    def _is_short(self, free: Space) -> bool:
        return self._is_scarce(free) or self._is_few(free)

    def _is_scarce(self, free: Space) -> bool:
        return free.bytes < self._reserve_bytes and self._begun.bytes - free.bytes > RESERVE_BYTES // _STEPS

    def _is_few(self, free: Space) -> bool:
        return free.files < self._files_reserve and self._begun.files - free.files > self._files_reserve // _STEPS

    def _judge(self, free: Space, held: Held, had: Space) -> ContainaiError | None:
        if held.bytes > self._most_bytes:
            return _full(f"the session holds {held.bytes:,} bytes, {self._most_bytes:,} at most")
        lost = self._highest.bytes - free.bytes
        if held.hidden and lost > self._most_bytes:
            return _full(f"the disk has lost {lost:,} bytes, and not all is known of the session's: {held.hidden}")
        taken, made = held.bytes - had.bytes, held.files - had.files
        if self._is_scarce(free) and (held.hidden or taken > RESERVE_BYTES // _STEPS):
            return _full(f"the disk has {free.bytes:,} bytes left, and the session has taken {_said(taken, held)}")
        if self._is_few(free) and (held.hidden or made > self._files_reserve // _STEPS):
            return _full(f"the disk has room for {free.files:,} files, and the session has made {_said(made, held)}")
        return None

    def _measure(self, urgent_s: float, *, with_files: bool, timeout_s: float = _MEASURE_S) -> Held:
        """What the session holds; not waited for longer than until ``urgent_s`` when the disk is nearly full.

        Raises:
            OSError: Nothing can be found out.
        """
        trees = [entry for entry in sorted(self._session.iterdir()) if entry.name != reserve.NAME]

        def give_up() -> bool:
            free = free_space(self._workspace)
            return monotonic_s() > urgent_s and self._is_short(free)

        tree = self._measure_trees(trees, give_up, timeout_s, files=False)
        files = self._measure_trees(trees, give_up, timeout_s, files=True) if with_files else tree
        beside = look(self._first, self._workspace)
        hidden = tree.hidden or files.hidden or ("" if beside.whole else "its processes hold files that cannot be seen")
        return Held(bytes=tree.count + beside.unlinked_bytes, files=files.count if with_files else 0, hidden=hidden)

    def _measure_trees(
        self, trees: list[Path], give_up: Callable[[], bool], timeout_s: float, *, files: bool
    ) -> Measured:
        """The most of a few times, where names vanish: what was renamed meanwhile was not counted.

        Temporary files vanish too. So it is only told of a tree that is never seen in peace, and while there is room it
        is not even tried again.
        """
        most = 0
        for _ in range(_TRIES):
            found = measure_trees(trees, timeout_s=timeout_s, give_up=give_up, files=files)
            most = max(most, found.count)
            if found.hidden or not found.vanished:
                return Measured(count=most, hidden=found.hidden)
            free = free_space(self._workspace)
            lost = self._highest.bytes - free.bytes
            if not (lost > self._most_bytes or self._is_short(free)):
                return Measured(count=most)
        return Measured(count=most, hidden="names in it vanish while it is measured")


def _said(count: int, held: Held) -> str:
    return f"{count:,} that are known; {held.hidden}" if held.hidden else f"{count:,}"


def _most(one: Space, other: Space) -> Space:
    return Space(bytes=max(one.bytes, other.bytes), files=max(one.files, other.files))


def _full(why: str) -> WorkspaceError:
    return WorkspaceError(
        "the agent filled the disk",
        code="workspace.disk",
        details=why,
        remedy=['[limits] workspace = "40g" in your configuration, where so much is needed'],
    )


def _blind(why: str) -> WorkspaceError:
    return WorkspaceError("what the agent takes of the disk cannot be measured", code="workspace.unseen", details=why)


def free_space(place: Path) -> Space:
    """What an ordinary user can still write and make on the file system of ``place``."""
    found = os.statvfs(place)
    return Space(bytes=found.f_bavail * found.f_frsize, files=found.f_favail)


def total_files(place: Path) -> int:
    """How many files the file system can have; 0 where it does not count them."""
    return os.statvfs(place).f_files
