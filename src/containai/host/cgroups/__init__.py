"""Limits by cgroups: where this process may set them, setting them, and reading them back (I6, I7).

find_delegation()            where, or why nowhere and what mends it
create(delegation, ...)      a group with limits; the container's first process joins it by itself
effective_limits(pid)        what the kernel says that a process is limited to
find_leftovers(sessions)     groups of sessions that are dead
find_freezer(pid)            what makes a container stand still for a moment
memory_kills_file(pid)       where the kernel counts whom it killed for lack of memory; read_memory_kills reads it
uncounted_sockets_bytes()    what may wait in sockets where that is no memory of a group's
"""

from containai.host.cgroups.delegation import find_delegation
from containai.host.cgroups.freeze import Freezer, find_freezer
from containai.host.cgroups.group import Cgroup, create, find_leftovers
from containai.host.cgroups.limits import (
    effective_limits,
    memory_kills_file,
    read_memory_kills,
    sockets_usage_file,
    uncounted_sockets_bytes,
)
from containai.host.cgroups.model import UNLIMITED, Delegation, EffectiveLimits, Kind, NoDelegation

__all__ = [
    "UNLIMITED",
    "Cgroup",
    "Delegation",
    "EffectiveLimits",
    "Freezer",
    "Kind",
    "NoDelegation",
    "create",
    "effective_limits",
    "find_delegation",
    "find_freezer",
    "find_leftovers",
    "memory_kills_file",
    "read_memory_kills",
    "sockets_usage_file",
    "uncounted_sockets_bytes",
]
