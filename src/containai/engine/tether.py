"""Host processes that cannot outlive their launcher."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


def tether_prefix(shim: Path, options: Sequence[str], *, uid: int, gid: int) -> tuple[str, ...]:
    """The argument prefix that ties a host process to this one; as root it also becomes another user."""
    user = ("--uid", str(uid), "--gid", str(gid)) if os.geteuid() == 0 else ()
    return (str(shim), "tether", "--parent", str(os.getpid()), *options, *user, "--")
