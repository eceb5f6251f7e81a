"""Build our images (M1): a base with tools, and on it the agents' own programs, in pinned versions.

Everything is decided from ``data/images`` and ``data/agents``; the daemon does the work.
"""

from __future__ import annotations

import contextlib
import io
import re
import tarfile
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from containai.agents.load import load_adapter
from containai.errors import ContainaiError, EngineError, UsageError
from containai.host import process
from containai.host.docker import Daemon
from containai.record import dataclass

DATA = Path(__file__).resolve().parent.parent / "data" / "images"
BASE = "containai-base"
DEFAULT_BASE_IMAGE = "ubuntu:24.04"
_AGENTS = ("claude", "codex", "copilot")
NAMES = ("base", "all", *_AGENTS)
_MMDEBSTRAP = "mmdebstrap"
_ROOTFS_PACKAGES = "ca-certificates,curl"
_ROOTFS_TIMEOUT_S = 1800.0
_LAST_LINES = 50
_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)  # Source: errno(3), ENOSPC, EDQUOT
_MAKE_ROOM = ("docker system df", "docker image prune  # images without a name: what failed builds leave")
_REGISTRY = re.compile(r"https?://[^\s@]+")  # no name and password: an image shows its build arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One image to build.

    Attributes:
        tag: What it will be called.
        context: Directory of its Dockerfile, below ``data/images``.
        arguments: Build arguments; never a secret, since an image shows them.
    """

    tag: str
    context: str
    arguments: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to build.

    Attributes:
        base_image: What containai-base stands on.
        rootfs_suite: Make that with mmdebstrap, from this Debian release, instead of pulling it.
        certificates: Files of certificates that the builder's network needs besides the usual ones.
        network: The network of the build, as Docker calls it.
        npm_registry: Where Node.js, npm and the agents' packages are fetched from.
    """

    base_image: str = DEFAULT_BASE_IMAGE
    rootfs_suite: str = ""
    certificates: tuple[Path, ...] = ()
    network: str = ""
    npm_registry: str


def recipes(names: Sequence[str], base_image: str, npm_registry: str) -> tuple[Recipe, ...]:
    """What has to be built for these names, in order; the base comes first.

    Raises:
        UsageError: There is no such image.
    """
    wanted = [_plain(name) for name in dict.fromkeys(names)] or ["all"]
    registry = {"NPM_REGISTRY": npm_registry.rstrip("/")}
    found = [Recipe(tag=f"{BASE}:latest", context="base", arguments={"BASE_IMAGE": base_image, **registry})]
    for name in dict.fromkeys(wanted):
        if name == "base":
            continue
        agents = [load_adapter(agent) for agent in (_AGENTS if name == "all" else (name,))]
        found.append(
            Recipe(
                tag="containai:latest" if name == "all" else f"containai-{name}:latest",
                context="agents",
                arguments={
                    **registry,
                    "BASE": f"{BASE}:latest",
                    "PACKAGES": " ".join(f"{agent.package}@{agent.tested_version}" for agent in agents),
                    "BINARIES": " ".join(agent.binaries[0] for agent in agents),
                },
            )
        )
    return tuple(found)


def build_images(names: Sequence[str], options: Options, say: Callable[[str], None]) -> dict[str, str]:
    """Build, and tell each line of progress; tags with the identities of their images.

    Raises:
        EngineError: ``engine.docker``: no daemon answers. ``image.build``: a step failed; ``image.space``: for want
            of room. Images built before it stay.
    """
    daemon = Daemon()
    daemon.about()  # one that does not answer is known before a root file system is made for it
    base_image = options.base_image
    if options.rootfs_suite:
        base_image = make_rootfs(daemon, options.rootfs_suite, say)
    built = {}
    for recipe in recipes(names, base_image, options.npm_registry):
        say(f"building {recipe.tag}")
        context = _context(DATA / recipe.context, options.certificates if recipe.context == "base" else ())
        _build(daemon, recipe, context, options.network, say)
        image = daemon.image(recipe.tag)
        if image is None:
            raise EngineError(
                f"{recipe.tag} was not built",
                code="image.build",
                remedy=["docker system df   # is there room?"],
            )
        built[recipe.tag] = str(image["Id"])
    return built


