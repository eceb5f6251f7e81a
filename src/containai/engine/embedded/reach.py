"""Make the plan's host paths reachable for the session's own user.

An ordinary user's session runs as that user and needs nothing here. A session started by root runs
as a user who can walk only what everybody can walk; what lies elsewhere (a program below /root, say)
is bound to a place that he can reach, in a mount namespace that ends with the container.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from containai.plan.model import Mount, MountKind

_OTHERS_SEARCH = 0o001


@dataclass(frozen=True, slots=True, kw_only=True)
class Staging:
    """Which sources to bind where, as arguments for ``containai-shim tether``."""

    arguments: tuple[str, ...]
    reach: dict[str, str]


def plan_staging(mounts: Iterable[Mount], directory: Path) -> Staging:
    """Find the sources that need staging below ``directory`` (which exists and is searchable)."""
    sources = [m.source for m in mounts if m.kind is MountKind.READ_ONLY and not _everybody_reaches(m.source)]
    if not sources:
        return Staging(arguments=(), reach={})
    arguments, reach = ["--stage-on", str(directory)], {}
    for index, source in enumerate(dict.fromkeys(sources)):
        arguments += ["--stage", source, str(index)]
        reach[source] = str(directory / str(index))
    return Staging(arguments=tuple(arguments), reach=reach)


def _everybody_reaches(source: str) -> bool:
    real = Path(os.path.realpath(source))
    return all(parent.stat().st_mode & _OTHERS_SEARCH for parent in real.parents)
