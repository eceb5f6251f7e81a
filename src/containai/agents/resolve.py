"""Finds an agent's program and files on the user's side, and what of them the container has to be shown.

    /usr (with /bin, /lib, ...)      nothing: the container has it
    an npm package elsewhere         its directory, and the packages beside it that it needs
    a native program elsewhere       that file alone, or its bundle where the adapter names the bundle's marker
    Node.js elsewhere                its binary, with npm

Everything is read-only, below /opt/containai/agent. Never a directory that is not known to be one of these.
Trust: PATH and HOME are the user's; the programs found are as untrusted as the agent that they are.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

from containai.agents.model import Adapter, HostFile, Program
from containai.agents.packages import MODULES, Package, enclosing_package, needed_packages, package_version
from containai.agents.search import (
    elf_interpreter,
    find_programs,
    is_elf,
    is_manager,
    is_visible,
    script_interpreter,
)
from containai.errors import AgentError
from containai.plan.model import HOME, FileOrigin, Mount, MountKind, StagedFile
from containai.policy.model import CredentialMode

AGENT_ROOT = PurePosixPath("/opt/containai/agent")
BIN = AGENT_ROOT / "bin"
MAX_FILE_BYTES = 1024 * 1024  # of a configuration or credential file
_BUNDLE_DEPTH = 3  # how far above the program a bundle's root may be


def resolve_program(adapter: Adapter, search_path: str, home: Path) -> Program:
    """Find the agent's program.

    Args:
        adapter: The agent.
        search_path: The user's PATH.
        home: The user's HOME.

    Raises:
        AgentError: ``agent.missing``: it is not installed. ``agent.unusable``: it is, in a form that cannot be
            shown to a container.
    """
    first: AgentError | None = None
    for found in find_programs(adapter.binaries, search_path, home):
        try:
            return _program(adapter, found, search_path, home)
        except AgentError as error:  # the next one may be better: a real program behind a shim
            first = first or error
        except OSError as error:
            first = first or _unusable(found, f"it cannot be read: {error.strerror}")
    if first is not None:
        raise AgentError(
            first.summary, code=first.code, details=first.details, remedy=first.remedy or _installation(adapter)
        ) from first
    raise AgentError(
        f"{adapter.title} is not installed",
        code="agent.missing",
        details=f"no program {' or '.join(adapter.binaries)} on PATH, nor where its installers put it",
        remedy=_installation(adapter),
    )


def resolve_files(adapter: Adapter, home: Path, credentials: CredentialMode) -> tuple[StagedFile, ...]:
    """The files that the agent finds in its HOME: the user's own (C1), else the adapter's text.

    Nothing is read here. In mode ``none`` no file of the user's is taken: a configuration may hold a key too.

    Raises:
        AgentError: ``agent.file``: a file is there and cannot be read, or is too large.
    """
    files = {}
    if credentials is CredentialMode.MOUNT:
        for wanted in adapter.host_files:
            path = _first_candidate(wanted, home)
            if path is not None:
                files[wanted.path] = StagedFile(target=HOME / wanted.path, origin=FileOrigin.HOST, content=str(path))
    for text in adapter.text_files:
        if text.path not in files:
            files[text.path] = StagedFile(
                target=HOME / text.path, origin=FileOrigin.TEXT, content=text.content, read_only=False
            )
    return tuple(files.values())


def _program(adapter: Adapter, found: Path, search_path: str, home: Path) -> Program:
    real = found.resolve(strict=True)
    if is_manager(real):
        raise _unusable(found, f"it is the shim of a version manager ({real.name}), which does not work in a container")
    package = enclosing_package(real)
    if is_visible(real):
        inside = PurePosixPath(found if is_visible(found) else real)
        mounts: tuple[Mount, ...] = ()
    elif package is not None:
        inside, mounts = _show_package(package, real, found.name)
    else:
        inside, mounts = _show_native(adapter, found, real)
    for mount in mounts:
        _check_exposure(mount, home)
    node = _node_mounts(found, real, search_path, home)
    return Program(
        argv=(str(inside),),
        mounts=(*mounts, *node),
        path=(str(BIN),) if mounts or node else (),
        found=found,
        version=package_version(package.directory) if package else "",
    )


def _show_package(package: Package, real: Path, name: str) -> tuple[PurePosixPath, tuple[Mount, ...]]:
    if is_elf(real):
        _check_loader(real)
    elif not script_interpreter(real):
        raise AgentError(
            f"{package.name} is installed without its program",
            code="agent.unusable",
            details=f"{real} is a placeholder: npm did not run the package's install script",
            remedy=[
                f"npm rebuild --global {package.name}",
                f"npm install --global --ignore-scripts=false {package.name}",
            ],
        )
    mounts = [
        Mount(kind=MountKind.READ_ONLY, target=AGENT_ROOT / MODULES / each.name, source=str(each.directory))
        for each in needed_packages(package)
    ]
    entry = AGENT_ROOT / MODULES / package.name / real.relative_to(package.directory).as_posix()
    mounts.append(_link(name, entry))
    return BIN / name, tuple(mounts)


def _show_native(adapter: Adapter, found: Path, real: Path) -> tuple[PurePosixPath, tuple[Mount, ...]]:
    if not is_elf(real):
        raise _unusable(found, "it is a script outside of an npm package, so what else it needs is unknown")
    _check_loader(real)
    for root in real.parents[:_BUNDLE_DEPTH]:
        if adapter.bundle_marker and (root / adapter.bundle_marker).is_file():
            target = AGENT_ROOT / "bundle"
            shown = Mount(kind=MountKind.READ_ONLY, target=target, source=str(root))
            return BIN / found.name, (shown, _link(found.name, target / real.relative_to(root).as_posix()))
    return BIN / found.name, (Mount(kind=MountKind.READ_ONLY, target=BIN / found.name, source=str(real)),)


def _node_mounts(found: Path, real: Path, search_path: str, home: Path) -> tuple[Mount, ...]:
    """Node.js with npm, for a script that asks for it, where it is not below /usr."""
    interpreter = "" if is_elf(real) else script_interpreter(real)
    if interpreter.rpartition("/")[2] != "node":
        return ()
    beside = f"{found.parent}{os.pathsep}{search_path}"  # nvm and others keep programs beside their own Node.js
    for place in find_programs(("node", "nodejs"), beside, home):
        node = place.resolve()
        if node.name not in ("node", "nodejs") or not is_elf(node):
            continue
        if is_visible(node):
            return () if is_visible(place) else (_link("node", PurePosixPath(node)),)
        _check_loader(node)
        mounts = [Mount(kind=MountKind.READ_ONLY, target=BIN / "node", source=str(node))]
        npm = node.parent.parent / "lib" / MODULES / "npm"
        if (npm / "package.json").is_file() and npm.resolve() == npm:
            inside = AGENT_ROOT / MODULES / "npm"
            mounts.append(Mount(kind=MountKind.READ_ONLY, target=inside, source=str(npm)))
            mounts += [_link(name, inside / "bin" / f"{name}-cli.js") for name in ("npm", "npx")]
        return tuple(mounts)
    raise AgentError(
        f"{found.name} needs Node.js, which is not installed", code="agent.missing", remedy=["sudo apt install nodejs"]
    )


def _link(name: str, to: PurePosixPath) -> Mount:
    return Mount(kind=MountKind.SYMLINK, target=BIN / name, source=str(to))


def _check_loader(real: Path) -> None:
    loader = elf_interpreter(real)
    if loader and not is_visible(os.path.realpath(loader)):
        raise _unusable(real, f"it needs the loader {loader}, which the container has not")


def _check_exposure(mount: Mount, home: Path) -> None:
    """Refuse a mount of HOME or of anything above it, whatever its package.json says."""
    if mount.kind is MountKind.READ_ONLY and home.resolve().is_relative_to(mount.source):
        raise AgentError(
            f"{mount.source} will not be shown to an agent",
            code="agent.exposure",
            details="the agent's program seems to be there, and so are your own files",
            remedy=["install the agent in a directory of its own: npm install --global, or below ~/.local"],
        )


def _unusable(found: Path, why: str) -> AgentError:
    return AgentError(f"{found} cannot be used", code="agent.unusable", details=why)


def _installation(adapter: Adapter) -> tuple[str, ...]:
    if not adapter.package:
        return (f"install {adapter.binaries[0]}",)
    version = f"@{adapter.tested_version}" if adapter.tested_version else ""
    package = f"{adapter.package}{version}"
    return (
        f"npm install --global {package}",
        f"npm install --global --prefix ~/.npm-global {package}   # where npm's own directory is not yours",
    )


def _first_candidate(wanted: HostFile, home: Path) -> Path | None:
    for candidate in wanted.candidates:
        path = home / candidate
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise _bad_file(path, error.strerror or "it cannot be looked at") from error
        if not stat.S_ISREG(status.st_mode):
            continue
        if status.st_size > MAX_FILE_BYTES:
            raise _bad_file(path, f"it is larger than {MAX_FILE_BYTES // 1024} KiB")
        if not os.access(path, os.R_OK):
            raise _bad_file(path, "you may not read it")
        return path
    return None


def _bad_file(path: Path, why: str) -> AgentError:
    return AgentError(
        f"{path} cannot be given to the agent",
        code="agent.file",
        details=why,
        remedy=[f"ls -l {path}", "or start without it: --credentials none"],
    )
