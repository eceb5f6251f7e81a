"""What is known about cgroups, as frozen data."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from containai.policy.model import Limits
from containai.record import dataclass

CONTROLLERS = ("pids", "memory", "cpu")
GROUP_PREFIX = "containai-"
TOP_LEVEL = "containai"
LAUNCHER_LEAF = "containai.launcher"  # no GROUP_PREFIX: it is nobody's session
UNLIMITED = -1


class Kind(Enum):
    """How limits are set."""

    V1 = "v1"  # a hierarchy for each controller
    V2 = "v2"  # one hierarchy
    SYSTEMD = "systemd"  # the user's own service manager makes a scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegation:
    """A place where this process may make groups with limits.

    Attributes:
        kind: How.
        bases: Directories below which groups are made: v1 one for each of ``CONTROLLERS`` in that
            order, and one of v2's where that is mounted beside; v2 a single one, systemd none.
        parent: v2, root: the directory that holds ``bases[0]`` and hands its controllers down.
        leaf: v2: the group that the processes of ``bases[0]`` must move to before controllers can be
            enabled in it. Source: cgroup-v2.rst, "No Internal Process Constraint".
        starter: systemd: the command that starts scopes.
    """

    kind: Kind
    bases: tuple[Path, ...] = ()
    parent: Path | None = None
    leaf: Path | None = None
    starter: tuple[str, ...] = ()

    def command_prefix(self, limits: Limits) -> tuple[str, ...]:
        """What to write in front of a command so that it starts under the limits; empty but for systemd."""
        if self.kind is not Kind.SYSTEMD:
            return ()
        properties = (
            f"TasksMax={limits.pids_max}",
            f"MemoryMax={limits.memory_bytes}",
            "MemorySwapMax=0",
            f"CPUQuota={round(limits.cpus * 100)}%",
            "Delegate=yes",
        )
        return (*self.starter, *(part for item in properties for part in ("-p", item)), "--")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoDelegation:
    """No limit can be enforced here.

    Attributes:
        reason: Why, in one line.
        remedy: Exact commands that mend it.
    """

    reason: str
    remedy: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveLimits:
    """Limits as the kernel tells them; ``UNLIMITED`` where there is none.

    Attributes:
        swap_bytes: Swap that may be used on top of ``memory_bytes``.
    """

    pids_max: int
    memory_bytes: int
    swap_bytes: int
    cpus: float
