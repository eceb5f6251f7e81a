"""Bounds on what the kernel does not count for a container alone.

Terminals it counts for all containers of the machine together. Other things it counts by user: a session of an ordinary
user's runs as himself, and shares them with all that he does. A session of root's has a user of its own.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

from containai.errors import EngineError
from containai.host import process

# Of about 3000 that the kernel gives to all containers, by default (Source: kernel.pty.max and kernel.pty.reserve).
MAX_TERMINALS = 256
_HELD = Path("/proc/sys/fs/inotify")
# What a session may take of its user's: the user's limit, the limit in the container's namespace, and a share.
# Source: inotify(7), user_namespaces(7); a user's editors and desktop need some dozens of instances.
_INOTIFY = (("max_user_instances", "max_inotify_instances", 4), ("max_user_watches", "max_inotify_watches", 2))
# Source: getrlimit(2), mq_overview(7): queued signals and timers, locked System V memory, message queues.
_RLIMITS = (resource.RLIMIT_SIGPENDING, resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE)


def shared_rlimits() -> tuple[tuple[int, int], ...]:
    """Resource limits for the container's processes: half of what the launcher has, where that is limited and shared.

    The kernel compares them with what the container's user namespace has taken, not with all that the user has.
    """
    if os.geteuid() == 0:
        return ()
    held = ((kind, resource.getrlimit(kind)[0]) for kind in _RLIMITS)
    return tuple((kind, soft // 2) for kind, soft in held if soft != resource.RLIM_INFINITY)


def bound_container(shim: Path, pid: int) -> None:
    """Limit the terminals of a container, and the inotify instances and watches that it takes of its user's.

    Args:
        shim: The program that enters the container's namespaces.
        pid: The container's first process, which waits for the launcher's word.

    Raises:
        EngineError: The kernel did not take the limits.
    """
    shared = () if os.geteuid() == 0 else _INOTIFY
    try:
        held = {name: int((_HELD / file).read_text()) // share for file, name, share in shared}
    except (OSError, ValueError) as error:
        raise EngineError(
            "the user's limits cannot be read", code="engine.bounds", details=str(error), remedy=["containai doctor"]
        ) from error
    limits = [f"{name}={max(1, limit)}" for name, limit in held.items()]
    done = process.run([shim, "bound", str(pid), str(MAX_TERMINALS), *limits])
    if done.status != 0:
        raise EngineError(
            "the container's limits cannot be set", code="engine.bounds", details=done.said, remedy=["containai doctor"]
        )
