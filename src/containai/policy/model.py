"""What a session may do, as frozen data. Defaults deny."""

from __future__ import annotations

from enum import Enum

from containai.record import dataclass, field

PIDS_MAX = 4096  # Source: I6
MIB = 1024 * 1024
GIB = 1024 * MIB

DEFAULT_DOMAINS: tuple[str, ...] = (  # Source: N4
    "*.github.com",
    "*.githubcopilot.com",
    "*.nuget.org",
    "*.npmjs.org",
    "*.pypi.org",
    "*.python.org",
    "*.microsoft.com",
    "*.docker.io",
    "registry-1.docker.io",
    "api.githubcopilot.com",
    "learn.microsoft.com",
    "platform.uno",
    "*.githubusercontent.com",
    "*.azureedge.net",
)


class NetworkMode(Enum):
    """Where a session may connect (N1 to N3), from the widest to the narrowest."""

    SQUID = "squid"
    RESTRICTED = "restricted"
    NONE = "none"


class CredentialMode(Enum):
    """How an agent's credentials reach it. ``MOUNT`` (C1): read-only files in the container."""

    MOUNT = "mount"
    NONE = "none"


class ExecPolicy(Enum):
    """What becomes of an exec that the rules deny (I9): ``OBSERVE`` marks its record, ``ENFORCE`` denies it."""

    OBSERVE = "observe"
    ENFORCE = "enforce"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecRule:
    """Execs that are denied. All that a rule says has to match.

    Attributes:
        name: How records and messages call it.
        program: A file name, or an absolute path; empty for any.
        arguments: Patterns as of ``fnmatch``; each has to match one of the words behind the program's name.
        sha256: The digest of the program's file, in hexadecimal; empty for any.
    """

    name: str
    program: str = ""
    arguments: tuple[str, ...] = ()
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who stands in the commits of a session, where the user chose it."""

    name: str
    email: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalService:
    """One TCP service on the host's loopback that the user granted with ``--allow-local``."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPolicy:
    """Allowed destinations. An empty ``domains`` allows no host at all.

    Attributes:
        mode: How connections leave.
        domains: Lower-case patterns: ``host.name`` or ``*.suffix`` (sub-domains only, N5).
        local_services: Services of the host that the container reaches under the same address.
    """

    mode: NetworkMode = NetworkMode.NONE
    domains: tuple[str, ...] = ()
    local_services: tuple[LocalService, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Resources of one session (I6, I7); enforced by cgroups and mounts, but for the last."""

    cpus: float = 2.0
    memory_bytes: int = 4 * GIB
    pids_max: int = PIDS_MAX
    tmpfs_bytes: int = 2 * GIB
    open_files: int = 65536
    workspace_bytes: int = 20 * GIB  # watched, not kept by the kernel: session/disk.py


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Everything that a session may do."""

    network: NetworkPolicy = field(default_factory=NetworkPolicy)
    limits: Limits = field(default_factory=Limits)
    credentials: CredentialMode = CredentialMode.NONE
    exec_policy: ExecPolicy = ExecPolicy.OBSERVE
    denied_programs: tuple[str, ...] = ()  # names, or absolute paths: the kernel holds these
    exec_rules: tuple[ExecRule, ...] = ()  # the supervisor holds these
