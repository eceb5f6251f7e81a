"""Findings for people and for scripts; a refusal shows them all at once (P3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from containai.errors import PreflightRefused
from containai.preflight.checks import check
from containai.preflight.model import Facts, Finding, State, Verdict


def verdict_of(findings: tuple[Finding, ...]) -> str:
    """``ready`` or ``refused``."""
    return "refused" if any(finding.verdict is Verdict.REFUSE for finding in findings) else "ready"


def as_json(engine: str, findings: tuple[Finding, ...]) -> dict[str, Any]:
    """The contract of ``doctor --json``."""
    return {
        "engine": engine,
        "verdict": verdict_of(findings),
        "findings": [
            {
                "id": finding.id,
                "state": finding.state.value,
                "verdict": finding.verdict.value,
                "summary": finding.summary,
                "why": finding.why,
                "remedy": list(finding.remedy),
            }
            for finding in findings
        ],
    }


def refuse_if_needed(facts: Facts, engine: str, *, apart: frozenset[str] = frozenset()) -> None:
    """Refuse where ``doctor`` refuses (P7).

    Args:
        facts: What was found.
        engine: The engine that is to be used.
        apart: Findings that do not matter for what is to be done.

    Raises:
        PreflightRefused: Naming every reason; its code is ``preflight.`` and the first one. What could not be
            tried stands last: it is mostly a consequence of another.
    """
    refused = [each for each in check(facts, engine) if each.verdict is Verdict.REFUSE and each.id not in apart]
    refused.sort(key=lambda each: each.state is State.UNKNOWN)
    if refused:
        raise PreflightRefused(
            f"this host cannot run the {engine} engine safely",
            code=f"preflight.{refused[0].id}",
            details="\n".join(f"{finding.id}: {finding.summary}\n  why: {finding.why}" for finding in refused),
            remedy=_remedies(refused),
        )


def _remedies(refused: Sequence[Finding]) -> tuple[str, ...]:
    """The commands of each finding, in their order: one may end with a reboot, and another must be given after it."""
    named: dict[tuple[str, ...], list[str]] = {}
    for finding in refused:
        named.setdefault(finding.remedy, []).append(finding.id)
    if len(named) == 1:
        return refused[0].remedy
    return tuple(line for lines, ids in named.items() if lines for line in (f"# {', '.join(ids)}:", *lines))
