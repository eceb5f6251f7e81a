"""The plan of one session: everything that will be made, decided before anything is made.

A plan is pure data. It names secrets and variables, and never holds their values; its digest
(``plan_sha256``) is therefore safe to log and to show to the agent (A1).
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path, PurePosixPath

from containai.policy.digest import sha256_of
from containai.policy.model import Author, Policy
from containai.record import dataclass

AGENT_UID = 1000  # Source: I1
AGENT_USER = "agentuser"
HOME = PurePosixPath("/home/agentuser")
WORKSPACE = PurePosixPath("/workspace")
PROXY_PORT = 3128
RETURN_PORT = 9418
RETURN_URL = f"git://127.0.0.1:{RETURN_PORT}/return.git"
REMOTE_NAME = "local"
COMMIT_MESSAGE = WORKSPACE / ".git" / "CONTAINAI_COMMIT_MESSAGE"  # data/finish/commit.sh reads it


class MountKind(Enum):
    """What stands at a path of the container."""

    READ_ONLY = "ro"  # a host path, read-only
    WRITABLE = "rw"  # a host path that belongs to the session alone
    TMPFS = "tmpfs"  # empty, in memory, writable
    DIRECTORY = "dir"  # an empty directory in the tmpfs below it
    SYMLINK = "symlink"  # a link; ``source`` is its target
    DATA = "data"  # a read-only file in memory with the bytes of ``StagedFile``
    MASK = "mask"  # an empty read-only file over one of the kernel's
    DEVICES = "dev"  # a minimal /dev
    PROC = "proc"  # the container's own /proc


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One entry of the container's file system, in mounting order."""

    kind: MountKind
    target: PurePosixPath
    source: str = ""
    size_bytes: int = 0
    mode: int = 0o755


class FileOrigin(Enum):
    """Where the bytes of a file in the container come from."""

    TEXT = "text"  # the plan itself: configuration that is not secret
    HOST = "host"  # a file of the host, read at creation: a credential


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedFile:
    """A file that the container finds in its tmpfs.

    Attributes:
        target: Its path inside.
        origin: Whether ``content`` is the text itself or the host path to read it from.
        read_only: Whether it is a mount that nobody inside can change or replace.
    """

    target: PurePosixPath
    origin: FileOrigin
    content: str
    read_only: bool = True
    mode: int = 0o600

    @property
    def is_bound(self) -> bool:
        """Whether it is a file of the user's, bound as it is: programs that resolve its path must find it there."""
        return self.origin is FileOrigin.HOST and self.read_only


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparse:
    """What a sparse checkout holds: the text of git's ``info/sparse-checkout``, and whether it is in cone mode."""

    patterns: str
    cone: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Submodule:
    """A submodule of the base commit.

    Attributes:
        name: Its name in ``.gitmodules``.
        path: Where the base commit has it.
        commit: The commit that the base commit records.
        objects: The host's object directory that has this commit.
    """

    name: str
    path: str
    commit: str
    objects: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The repository and the commit that a session starts from.

    Attributes:
        toplevel: The user's working tree. Never written, never mounted.
        git_dir: The common git directory.
        base_commit: Full hash of the commit the agent starts on.
        described: How the user would name it: a branch, or the abbreviated commit.
        depth: Commits of history that the agent sees; 0 is the branch's whole history.
        notes: What the user should know about the copy.
        with_changes: Whether the base commit holds what the user had not committed (``--with-changes``).
        changes_taken: Whether there was any such thing: then the base commit is one of ours, on top of the user's.
        included: Ignored files and folders that are copied (``--include``), as paths below ``toplevel``.
        sparse: What is checked out, where that is not all.
        submodules: Those whose content is given (``--submodules``).
        lfs: Whether the content of Git LFS files is given (``--lfs``).
        url: Where the repository was cloned from, by us; ``toplevel`` is then the bare repository itself.
    """

    toplevel: Path
    git_dir: Path
    base_commit: str
    described: str
    depth: int = 0
    notes: tuple[str, ...] = ()
    with_changes: bool = False
    changes_taken: bool = False
    included: tuple[str, ...] = ()
    sparse: Sparse | None = None
    submodules: tuple[Submodule, ...] = ()
    lfs: bool = False
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The kernel's user for this session's processes, seen from the host.

    As root a session gets a user of its own; an ordinary user's session runs as himself.
    """

    agent_uid: int
    agent_gid: int
    proxy_uid: int
    proxy_gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPlan:
    """The frozen description of a session."""

    session_id: str
    name: str
    agent: str
    engine: str
    source: Source
    branch: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    passed_variables: tuple[str, ...]
    mounts: tuple[Mount, ...]
    files: tuple[StagedFile, ...]
    identity: Identity
    policy: Policy
    in_place: bool = False  # the branch is the user's own, checked out: --use-current-branch
    push: bool = True
    timeout_s: float | None = None
    author: Author | None = None
    engine_reason: str = ""
    image: str = ""  # identity of the engine's image, where it has images
    denied_files: tuple[str, ...] = ()  # real paths of the programs that the policy denies

    @property
    def policy_sha256(self) -> str:
        """Digest of the policy alone: equal for two sessions that may do the same."""
        return sha256_of(self.policy)

    @property
    def plan_sha256(self) -> str:
        """Digest of the whole plan (``config_sha256`` of the contract, A1)."""
        return sha256_of(self)
