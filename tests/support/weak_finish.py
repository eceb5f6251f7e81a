# mypy: disable-error-code="assignment,method-assign,attr-defined"
"""The three layers that keep ``finish`` from running the agent's programs, each of which can be taken away."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.support.weakening import weakening


@weakening
def finish_enters_repositories() -> None:
    """The script lets git enter the repositories inside the workspace."""
    from containai.workspace import scripts

    command = scripts._command

    def careless(*words: Any) -> tuple[str, ...]:
        shell, option, text, *rest = command(*words)
        return shell, option, text.replace("set_links_aside() {", "set_links_aside() {\nreturn 0", 1), *rest

    scripts._command = careless


@weakening
def finish_runs_what_it_writes() -> None:
    """The kernel executes files from where ``finish`` may write."""
    from containai.session import returning

    rendered = returning.render_housekeeping

    def careless(*words: Any, **more: Any) -> Any:
        return replace(rendered(*words, **more), runs_what_it_writes=True)

    returning.render_housekeeping = careless


@weakening
def finish_runs_every_program() -> None:
    """The supervisor of ``finish`` denies nothing."""
    from containai.supervise.housekeeping import OwnPrograms

    OwnPrograms.decide = lambda *_: 0


@weakening
def little_room_for_finish() -> None:
    """Not weaker: ``finish`` may take twice the session's limit and 32 MiB more, so that a test need not write gigabytes."""
    from containai.session import housekeeping

    housekeeping.RESERVE_BYTES = 8 << 20


@weakening
def finish_is_made_ahead() -> None:
    """Not weaker: as in Docker, the container of ``finish`` waits while the agent runs."""
    from containai.engine.embedded.engine import EmbeddedEngine

    EmbeddedEngine.makes_ahead = True