def _build(daemon: Daemon, recipe: Recipe, context: bytes, network: str, say: Callable[[str], None]) -> None:
    last: deque[str] = deque(maxlen=_LAST_LINES)
    try:
        for line in daemon.build(context, recipe.tag, recipe.arguments, network):
            last.append(line)
            say(f"  {line}")
    except EngineError as error:
        full = _full((*last, error.details))
        if not full:
            raise
        raise EngineError(
            f"{recipe.tag} could not be built: there is no room on Docker's disk",
            code="image.space",
            details=full,
            remedy=["docker info --format '{{.DockerRootDir}}'  # which disk", *_MAKE_ROOM],
        ) from error


def _full(lines: Iterable[str]) -> str:
    """The line that says that a disk is full, or nothing."""
    return next((line.strip() for line in lines if _FULL.search(line)), "")


def find_registry(variables: Mapping[str, str]) -> str:
    """The registry that the user's own npm is set to.

    Raises:
        UsageError: ``image.registry``: npm is not here, or says something else.
    """
    found = ""
    with contextlib.suppress(ContainaiError):
        found = (
            process.run(["npm", "config", "get", "registry"], env=variables, timeout_s=60.0)
            .stdout.decode(errors="replace")
            .strip()
        )
    if not _REGISTRY.fullmatch(found):
        raise UsageError(
            "the npm registry is not known",
            code="image.registry",
            details="it is asked of npm, which is not here or answers with no address",
            remedy=["containai image build --npm-registry URL", "sudo apt-get install npm"],
        )
    return found


def make_rootfs(daemon: Daemon, suite: str, say: Callable[[str], None]) -> str:
    """Make a root file system with mmdebstrap and give it to the daemon; the image's name.

    Raises:
        EngineError: ``image.rootfs``: mmdebstrap failed; ``image.space``: for want of room.
    """
    say(f"making a root file system of Debian {suite} with mmdebstrap")
    with tempfile.TemporaryDirectory(prefix="containai-rootfs-") as folder:
        archive = Path(folder) / "rootfs.tar"
        done = _run_mmdebstrap(suite, archive)
        full = _full(done.said.splitlines())
        if done.status != 0 and full:
            raise EngineError(
                "the root file system could not be made: there is no room on the disk",
                code="image.space",
                details=full,
                remedy=[f"df -h {tempfile.gettempdir()} /tmp", "TMPDIR=/with/more/room containai image build ..."],
            )
        if done.status != 0:
            raise EngineError(
                "mmdebstrap failed",
                code="image.rootfs",
                details=done.said[-2000:],
            )
        try:
            return daemon.import_archive(archive, f"containai-rootfs:{suite}")
        except EngineError as error:
            if not (full := _full([error.details])):
                raise
            raise EngineError(
                "the root file system could not be imported: there is no room on Docker's disk",
                code="image.space",
                details=full,
                remedy=_MAKE_ROOM,
            ) from error


def _run_mmdebstrap(suite: str, archive: Path) -> process.Completed:
    argv: list[str | bytes | Path] = [
        *(_MMDEBSTRAP, "--variant=minbase", f"--include={_ROOTFS_PACKAGES}", suite),
        archive,
    ]
    try:
        return process.run_in_own_group(argv, timeout_s=_ROOTFS_TIMEOUT_S)
    except ContainaiError as error:
        if error.code != "process.missing":
            raise
        raise EngineError(
            "mmdebstrap cannot be run",
            code="image.rootfs",
            details=error.details,
            remedy=["sudo apt-get install mmdebstrap"],
        ) from error


def _plain(name: str) -> str:
    """``containai-claude`` and ``claude`` are one; ``containai`` is all of them."""
    plain = "all" if name == "containai" else name.removeprefix("containai-")
    if plain not in NAMES:
        raise UsageError(
            f"there is no image {name!a}",
            code="image.unknown",
            remedy=[f"one of: containai, {', '.join(f'containai-{each}' for each in ('base', *_AGENTS))}"],
        )
    return plain


def _context(directory: Path, certificates: Sequence[Path]) -> bytes:
    """The build's files as an archive; nothing of the user's but the certificates that he names."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        files = {path.name: path for path in sorted(directory.iterdir()) if path.is_file()}
        files |= {f"builder-{number}.crt": path for number, path in enumerate(certificates)}
        for name, path in files.items():
            try:
                content = path.read_bytes()
            except OSError as error:
                raise UsageError(
                    f"{path} cannot be read", code="image.file", details=str(error), remedy=[f"ls -l {path}"]
                ) from error
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()
