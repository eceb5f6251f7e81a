"""A session of an ordinary user's runs as himself, and the kernel counts some things by user: not all of them for it.

A session of root's has a user of its own, and its count is nobody else's.
"""

from __future__ import annotations

import resource
from pathlib import Path

from containai.errors import EngineError
from containai.host import process

_HELD = Path("/proc/sys/fs/inotify")
# What a session may take of its user's: /proc/sys/fs/inotify/* -> the limit in the container's namespace, and a share.
# Source: inotify(7), user_namespaces(7); a user's editors and desktop need some dozens of instances.
_INOTIFY = (("max_user_instances", "max_inotify_instances", 4), ("max_user_watches", "max_inotify_watches", 2))
# Source: getrlimit(2), mq_overview(7): queued signals and timers, locked System V memory, message queues.
_RLIMITS = (resource.RLIMIT_SIGPENDING, resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE)


def half_of_the_users() -> tuple[tuple[int, int], ...]:
    """Resource limits for the container's processes: half of what the launcher has, where that is limited.

    The kernel compares them with what the container's user namespace has taken, not with all that the user has.
    """
    held = ((kind, resource.getrlimit(kind)[0]) for kind in _RLIMITS)
    return tuple((kind, soft // 2) for kind, soft in held if soft != resource.RLIM_INFINITY)


def bound_inotify(shim: Path, pid: int) -> None:
    """Limit the inotify instances and watches in the user namespace of a container's first process.

    Preconditions: the first process waits for the launcher's word.

    Raises:
        EngineError: The kernel did not take the limits.
    """
    try:
        held = {name: int((_HELD / file).read_text()) // share for file, name, share in _INOTIFY}
    except (OSError, ValueError) as error:
        raise EngineError("the user's limits cannot be read", code="engine.user-limits", details=str(error)) from error
    limits = [f"{name}={max(1, limit)}" for name, limit in held.items()]
    done = process.run([shim, "bound", str(pid), *limits])
    if done.status != 0:
        raise EngineError("the container's limits cannot be set", code="engine.user-limits", details=done.said)
