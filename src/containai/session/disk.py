"""The guard of the disk: an agent that fills the workspace is ended before the disk is full, and its work comes home.

No quota of the file system's: those need a file system that has them, and root. Once a second the free space is asked
for, which costs nothing; when it has gone down, the workspace itself is measured. So what is granted can be exceeded by
as much as is written in the time of a measurement.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from containai.errors import ContainaiError, WorkspaceError
from containai.host.clock import monotonic_s
from containai.host.process import run

RESERVE_BYTES = 512 * 1024 * 1024
"""Free space below which an agent that took some of it is ended: its work has to be packed, and others write too."""

_INTERVAL_S = 1.0
_MEASURE_S = 120.0
_PAUSE_FACTOR = 10  # a measurement that took a second is followed by ten without one
_STEPS = 8  # how often, on the way to its limit, a workspace is measured


class DiskGuard:
    """Watches one workspace until it is stopped."""

    def __init__(
        self,
        workspace: Path,
        most_bytes: int,
        on_failure: Callable[[ContainaiError], None],
        *,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        """``reserve_bytes`` is what is left free to others."""
        self._workspace = workspace
        self._most_bytes = most_bytes
        self._on_failure = on_failure
        self._reserve_bytes = reserve_bytes
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="disk-guard", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching. Idempotent. A measurement that is under way comes to nothing, and is not waited for."""
        self._stopped.set()

    def _watch(self) -> None:
        begun = measured_at = free_bytes(self._workspace)
        not_before = 0.0
        while not self._stopped.wait(_INTERVAL_S):
            free = free_bytes(self._workspace)
            scarce = free < self._reserve_bytes and begun - free > RESERVE_BYTES // 8
            due = measured_at - free > self._most_bytes // _STEPS and monotonic_s() > not_before
            if not (scarce or due):
                continue
            start = monotonic_s()
            used = used_bytes(self._workspace)
            measured_at, not_before = free, monotonic_s() + _PAUSE_FACTOR * (monotonic_s() - start)
            if used is not None and used > self._most_bytes:
                self._end(f"the workspace holds {used:,} bytes, {self._most_bytes:,} at most")
                return
            if scarce and (used is None or used > RESERVE_BYTES // 8):
                self._end(f"the disk has {free:,} bytes left, and the workspace holds {used or 0:,}")
                return

    def _end(self, why: str) -> None:
        if self._stopped.is_set():
            return
        self._on_failure(
            WorkspaceError(
                "the agent filled the disk",
                code="workspace.disk",
                details=why,
                remedy=['[limits] workspace = "40g" in your configuration, where so much is needed'],
            )
        )


def free_bytes(place: Path) -> int:
    """What an ordinary user can still write on the file system of ``place``."""
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


def used_bytes(place: Path) -> int | None:
    """What a tree takes on its disk; None when that cannot be found out in time.

    Trust: the agent made the tree, and may have shut folders of it. ``du`` follows no link and stays on the file
    system; what it cannot enter it leaves out.
    """
    try:
        done = run(["du", "--summarize", "--one-file-system", "--block-size=1", "--", place], timeout_s=_MEASURE_S)
    except ContainaiError:
        return None
    words = done.stdout.split()
    return int(words[0]) if words and words[0].isdigit() else None
