"""The source's launchers: thin names for ``containai`` commands."""

from __future__ import annotations

import sys

from containai.cli.main import main


def run_copilot() -> int:
    """``run-copilot``: ``containai run --agent copilot``."""
    return main(["run", "--agent", "copilot", *sys.argv[1:]])


def run_codex() -> int:
    """``run-codex``: ``containai run --agent codex``."""
    return main(["run", "--agent", "codex", *sys.argv[1:]])


def run_claude() -> int:
    """``run-claude``: ``containai run --agent claude``."""
    return main(["run", "--agent", "claude", *sys.argv[1:]])


def list_agents() -> int:
    """``list-agents``: ``containai list``."""
    return main(["list", *sys.argv[1:]])
