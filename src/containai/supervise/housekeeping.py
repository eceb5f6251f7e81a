"""What the container that finishes a session may execute: our script's own programs, and nothing else.

Nothing of the agent's runs there. Git can be made to start other programs, by the configuration of a repository that
it comes to. ``data/finish`` leads it to none, and the kernel executes no file from where the container may write;
what is left is an interpreter that is told to run such a file, and that is refused here. The decision is made by what
a process asked for, as with every rule; but a process that could change its words meanwhile would have to be the
agent's, and the first exec that leads there is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from containai.supervise.rules import DENY

PROGRAMS = frozenset(
    "cat chmod cp cut find git grep head ln mkdir rm sed sha256sum sleep sort tail tr true wc xargs".split()
)
"""What ``data/finish`` calls, and git calls for them."""

_FOLDERS = frozenset({"/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/lib/git-core", "/usr/libexec/git-core"})


class OwnPrograms:
    """The one rule of such a container; see ``loop.Decider``."""

    def __init__(self, shell: str) -> None:
        """``shell`` is what the container runs: it is executed once, for the script."""
        self._shell = shell

    def decide(self, event: Mapping[str, Any], program: int) -> int:  # noqa: ARG002 - what is opened is not asked for
        """0 for a program of ours, else the number of the rule, with ``DENY``.

        The names are those of files that nobody in the container can change, so that no link is followed here.
        """
        folder, _, name = event["path"].rpartition("/")
        if event.get("absent") or (folder in _FOLDERS and name in PROGRAMS):
            return 0
        if self._shell and event["path"] == self._shell:
            self._shell = ""
            return 0
        return 1 | DENY
