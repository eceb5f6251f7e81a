"""Make the plan's host paths reachable for the session's own user.

An ordinary user's session runs as that user and needs nothing here. A session started by root runs
as a user who can walk only what everybody can walk; what lies elsewhere (a program below /root, say)
is bound to a place that he can reach, in a mount namespace that ends with the container.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from containai.errors import EngineError
from containai.plan.model import Mount, MountKind, StagedFile
from containai.record import dataclass

_OTHERS_SEARCH = 0o001
_BOUND = (MountKind.READ_ONLY, MountKind.WRITABLE)
# Covered only in the private mount namespace; every file system of the standard hierarchy has them.
_STAGES = ("/media", "/srv", "/mnt", "/opt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Staging:
    """Which sources to bind where, as arguments for ``containai-shim tether``."""

    arguments: tuple[str, ...] = ()
    reach: dict[str, str]


def plan_staging(mounts: Iterable[Mount], files: Iterable[StagedFile], owner_uid: int) -> Staging:
    """Find the sources that the session's user cannot walk to, or not read, and a place for them.

    Raises:
        EngineError: There is no place.
    """
    sources = [m.source for m in mounts if m.kind in _BOUND and not _everybody_reaches(m.source)]
    private = [file.content for file in files if file.is_bound]
    if not sources and not private:
        return Staging(reach={})
    stage = _choose_stage([*sources, *private])
    arguments, reach = ["--stage-on", stage], {}
    for index, source in enumerate(dict.fromkeys(sources)):
        arguments += ["--stage", source, str(index)]
        reach[source] = f"{stage}/{index}"
    for index, source in enumerate(dict.fromkeys(private)):
        arguments += ["--copy", source, f"file-{index}", str(owner_uid)]
        reach[source] = f"{stage}/file-{index}"
    return Staging(arguments=tuple(arguments), reach=reach)


def _choose_stage(sources: list[str]) -> str:
    for stage in _STAGES:
        if Path(stage).is_dir() and not any(Path(os.path.realpath(s)).is_relative_to(stage) for s in sources):
            return stage
    raise EngineError("no place to bind the session's files", code="engine.stage", remedy=[f"mkdir {_STAGES[0]}"])


def _everybody_reaches(source: str) -> bool:
    real = Path(os.path.realpath(source))
    return all(parent.stat().st_mode & _OTHERS_SEARCH for parent in real.parents)
