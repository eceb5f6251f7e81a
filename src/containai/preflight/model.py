"""Facts about a host, and findings about facts. PURE."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from containai.host.cgroups import Delegation, NoDelegation


class State(Enum):
    """Whether the host has a thing. ``UNKNOWN`` refuses (P5)."""

    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"


class Verdict(Enum):
    """What a finding means for a launch."""

    PASS = "pass"
    WARN = "warn"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check (P3).

    Attributes:
        why: Why it matters.
        remedy: The exact commands that mend it, for this platform.
    """

    id: str
    state: State
    verdict: Verdict
    summary: str
    why: str
    remedy: tuple[str, ...] = ()


class Platform(Enum):
    """Which commands mend things here."""

    DEBIAN = "debian"
    FEDORA = "fedora"
    WSL = "wsl"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A host program: where it is (None: nowhere) and its version (empty: it does not say)."""

    path: Path | None = None
    version: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A container with a mount inside was really tried; what bubblewrap said when it failed."""

    worked: bool
    said: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known about the host. None is "not known" or "not there", as each attribute says.

    Attributes:
        machine: Architecture, as ``uname -m``.
        seccomp_actions: What seccomp can do; None when the kernel does not tell.
        landlock_abi: 0 without Landlock.
        apparmor_enabled: None when it cannot be known.
        apparmor_mode: How our profile is loaded: ``enforce``, ``complain``, ``absent``; None when it cannot be known.
        ptrace_scope: Yama's value; None without Yama.
        userns_clone: ``kernel.unprivileged_userns_clone``; None where there is no such switch.
        userns_max: ``user.max_user_namespaces``.
        userns_apparmor: ``kernel.apparmor_restrict_unprivileged_userns``; None where there is no such switch.
        probe: Whether the session's own user can make a container; None without bubblewrap.
        state_problem: Why the state directory cannot be used; empty when it can.
        native_missing: Files that our build should have made.
    """

    platform: Platform
    machine: str
    kernel: str
    seccomp_actions: frozenset[str] | None
    landlock_abi: int
    apparmor_enabled: bool | None
    apparmor_mode: str | None
    ptrace_scope: int | None
    userns_clone: int | None
    userns_max: int | None
    userns_apparmor: int | None
    probe: Probe | None
    bwrap: Tool
    squid: Tool
    git: Tool
    delegation: Delegation | NoDelegation
    state_problem: str
    state_free_bytes: int
    native_missing: tuple[str, ...]
    is_root: bool
    with_proxy: bool = True
