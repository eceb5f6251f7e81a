"""The container of ``finish``, made while the agent runs, where a container costs much.

It waits, ready, for the agent's end. It is a fresh container with all its guards; of the agent's it shares nothing but
the workspace, and it executes nothing until the agent's container is gone and its own guards have been read back.
Where it does not come about, or does not last, another is made when it is needed.
"""

from __future__ import annotations

import contextlib

from containai.engine.protocol import Engine
from containai.errors import ContainaiError
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

    def begin(self) -> None:
        """Have it made.

        Preconditions: The agent has begun: its start does not wait for this.
        """
        from containai.session.returning import render_finish  # loaded meanwhile, in any case

        if not self._engine.makes_ahead:
            return
        plan = self._session.plan
        with contextlib.suppress(ContainaiError, OSError):
            self.pending = PendingChore(self._engine, render_finish(plan, plan.plan_sha256))

    def abandon(self) -> None:
        """Take it back, where ``bring_home`` did not come to take it. Idempotent."""
        if self.pending is not None:
            self.pending.abandon()
