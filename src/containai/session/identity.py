"""Who the session's processes are for the kernel."""

from __future__ import annotations

import os
import secrets

from containai.plan.model import Identity

# Above systemd's container range (it ends at 0x6FFFFFFF) and below the signed 32-bit limit.
# Source: systemd's UIDS-GIDS documentation.
_FIRST_UID = 0x70000000
_SLOTS = 1 << 26


def choose_identity() -> Identity:
    """A fresh pair of users when we are root; ourselves otherwise.

    Root's own id is never used: the kernel lets it, and nobody else, write many files of /proc/sys
    without any Linux capability, from inside a user namespace too.
    """
    if os.geteuid() != 0:
        uid, gid = os.geteuid(), os.getegid()
        return Identity(agent_uid=uid, agent_gid=gid, proxy_uid=uid, proxy_gid=gid)
    agent = _FIRST_UID + 2 * secrets.randbelow(_SLOTS)
    return Identity(agent_uid=agent, agent_gid=agent, proxy_uid=agent + 1, proxy_gid=agent + 1)
