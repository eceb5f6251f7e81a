# mypy: disable-error-code="assignment,method-assign,attr-defined"
"""No container at all: for a machine that is thrown away afterwards, and for no other.

An agent without one is a process of the host's, root's if need be: it could mount, load modules, kill and read what it
likes. Only tests that need ``throw-away-machine`` use these pieces, and the program that stands in for bubblewrap asks
for that itself.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.support.weak_container import with_bubblewrap, with_tools
from tests.support.weakening import replace_everywhere, weakening

BARE = Path(__file__).resolve().parent / "bare_container.py"
SHARED_USER = 1879048192 + 2 * 4711  # of the agent and of a process of the host's


def _no_container() -> None:
    """The first process runs on the host's files and in all of its namespaces but that of mounts, as root."""
    from containai.engine.embedded import engine
    from containai.engine.embedded.engine import EmbeddedEngine

    tethered = EmbeddedEngine._tether_to

    def as_root(self: Any, staging: Any, cgroup: Any, uid: int, gid: int) -> Any:
        root = self._tools.bwrap == BARE
        return tethered(self, staging, cgroup, 0 if root else uid, 0 if root else gid)

    EmbeddedEngine._tether_to = as_root
    bound = engine.bound_container
    engine.bound_container = lambda shim, pid: None if _is_the_hosts(pid) else bound(shim, pid)
    with_tools(bwrap=BARE)


def _is_the_hosts(pid: int) -> bool:
    """Whether a process has no namespace of its own in which anything could be limited."""
    return os.readlink(f"/proc/{pid}/ns/user") == os.readlink("/proc/self/ns/user")


@weakening
def no_container() -> None:
    """The agent is root on the host."""
    _no_container()
    with_bubblewrap(lambda arguments: arguments)


@weakening
def no_container_for_a_shared_user() -> None:
    """The agent is an ordinary user on the host, and not the only one of that name."""
    from containai.plan.model import Identity

    _no_container()
    with_bubblewrap(lambda arguments: ["--become", str(SHARED_USER), *arguments])
    proxy = SHARED_USER + 1
    identity = Identity(agent_uid=SHARED_USER, agent_gid=SHARED_USER, proxy_uid=proxy, proxy_gid=proxy)
    replace_everywhere("choose_identity", lambda: identity)
