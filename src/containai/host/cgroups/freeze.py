"""A group whose processes can be made to stand still for a moment: by v2 alone.

A process that stands still there can be killed, so that an end of the session meanwhile needs nobody who lets it go on.
The freezer of v1 does not let that happen, and is not used. Source: cgroup-v2.rst, ``cgroup.freeze``.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from containai.host.cgroups.layout import read_layout
from containai.host.clock import monotonic_s

_STOP_TIMEOUT_S = 5.0
_POLL_S = 0.002


class Freezer:
    """The v2 group of a container.

    Args:
        group: Its directory.
    """

    def __init__(self, group: Path) -> None:
        self._group = group

    @contextlib.contextmanager
    def frozen(self) -> Iterator[bool]:
        """Stop every process of the group, and let them go on afterwards; whether all of them do stand still.

        Raises:
            OSError: The group is gone.
        """
        switch = self._group / "cgroup.freeze"
        try:
            _write(switch, b"1")
            yield self._await_stillness()
        finally:
            with contextlib.suppress(FileNotFoundError):
                _write(switch, b"0")

    def _await_stillness(self) -> bool:
        deadline_s = monotonic_s() + _STOP_TIMEOUT_S
        while "frozen 1" not in (self._group / "cgroup.events").read_text().splitlines():
            if monotonic_s() > deadline_s:
                return False
            time.sleep(_POLL_S)
        return True


def find_freezer(pid: int) -> Freezer | None:
    """The group of a container's process; None where v2 has none for it alone that is ours to stop.

    Raises:
        OSError: The process is gone.
    """
    ours, found = read_layout().unified(), read_layout(pid).unified()
    if ours is None or found is None or ours[1].is_relative_to(found[1]):
        return None
    return Freezer(found[1]) if os.access(found[1] / "cgroup.freeze", os.W_OK) else None


def _write(file: Path, value: bytes) -> None:
    with open(file, "r+b", buffering=0) as opened:
        opened.write(value)
