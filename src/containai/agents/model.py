"""An agent as data: what one file of ``data/agents`` says. PURE."""

from __future__ import annotations

from pathlib import Path

from containai.errors import UsageError
from containai.plan.model import Mount
from containai.record import dataclass

PROMPT_FIELD = "{prompt}"  # stands in exactly one element of ``Adapter.prompt``


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFile:
    """Configuration that the agent finds in its HOME, as a writable copy.

    Attributes:
        path: Where, relative to HOME inside.
        content: Not secret; part of the plan.
    """

    path: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFile:
    """One file of the user's HOME that the agent gets, read-only (C1).

    Attributes:
        path: Where the agent finds it, relative to HOME inside.
        candidates: Where it may be on the host, relative to the user's HOME; the first that exists is taken.
        secret: Whether it may hold a credential.
    """

    path: str
    candidates: tuple[str, ...]
    secret: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """One agent.

    Attributes:
        name: What ``--agent`` takes.
        title: What people call it.
        binaries: Names of its program, in order of preference; an absolute path stands for itself.
        package: Its npm package; empty where it has none.
        tested_version: The version of the package that our tests run.
        bundle_marker: A file that marks the root of a native installation of several files; empty for none.
        interactive: Arguments that start it at a terminal.
        prompt: Arguments that give it a task and let it work alone; empty where it cannot.
        environment: Variables that are always set: quiet, no updates, its own sandbox off.
        credential_variables: Variables in which it looks for a credential; passed only with ``--env``.
        writable: Directories below HOME inside that it writes to; all of HOME is a tmpfs, and its own.
        text_files: Configuration for a user who has none.
        host_files: The user's own configuration and credentials.
        api_hosts: Hosts without which it cannot work (N2).
        notes: What a user should know, a sentence each.
    """

    name: str
    title: str
    binaries: tuple[str, ...]
    package: str
    tested_version: str
    bundle_marker: str
    interactive: tuple[str, ...]
    prompt: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    credential_variables: tuple[str, ...]
    writable: tuple[str, ...]
    text_files: tuple[TextFile, ...]
    host_files: tuple[HostFile, ...]
    api_hosts: tuple[str, ...]
    notes: tuple[str, ...]

    def arguments(self, prompt: str | None) -> tuple[str, ...]:
        """The arguments behind its program; a prompt is never split, and never read as an option.

        Raises:
            UsageError: ``agent.no-prompt``: it has no way to be given a task.
        """
        if prompt is None:
            return self.interactive
        if not self.prompt:
            raise UsageError(
                f"the agent {self.name} takes no --prompt",
                code="agent.no-prompt",
                remedy=[f"containai run --agent {self.name}", "containai run -- COMMAND [ARG ...]"],
            )
        return tuple(part.replace(PROMPT_FIELD, prompt) for part in self.prompt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """An agent's program as the container will see it.

    Attributes:
        argv: How it is called inside; the adapter's arguments follow.
        mounts: What it needs beside /usr.
        path: Directories to put in front of PATH inside.
        found: Where it was found on the host.
        version: What its package says; empty when there is no package.
    """

    argv: tuple[str, ...]
    mounts: tuple[Mount, ...]
    path: tuple[str, ...]
    found: Path
    version: str
