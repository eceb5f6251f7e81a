"""Where the kernel's cgroup hierarchies are mounted and where a process stands in them. Parsing is PURE."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from containai.record import dataclass

_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """One mounted hierarchy.

    Attributes:
        mount_point: Where it is mounted.
        root: The group that stands at the mount point; not ``/`` in some containers.
        controllers: Its v1 controllers; empty for v2.
        unified: Whether it is v2.
        read_only: Whether it cannot be written through this mount.
    """

    mount_point: Path
    root: str
    controllers: frozenset[str]
    unified: bool
    read_only: bool

    def directory(self, group: str) -> Path | None:
        """The directory of a group; None when this mount does not show it."""
        if self.root == "/":
            return self.mount_point / group.lstrip("/") if "/.." not in group else None
        if group == self.root or group.startswith(self.root + "/"):
            return self.mount_point / group[len(self.root) :].lstrip("/")
        return None


def parse_hierarchies(mountinfo: str) -> tuple[Hierarchy, ...]:
    """Pick the cgroup mounts out of ``/proc/self/mountinfo``.

    Source: proc_pid_mountinfo(5): fields 4 to 6 are root, mount point and options; behind the
    separator come the type, the source and the options of the file system.
    """
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, behind = before.split(" "), after.split(" ")
        if len(fields) < 6 or len(behind) < 3 or behind[0] not in ("cgroup", "cgroup2"):
            continue
        found.append(
            Hierarchy(
                mount_point=Path(_unescape(fields[4])),
                root=_unescape(fields[3]),
                controllers=frozenset(behind[2].split(",")) if behind[0] == "cgroup" else frozenset(),
                unified=behind[0] == "cgroup2",
                read_only="ro" in fields[5].split(",") or "ro" in behind[2].split(","),
            )
        )
    return tuple(found)


def parse_membership(text: str) -> dict[str, str]:
    """Map controllers to groups out of ``/proc/PID/cgroup``; the key of v2 is empty.

    Source: cgroups(7): each line is ``hierarchy:controllers:path``.
    """
    membership = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            membership[controller] = path
    return membership


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The hierarchies of this machine, and one process's groups in them."""

    hierarchies: tuple[Hierarchy, ...]
    membership: dict[str, str]

    def unified(self) -> tuple[Hierarchy, Path] | None:
        """The v2 hierarchy and the process's directory in it."""
        return self._find("", lambda hierarchy: hierarchy.unified)

    def of(self, controller: str) -> tuple[Hierarchy, Path] | None:
        """The v1 hierarchy of a controller and the process's directory in it."""
        return self._find(controller, lambda hierarchy: controller in hierarchy.controllers)

    def _find(self, key: str, wanted: Callable[[Hierarchy], bool]) -> tuple[Hierarchy, Path] | None:
        group = self.membership.get(key)
        for hierarchy in self.hierarchies:
            directory = hierarchy.directory(group) if group is not None and wanted(hierarchy) else None
            if directory is not None and directory.is_dir():
                return hierarchy, directory
        return None


def read_layout(pid: int | None = None) -> Layout:
    """Read the layout for this process or another one.

    Raises:
        OSError: The process is gone, or /proc is not there.
    """
    with open("/proc/self/mountinfo", "rb") as mounts, open(f"/proc/{pid or 'self'}/cgroup", "rb") as groups:
        return Layout(
            hierarchies=parse_hierarchies(os.fsdecode(mounts.read())),
            membership=parse_membership(os.fsdecode(groups.read())),
        )


def _unescape(text: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), text)
