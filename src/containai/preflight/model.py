"""Facts about a host, and findings about facts. PURE."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from containai.host.cgroups import Delegation, NoDelegation
from containai.host.docker import DOCKER, PODMAN, SOCKET
from containai.record import dataclass, field

MIN_DOCKER = (25, 0, 5)  # Source: CVE-2024-29018
MIN_PODMAN = (5, 4, 2)  # Source: the oldest that the tests have been run with
MIN_VERSION = {DOCKER: MIN_DOCKER, PODMAN: MIN_PODMAN}
PROFILE = "containai-agent"
# The same, but that its processes may read the memory of their descendants: see docs/apparmor.md.
READING_PROFILE = "containai-agent-reading"
UNREADABLE = -1  # a switch of the kernel that is there and cannot be read


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
        remedy: The exact commands that mend it, for this platform; lines that begin with ``#`` explain.
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
    UBUNTU = "ubuntu"
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
    """A container with mounts inside was really tried.

    Attributes:
        worked: Whether it was made and its first process ran.
        said: What bubblewrap said when it was not.
        tmpfs: Mount options of the tmpfs inside; empty when there was none.
        noexec: Whether a mount inside kept ``noexec``.
        confinement: AppArmor's label of the first process, where the kernel has AppArmor.
    """

    worked: bool
    said: str = ""
    tmpfs: frozenset[str] = frozenset()
    noexec: bool = False
    confinement: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image that the daemon has.

    Attributes:
        reference: How it was named.
        id: What it is: the digest of its configuration, and so of every layer.
        platform: As ``linux/amd64``.
        volumes: Places that the image wants a writable volume at.
    """

    reference: str
    id: str
    platform: str
    volumes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerFacts:
    """What is known about this machine's Docker daemon.

    Attributes:
        product: Docker, or Podman that answers in its place.
        socket: Where it was asked.
        elsewhere: A ``DOCKER_HOST`` that names another daemon than this machine's; empty when none does.
        problem: Why the daemon cannot be asked; empty when it answered.
        denied: Whether that is for lack of permission.
        version: The daemon's; empty when it does not say.
        security: Its security options, as ``seccomp`` or ``userns``.
        limits: Which limits it can set, by the names of the info JSON.
        shared_memory: Mount options of /dev/shm; empty where it is no tmpfs.
        wanted_images: References of the images that would do, the best first.
        image: The first of them that is there.
    """

    product: str = DOCKER
    socket: str = SOCKET
    elsewhere: str = ""
    problem: str = ""
    denied: bool = False
    version: tuple[int, ...] = ()
    security: frozenset[str] = frozenset()
    limits: frozenset[str] = frozenset()
    shared_memory: frozenset[str] = frozenset()
    wanted_images: tuple[str, ...] = ()
    image: Image | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known about the host. None is "not known" or "not there", as each attribute says.

    Attributes:
        machine: Architecture, as ``uname -m``.
        kernel: Release, as ``uname -r``.
        seccomp_actions: What seccomp can do; None when the kernel does not tell.
        landlock_abi: 0 without Landlock.
        apparmor_enabled: None when it cannot be known.
        apparmor_mode: How our profile is loaded: ``enforce``, ``complain``, ``absent``; None when it cannot be known.
        apparmor_reading_mode: The same of ``READING_PROFILE``.
        ptrace_scope: Yama's value; None without Yama.
        userns_clone: ``kernel.unprivileged_userns_clone``; None where there is no such switch.
        userns_max: ``user.max_user_namespaces``.
        userns_apparmor: ``kernel.apparmor_restrict_unprivileged_userns``; None where there is no such switch.
        probe: Whether the session's own user can make a container; None without bubblewrap.
        state_problem: Why the state directory cannot be used; empty when it can.
        native_missing: Files that our build should have made.
        may_trace: Whether Yama lets the launcher read the memory of others than its descendants.
        profiles: Directory of the AppArmor profiles that this installation brought.
        contained: Whether this host is itself a container.
        with_proxy: Whether the session needs Squid.
        docker: What is known about Docker; None where nobody asked.
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
    may_trace: bool
    apparmor_reading_mode: str | None = None
    with_proxy: bool = True
    profiles: Path = field(default_factory=lambda: Path("data/apparmor"))
    contained: bool = False
    docker: DockerFacts | None = None

    def profile(self, engine: str) -> tuple[str, str | None]:
        """The AppArmor profile of this launcher's sessions, and its mode.

        In Docker's containers the first process has to read for a launcher that may not.
        """
        if engine == "docker" and not self.may_trace:
            return READING_PROFILE, self.apparmor_reading_mode
        return PROFILE, self.apparmor_mode
