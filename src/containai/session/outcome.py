"""What a session came to: the answer of ``containai run``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from containai.plan.model import SessionPlan
from containai.record import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of one session.

    Attributes:
        reason: How the agent ended: ``exit``, ``timeout``, a signal's name or ``guard``.
        not_run: Why the agent's program could not be run; empty when it was.
        commits: Hashes returned to the host repository, oldest first.
        branch: Where they stand; the planned branch, or a numbered one beside it.
        memory_kills: How many processes of the agent the kernel killed for lack of memory, as far as it is known.
        refused_hosts: Hosts that the proxy refused, in the order of the first request; ``MOST_REFUSED`` at most.
        guard: Why a guard ended the session; empty when none did.
        problem: Why work could not be returned; empty when all is well.
        kept: Directory that still holds work, when not everything was returned.
        notes: Facts for the user.
    """

    plan: SessionPlan
    exit_code: int
    reason: str
    branch: str
    commits: tuple[str, ...]
    pushed: bool
    event_log: Path
    startup_s: float | None
    duration_s: float
    not_run: str = ""
    memory_kills: int = 0
    refused_hosts: tuple[str, ...] = ()
    guard: str = ""
    problem: str = ""
    kept: Path | None = None
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The fields of the contract (``run --json``)."""
        return {
            "session": self.plan.session_id,
            "name": self.plan.name,
            "agent": self.plan.agent,
            "engine": self.plan.engine,
            "branch": self.branch,
            "base_commit": self.plan.source.base_commit,
            "commits": list(self.commits),
            "pushed": self.pushed,
            "exit_code": self.exit_code,
            "reason": self.reason,
            "config_sha256": self.plan.plan_sha256,
            "policy_sha256": self.plan.policy_sha256,
            "event_log": str(self.event_log),
            "duration_s": round(self.duration_s, 3),
            "startup_s": None if self.startup_s is None else round(self.startup_s, 3),
            "notes": list(self.notes),
            "problem": self.guard or self.problem,
            "kept": None if self.kept is None else str(self.kept),
        }
