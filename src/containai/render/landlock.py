"""Landlock rules for a container's file system. PURE.

The mounts already decide what exists and what is read-only. Landlock says it a second time, in a
layer that a mistake in the first does not switch off, and adds what mounts cannot say: no device
nodes, no writes below /proc, no ptrace of and no signal to a process outside.
"""

from __future__ import annotations

from collections.abc import Iterable

from containai.plan.model import Mount, MountKind, StagedFile
from containai.record import dataclass

# Source: linux/landlock.h
EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
REMOVE_DIR = 1 << 4
REMOVE_FILE = 1 << 5
MAKE_CHAR = 1 << 6
MAKE_DIR = 1 << 7
MAKE_REG = 1 << 8
MAKE_SOCK = 1 << 9
MAKE_FIFO = 1 << 10
MAKE_BLOCK = 1 << 11
MAKE_SYM = 1 << 12
REFER = 1 << 13
TRUNCATE = 1 << 14
IOCTL_DEV = 1 << 15
SCOPE_ABSTRACT_UNIX_SOCKET = 1 << 0
SCOPE_SIGNAL = 1 << 1

_RIGHTS_SINCE_ABI = ((2, REFER), (3, TRUNCATE), (5, IOCTL_DEV))
_FIRST_ABI_RIGHTS = (1 << 13) - 1
_SCOPE_ABI = 6

READ = READ_FILE | READ_DIR
RUN = READ | EXECUTE
CHANGE = (
    WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM | REFER | TRUNCATE
)
USE_DEVICE = READ | WRITE_FILE | TRUNCATE | IOCTL_DEV

_RIGHTS: dict[MountKind, int] = {
    MountKind.READ_ONLY: RUN,
    MountKind.DATA: RUN,
    MountKind.WRITABLE: RUN | CHANGE,
    MountKind.TMPFS: RUN | CHANGE,
    MountKind.DEVICES: USE_DEVICE,
    MountKind.PROC: READ,
    MountKind.MASK: READ,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LandlockRules:
    """A ruleset: what is handled (denied unless allowed), and the rights below each path."""

    handled_fs: int
    handled_net: int
    scoped: int
    paths: tuple[tuple[str, int], ...]


def render_landlock(
    mounts: Iterable[Mount], files: Iterable[StagedFile], abi: int, *, runs_what_it_writes: bool = True
) -> LandlockRules:
    """The rules for these mounts and staged files, with every right that a kernel of this ABI can handle.

    Args:
        runs_what_it_writes: Whether a file can be executed that stands where the container may write.
    """
    handled = _FIRST_ABI_RIGHTS
    for since, right in _RIGHTS_SINCE_ABI:
        if abi >= since:
            handled |= right
    paths: dict[str, int] = {"/": READ_DIR & handled}
    for mount in mounts:
        rights = _RIGHTS.get(mount.kind, 0) & handled
        if rights & WRITE_FILE and not runs_what_it_writes:
            rights &= ~EXECUTE
        if rights and str(mount.target) not in paths:
            paths[str(mount.target)] = rights
    for file in files:
        if not any(file.target.is_relative_to(mount.target) for mount in mounts if mount.kind is MountKind.TMPFS):
            paths[str(file.target)] = READ & handled
    return LandlockRules(
        handled_fs=handled,
        handled_net=0,
        scoped=SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL if abi >= _SCOPE_ABI else 0,
        paths=tuple(paths.items()),
    )
