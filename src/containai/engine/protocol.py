"""What an engine must be able to do, in the project's own words.

No engine library's type or exception crosses this line.

Order of calls: ``begin`` and ``complete`` (container exists, guards on, no instruction of the agent has run) →
``inspect`` (read back from the kernel) → ``prepare`` and ``wait``, where the specification has a preparation →
``start`` → ``signal`` any number of times → ``wait`` → ``destroy`` (idempotent).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Protocol

from containai.host.cgroups import Freezer
from containai.plan.model import Identity, Mount, StagedFile
from containai.policy.model import Limits
from containai.record import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Stdio:
    """Host descriptors for the container's standard streams; ``terminal`` asks for a pty inside."""

    stdin: int
    stdout: int
    stderr: int
    terminal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """One container, rendered from a plan: what to run, on what, with which guards.

    Attributes:
        label: ``agent``, ``prepare`` or ``finish``: the container's part in the session.
        environment: Complete; nothing is inherited. May hold secrets: never log or render it.
        listeners: Loopback ports that the container finds served, in order; their listening
            sockets come back in ``Container.listeners``.
        supervised: Whether every exec is delivered to the supervisor before it happens.
        name: What people may call it, where the engine has names (D4).
        labels: What it is, where the engine keeps labels (D4).
        image: Identity of its image, where the engine has images.
        denied: Programs that cannot be run or read, by their real paths.
        runs_what_it_writes: Whether a file can be executed that stands where the container may write.
        preparation: A program of ours that can be run before ``command``, alone; nothing of it is left then.
        preparation_environment: Complete; holds no secret.
    """

    label: str
    session_id: str
    hostname: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    working_directory: PurePosixPath
    mounts: tuple[Mount, ...]
    files: tuple[StagedFile, ...]
    identity: Identity
    limits: Limits
    listeners: tuple[int, ...]
    supervised: bool
    name: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    denied: tuple[str, ...] = ()
    runs_what_it_writes: bool = True
    image: str = ""
    preparation: tuple[str, ...] = ()
    preparation_environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MountPoint:
    """A mount as the kernel lists it; ``root`` is what of its file system stands there."""

    target: str
    read_only: bool
    fstype: str
    nosuid: bool
    nodev: bool
    root: str = "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveConfig:
    """What the kernel says about the container's first process (I11).

    Attributes:
        groups: All of them, as seen from the host.
        capabilities: Every set, the bounding one too.
        devices: Names of the device nodes in its /dev.
    """

    uid: tuple[int, ...]
    gid: tuple[int, ...]
    groups: tuple[int, ...]
    capabilities: tuple[int, ...]
    no_new_privs: bool
    seccomp_mode: int
    seccomp_filters: int
    namespaces_shared_with_host: tuple[str, ...]
    mounts: tuple[MountPoint, ...]
    interfaces: tuple[str, ...]
    routes: int
    apparmor: str
    pids_max: int
    memory_bytes: int
    swap_bytes: int
    cpus: float
    core_limit: int
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitResult:
    """How the agent ended: ``status`` as a shell would report it (128+N for signal N)."""

    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What of a container cannot be read off its specification alone: the engine's own ways.

    Attributes:
        apparmor_profile: The profile that must confine it; empty where the kernel has no AppArmor.
        engine_files: Read-only files that the engine itself puts in.
        shared_namespaces: Namespaces that the engine does not make.
        read_only: Further mounts of the engine's making that must be read-only where they are.
        must_be_read_only: Those of them that have to be there.
        writable: Further mounts that may be writable, with their file system.
        covers: Paths over which the engine puts nothing at all, so that they are not seen.
        must_be_covered: Those of them that the kernel has.
        groups: Groups of the launcher's that the engine cannot take from its processes.
        setuid_is_ignored: Whether the engine cannot mount everything ``nosuid``; no_new_privs says the same.
    """

    apparmor_profile: str = ""
    engine_files: tuple[str, ...] = ()
    shared_namespaces: frozenset[str] = frozenset()
    read_only: frozenset[str] = frozenset()
    writable: Mapping[str, str] = field(default_factory=dict)
    must_be_read_only: frozenset[str] = frozenset()
    covers: frozenset[str] = frozenset()
    must_be_covered: frozenset[str] = frozenset()
    groups: frozenset[int] = frozenset()
    setuid_is_ignored: bool = False


class Container(Protocol):
    """A created container.

    Attributes:
        pid: Host process id of its first process.
        listeners: Listening sockets inside its network, in the order of ``ContainerSpec.listeners``.
        notify_fd: Listener of its exec notifications, or -1.
        memory_fd: Socket of its first process, which reads for the launcher what that may not read itself; or -1.
        terminal_fd: Master of its terminal, or -1.
        preparation_fd: What the preparation prints, or -1.
    """

    pid: int
    listeners: tuple[int, ...]
    notify_fd: int
    memory_fd: int
    terminal_fd: int
    preparation_fd: int

    def inspect(self) -> EffectiveConfig:
        """Read the effective configuration back from the kernel."""

    def engine_drift(self) -> tuple[str, ...]:
        """What the engine itself says about the container that is not as asked for, in words."""

    def welcome(self, visitor: Callable[[int], None]) -> None:
        """Have ``visitor`` called with a listener of notifications for each program that enters from outside.

        Until then, and where the engine knows no such way in, none can enter.
        """

    def prepare(self) -> None:
        """Run the preparation, of which no exec is recorded; ``wait`` waits for its end, and for all its processes."""

    def start(self) -> None:
        """Let the agent's first instruction happen."""

    def signal(self, number: int) -> None:
        """Send a signal to the agent's process group; no effect after its end."""

    def kill(self) -> None:
        """End every process of the container at once; safe from any thread."""

    def find_freezer(self) -> Freezer | None:
        """What makes the container stand still for a moment, where that can be done and ends with the launcher."""

    def await_end(self) -> None:
        """Wait until every process is gone, once it was killed.

        Raises:
            EngineError: The kernel does not end them.
        """

    def wait(self, deadline_s: float | None, wake_fd: int = -1) -> ExitResult | None:
        """Wait for the end; None at ``deadline_s`` (monotonic clock), or when ``wake_fd`` can be read."""

    def why_not_run(self) -> str:
        """Why the agent's program could not be run, or an empty text."""

    def destroy(self) -> None:
        """End every process and remove every trace; an engine may do the latter meanwhile. Idempotent."""


class PendingContainer(Protocol):
    """A container that is being made while the launcher does something else."""

    def complete(self) -> Container:
        """Wait until it is made, with all guards on.

        Raises:
            EngineError: It could not be made; nothing is left behind.
        """

    def abandon(self) -> None:
        """Take it back. No effect once it is complete."""


class Engine(Protocol):
    """A way to make containers.

    Attributes:
        prepares_inside: Whether a container costs so much that the agent's own is where the workspace is prepared.
        makes_ahead: Whether it costs so much that the one for ``finish`` is made while the agent runs.
    """

    name: str
    prepares_inside: bool
    makes_ahead: bool
    expectation: Expectation

    def begin(self, spec: ContainerSpec, stdio: Stdio) -> PendingContainer:
        """Begin to make a container; ``complete`` or ``abandon`` must follow."""

    def tether(self, *, uid: int, gid: int) -> tuple[str, ...]:
        """The argument prefix that ties a host process to this launcher, and makes it this user's."""

    def settle(self) -> tuple[str, ...]:
        """Wait until every trace of what was destroyed is gone; in words, what is not. Idempotent."""
