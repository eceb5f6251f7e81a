"""The container of ``finish``, made while the agent runs, where a container costs much.

It waits, ready, for the agent's end. It is a fresh container with all its guards; of the agent's it shares nothing but
the workspace, and it executes nothing until the agent's container is gone and its own guards have been read back.
Where it does not come about, or does not last, another is made when it is needed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from containai.engine.protocol import ContainerSpec, Engine
from containai.errors import ContainaiError
from containai.plan.model import WORKSPACE
from containai.session.housekeeping import PendingChore
from containai.session.opened import OpenSession


class FinishAhead:
    """Has it made.

    Attributes:
        pending: It; None where it was not begun.
    """

    def __init__(self, engine: Engine, session: OpenSession) -> None:
        self._engine, self._session = engine, session
        self.pending: PendingChore | None = None

    def begin(self, await_agent: Callable[[], None]) -> None:
        """Have it made, where the engine makes it ahead.

        Args:
            await_agent: Waits for the agent's first exec, for a moment: its start is not to be slowed.
        """
        from containai.session.returning import render_finish  # loaded meanwhile, in any case

        if not self._engine.makes_ahead:
            return
        await_agent()
        plan = self._session.plan
        with contextlib.suppress(ContainaiError, OSError):
            spec = render_finish(plan, plan.plan_sha256)
            if not _is_mounted_where_the_agent_writes(spec):
                self.pending = PendingChore(self._engine, spec)

    def abandon(self) -> None:
        """Take it back, where ``bring_home`` did not come to take it. Idempotent."""
        if self.pending is not None:
            self.pending.abandon()


def _is_mounted_where_the_agent_writes(spec: ContainerSpec) -> bool:
    """Whether something is mounted below the workspace: who mounts it would walk there while the agent changes links.

    No plan has that. Source: CVE-2021-30465, runc and a volume that two containers share.
    """
    targets = (*(mount.target for mount in spec.mounts), *(file.target for file in spec.files))
    return any(WORKSPACE in target.parents for target in targets)
