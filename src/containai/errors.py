"""Every error that ContainAI raises on purpose.

    ContainaiError                      125  internal.error
    ├── UsageError                        2  usage
    ├── NotFoundError                     1  session.not-found
    ├── PolicyError                     125  policy.invalid
    ├── PreflightRefused                125  preflight.<finding>
    ├── StateError                      125  state.<what>
    ├── WorkspaceError                  125  workspace.<what>
    ├── AgentError                      125  agent.<what>
    │   └── CannotRunError          126, 127  agent.cannot-run
    ├── EngineError                     125  engine.<what>
    │   └── DriftError                  125  engine.drift
    ├── EgressError                     125  egress.<what>
    ├── SuperviseError                  125  supervise.<what>
    ├── ReturnFailed                    125  return.<what>
    ├── ReviewError                       1  review.<what>
    ├── AuditError                      125  audit.<what>
    ├── SelfTestError                   125  selftest.<what>
    └── ProvenanceError                   1  provenance.<what>

An error says what failed (``summary``), why (``details``) and what to do (``remedy``: one step or
command a line). ``code`` is stable: scripts and the error page of the docs refer to it.

The numbers are the exit status of ``containai run``. 125 is said by nothing else: any other command exits with 1 then.
"""

from __future__ import annotations

from collections.abc import Sequence


class ContainaiError(Exception):
    """Base of all errors meant for a user.

    Args:
        summary: What failed, in one line, without a trailing full stop.
        code: Stable dotted code, such as ``workspace.bare``.
        details: Why it failed.
        remedy: What the user can do, in order; commands stand alone on a line.
    """

    default_code = "internal.error"
    exit_status = 125

    def __init__(
        self,
        summary: str,
        *,
        code: str | None = None,
        details: str = "",
        remedy: Sequence[str] = (),
    ) -> None:
        super().__init__(summary)
        self.summary = summary
        self.code = code or self.default_code
        self.details = details
        self.remedy = tuple(remedy)


class UsageError(ContainaiError):
    """The command line, or a value on it, cannot be understood."""

    default_code = "usage"
    exit_status = 2


class NotFoundError(ContainaiError):
    """A session, event log or record that was named does not exist."""

    default_code = "session.not-found"
    exit_status = 1


class PolicyError(ContainaiError):
    """A policy or configuration file is invalid, or tries to widen what it may only narrow."""

    default_code = "policy.invalid"


class PreflightRefused(ContainaiError):
    """The host cannot give the guarantees that the engine needs."""

    default_code = "preflight.refused"


class StateError(ContainaiError):
    """The session record or the state directory cannot be used."""

    default_code = "state.unusable"


class WorkspaceError(ContainaiError):
    """The source repository, or the copy made of it, cannot be used."""

    default_code = "workspace.unusable"


class AgentError(ContainaiError):
    """The agent is unknown or its program is missing."""

    default_code = "agent.unknown"


class CannotRunError(AgentError):
    """The session was there, and the kernel did not run its program: 127 when it was not found, else 126."""

    default_code = "agent.cannot-run"
    exit_statuses = (126, 127)

    def __init__(self, summary: str, *, exit_status: int, details: str, remedy: Sequence[str]) -> None:
        super().__init__(summary, details=details, remedy=remedy)
        self.exit_status = exit_status


class EngineError(ContainaiError):
    """The engine could not create, start or inspect a container."""

    default_code = "engine.failed"


class DriftError(EngineError):
    """The container that exists is not the container that was planned."""

    default_code = "engine.drift"


class EgressError(ContainaiError):
    """The proxy of the session cannot be started or has failed."""

    default_code = "egress.failed"


class SuperviseError(ContainaiError):
    """The exec supervisor cannot work."""

    default_code = "supervise.failed"


class ReturnFailed(ContainaiError):
    """The agent's work could not be returned; it is kept in the session."""

    default_code = "return.failed"


class ReviewError(ContainaiError):
    """A review, merge or drop was refused, or could not be done; nothing was changed."""

    default_code = "review.refused"
    exit_status = 1


class AuditError(ContainaiError):
    """The session's event log cannot be written or does not verify."""

    default_code = "audit.failed"


class ProvenanceError(ContainaiError):
    """A commit's signed statement does not prove what it should, or cannot be made."""

    default_code = "provenance.failed"
    exit_status = 1


class SelfTestError(ContainaiError):
    """The self-test could not be carried out, so that nothing was tested."""

    default_code = "selftest.session"
