"""The quarantine: a bare repository on the host through which everything between host and container goes.

Only the host writes it. It holds one ref, the session's branch, which the host sets to the base commit. It borrows the
host repository's objects (``objects/info/alternates``), so making it copies nothing. What the container pushes lands
here and nowhere else; ``apply`` decides what becomes of it.

The files are written directly: ``git init`` would cost four times the launch's whole budget for this step.
"""

from __future__ import annotations

import os
from pathlib import Path

from containai.errors import StateError
from containai.plan.model import Source
from containai.policy.model import GIB
from containai.record import dataclass
from containai.workspace.refs import sync_directory

MAX_PACK_BYTES = GIB
"""Most bytes that one push may send."""

MAX_TOTAL_BYTES = 4 * GIB
"""Most bytes that all pushes of a session together may leave in its quarantine."""

MAX_OBJECTS = 1_000_000
"""Most objects in one push."""

MAX_PACKS = 2000
"""Most accepted pushes of a session that carry objects."""

_MODE = 0o700
_CONFIG = """\
[core]
	repositoryformatversion = {version}
	bare = true
	filemode = true
	logAllRefUpdates = true
	protectHFS = true
	protectNTFS = true
	# A push is acknowledged when its pack and then its ref are on the disk.
	fsync = committed,reference
	# Borrowed objects must not make the host's other refs known (".have" lines). Source: git-config(1).
	alternateRefsCommand = true
	hooksPath = /dev/null
	packedGitWindowSize = 32m
	packedGitLimit = 1g
	bigFileThreshold = 32m
[extensions]{extensions}
[gc]
	auto = 0
[maintenance]
	auto = false
[pack]
	# The connection never leaves this machine: time counts, size does not.
	window = 0
	compression = 1
	threads = 2
[transfer]
	fsckObjects = true
	unpackLimit = 1
	advertiseSID = false
	hideRefs = refs
	hideRefs = {shown}
[receive]
	fsckObjects = true
	unpackLimit = 1
	maxInputSize = {max_pack_bytes}
	denyDeletes = true
	denyCurrentBranch = ignore
	denyNonFastForwards = false
	shallowUpdate = false
	autogc = false
	updateServerInfo = false
	advertisePushOptions = false
[uploadpack]
	allowTipSHA1InWant = false
	allowReachableSHA1InWant = false
	allowAnySHA1InWant = false
	allowFilter = false
	allowRefInWant = false
[uploadarchive]
	allowUnreachable = false
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """A session's quarantine repository.

    Attributes:
        path: Its directory. Host-only: no container ever sees it.
        branch: The one branch in it.
        base: The commit that the host put there.
    """

    path: Path
    branch: str
    base: str

    @property
    def ref(self) -> str:
        """Full name of the one ref."""
        return f"refs/heads/{self.branch}"

    def tip(self) -> str:
        """The commit that the branch stands at: the base, or what was pushed last.

        Raises:
            StateError: The quarantine is gone or damaged.
        """
        try:
            return (self.path / self.ref).read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            raise StateError(
                "the session's return repository cannot be read",
                code="state.quarantine",
                details=f"{self.path}: {error}",
                remedy=[f"ls -l {self.path}", "containai remove SESSION --force   # throws the work away"],
            ) from error

    def sync_ref(self) -> None:
        """Make the branch's last move durable: git syncs a ref's content, not the directory that names it."""
        sync_directory((self.path / self.ref).parent)

    def packs(self) -> dict[str, int]:
        """Names (without suffix) and sizes of the packs that pushes have left."""
        with os.scandir(self.path / "objects" / "pack") as entries:
            return {
                entry.name.removesuffix(".pack"): entry.stat().st_size
                for entry in entries
                if entry.name.endswith(".pack")
            }


def create_quarantine(path: Path, source: Source, branch: str) -> Quarantine:
    """Make the quarantine of a session at ``path``, which must not exist.

    Raises:
        StateError: It could not be written.
    """
    quarantine = Quarantine(path=path, branch=branch, base=source.base_commit)
    sha256 = len(source.base_commit) == 64
    config = _CONFIG.format(
        version=1 if sha256 else 0,
        extensions="\n\tobjectFormat = sha256" if sha256 else "",
        # Source: git-config(1), Syntax: unquoted, a name with "#" or ";" would end there.
        # Git allows a quotation mark in a name, and no backslash.
        shown='"!' + quarantine.ref.replace('"', '\\"') + '"',
        max_pack_bytes=MAX_PACK_BYTES,
    )
    try:
        for directory in (path, path / "objects" / "info", path / "objects" / "pack", (path / quarantine.ref).parent):
            os.makedirs(directory, mode=_MODE, exist_ok=directory != path)
        _write(path / "config", config.encode())
        _write(path / "HEAD", f"ref: {quarantine.ref}\n".encode())
        _write(path / "objects" / "info" / "alternates", quoted(source.git_dir / "objects") + b"\n")
        _write(path / quarantine.ref, f"{source.base_commit}\n".encode())
        shallow = source.git_dir / "shallow"
        if shallow.is_file():  # the host's own history ends somewhere: so does ours, at the same commits
            _write(path / "shallow", shallow.read_bytes())
    except OSError as error:
        raise StateError(
            "the session's return repository cannot be made",
            code="state.unwritable",
            details=str(error),
            remedy=[f"make {path.parent} writable, with space left"],
        ) from error
    return quarantine


def open_quarantine(path: Path, branch: str, base: str) -> Quarantine:
    """The quarantine of a session that began earlier.

    Raises:
        StateError: It is not there.

    Preconditions: no server works on it. A lock on its ref is then a dead one's, and would keep every push out.
    """
    if path.is_symlink():  # git would follow it, into a repository that is no quarantine
        raise StateError(
            "the session's return repository is a link",
            code="state.quarantine",
            details=str(path),
            remedy=[
                f"ls -ld {path}",
                "put the directory itself there; or: containai remove SESSION --force   # throws the work away",
            ],
        )
    quarantine = Quarantine(path=path, branch=branch, base=base)
    quarantine.tip()
    (path / f"{quarantine.ref}.lock").unlink(missing_ok=True)
    return quarantine


def _write(path: Path, content: bytes) -> None:
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)


def quoted(path: Path) -> bytes:
    """The path as git's C-style quoted string: an alternates line may then hold any byte."""
    plain = b"".join(
        b"\\%03o" % byte if byte < 0x20 or byte >= 0x7F or byte in b'"\\' else bytes((byte,))
        for byte in os.fsencode(path)
    )
    return b'"' + plain + b'"'
