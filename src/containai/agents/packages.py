"""npm packages: which directories one needs to run, and not one more.

npm puts what a global package needs below it; pnpm, yarn and bun put it beside it. Both are followed.
Trust: a package and its package.json are a stranger's; a dependency's name is checked before it becomes a path.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from containai.agents.load import PACKAGE_NAME
from containai.errors import AgentError
from containai.record import dataclass

MODULES = "node_modules"
_MAX_PACKAGES = 2000  # a bound; the largest real tree of an agent has 15
_MAX_JSON_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """An installed package: its name, and its directory with every link resolved."""

    name: str
    directory: Path


def enclosing_package(real: Path) -> Package | None:
    """The innermost package that holds a file; None when it is in none.

    Args:
        real: A path with every link resolved.
    """
    parts = real.parts
    for index in range(len(parts) - 2, 0, -1):
        if parts[index] != MODULES:
            continue
        length = 2 if parts[index + 1].startswith("@") else 1
        name = "/".join(parts[index + 1 : index + 1 + length])
        directory = Path(*parts[: index + 1 + length])
        if PACKAGE_NAME.fullmatch(name) and directory != real and (directory / "package.json").is_file():
            return Package(name=name, directory=directory)
    return None


def needed_packages(package: Package) -> tuple[Package, ...]:
    """``package`` first, then every package beside it that it needs; those within come along.

    Raises:
        AgentError: ``agent.unusable``: a package is damaged, or a link leads out of the packages.
    """
    chosen = {package.name: package.directory}
    waiting, visited = [package.directory], {package.directory}
    while waiting:
        directory = waiting.pop()
        for name in _dependencies(directory):
            real = _installed(name, directory)
            if real is None or real in visited:  # an optional one for another platform, or known already
                continue
            visited.add(real)
            waiting.append(real)
            if not any(real.is_relative_to(known) for known in chosen.values()):
                chosen.setdefault(name, real)
        if len(visited) > _MAX_PACKAGES:
            raise AgentError(
                f"{package.name} needs more than {_MAX_PACKAGES} packages",
                code="agent.unusable",
                remedy=[f"install {package.name} in a directory of its own: npm install --global {package.name}"],
            )
    return tuple(Package(name=name, directory=directory) for name, directory in chosen.items())


def package_version(directory: Path) -> str:
    """The version that a package says it has; empty when it says none."""
    version = _manifest(directory).get("version")
    return version if isinstance(version, str) and version.isascii() and version.isprintable() else ""


def _dependencies(directory: Path) -> Iterator[str]:
    manifest = _manifest(directory)
    for key in ("dependencies", "optionalDependencies"):
        names = manifest.get(key)
        if isinstance(names, dict):
            yield from (name for name in names if PACKAGE_NAME.fullmatch(name))


def _installed(name: str, directory: Path) -> Path | None:
    """Where Node.js finds ``name`` from ``directory``, below the topmost node_modules."""
    for base in (directory, *directory.parents):
        if base.name == MODULES:
            continue
        place = base / MODULES / name
        if (place / "package.json").is_file():
            return _within_modules(place, name)
        if MODULES not in base.parts:
            break
    return None


def _within_modules(place: Path, name: str) -> Path:
    real = place.resolve()
    parent = real.parent.parent if "/" in name else real.parent
    if parent.name != MODULES:
        raise AgentError(
            f"the package {name} is a link out of {MODULES}",
            code="agent.unusable",
            details=f"{place} leads to {real}, which would be shown to the agent as a whole",
            remedy=[f"npm install --global {name} # a copy in the place of the link (npm link)"],
        )
    return real


def _manifest(directory: Path) -> dict[str, Any]:
    try:
        with (directory / "package.json").open("rb") as file:
            manifest = json.loads(file.read(_MAX_JSON_BYTES))
    except (OSError, ValueError) as error:
        raise AgentError(
            f"the package in {directory} is damaged",
            code="agent.unusable",
            details=str(error),
            remedy=["install it again with npm"],
        ) from error
    return manifest if isinstance(manifest, dict) else {}
