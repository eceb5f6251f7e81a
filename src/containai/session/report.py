"""What a session tells its user while it runs; the printing is the command line's."""

from __future__ import annotations

from typing import Protocol

from containai.plan.model import SessionPlan


class Reporter(Protocol):
    """Receives progress.

    Attributes:
        wants_stdout: Whether standard output is kept for the result.
    """

    wants_stdout: bool

    def starting(self, plan: SessionPlan, notes: tuple[str, ...]) -> None:
        """Just before the agent's first instruction."""

    def progress(self, text: str) -> None:
        """Something that may take a while."""
