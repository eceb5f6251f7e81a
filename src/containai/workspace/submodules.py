"""Submodules whose content is given to the agent (``--submodules``).

Those that the user has checked out: their objects are on this machine, and nothing is fetched. Given is the one
commit that the base commit records, without its history. ``.gitmodules`` is the repository's, so it is believed only as
far as it agrees with the base commit, and names nothing outside of the repository's own ``modules`` directory.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from containai.errors import WorkspaceError
from containai.plan.model import Source, Submodule
from containai.record import replace
from containai.workspace.git import run_git
from containai.workspace.notes import own_git_dir
from containai.workspace.seed import give, quoted

_KEY = re.compile(r"submodule\.(.*)\.path", re.DOTALL)
_LINK = re.compile(rb"160000 commit ([0-9a-f]{40}|[0-9a-f]{64})\t")
_MAX = 200
_PACK_S = 600.0
_CONFIG = """\
[core]
	repositoryformatversion = {version}
	filemode = true
	bare = false
	logallrefupdates = true
	worktree = {worktree}
{extensions}[user]
	name = {agent}
	email = {email}
"""


def find_submodules(source: Source) -> Source:
    """``source`` with those submodules whose recorded commit is on this machine."""
    asked = run_git(
        ["config", "-z", f"--blob={source.base_commit}:.gitmodules", "--get-regexp", r"^submodule\..*\.path$"],
        git_dir=source.git_dir,
    )
    found: list[Submodule] = []
    for entry in os.fsdecode(asked.stdout).split("\0")[:_MAX]:
        key, _, path = entry.partition("\n")
        named = _KEY.fullmatch(key)
        submodule = named and _checked(source, named[1], path)
        if submodule and not any(_collide(submodule, other) for other in found):
            found.append(submodule)
    return replace(source, submodules=tuple(found))


def _checked(source: Source, name: str, path: str) -> Submodule | None:
    """The submodule, when its name is harmless, its path a link of the base commit, and its commit here."""
    # Source: git's own rules, check_submodule_name() and looks_like_command_line_option().
    parts = re.split(r"[/\\]", name)
    if not name.isprintable() or name.startswith("-") or len(name) > _MAX or any(p in ("", ".", "..") for p in parts):
        return None
    if (
        not path.isprintable()
        or path.startswith(("-", "/"))
        or any(p.lower() in ("", ".", "..", ".git") for p in re.split(r"[/\\]", path))
    ):
        return None
    listed = run_git(
        ["--literal-pathspecs", "ls-tree", "--full-tree", "-z", source.base_commit, "--", path], git_dir=source.git_dir
    )
    link = _LINK.match(listed.stdout)
    if link is None or listed.stdout[link.end() :] != os.fsencode(path) + b"\0":
        return None
    commit = link[1].decode()
    if len(commit) != len(source.base_commit):
        return None
    for git_dir in dict.fromkeys((own_git_dir(source), source.git_dir)):
        objects = git_dir / "modules" / name / "objects"
        if not objects.is_dir() or not objects.resolve().is_relative_to((git_dir / "modules").resolve()):
            continue
        asked = run_git(["cat-file", "-e", f"{commit}^{{tree}}"], git_dir=source.git_dir, also=_borrowing(objects))
        if asked.status == 0:
            return Submodule(name=name, path=path, commit=commit, objects=objects)
    return None


def _collide(one: Submodule, other: Submodule) -> bool:
    """Whether the git directory or the files of one would stand inside those of the other."""
    return any(
        f"{a}/".startswith(f"{b}/") or f"{b}/".startswith(f"{a}/")
        for a, b in ((one.name.lower(), other.name.lower()), (one.path, other.path))
    )


def _borrowing(objects: Path) -> dict[str, str]:
    """Git then finds objects there too. Source: git(1), GIT_ALTERNATE_OBJECT_DIRECTORIES (quoted as in C)."""
    text = os.fspath(objects).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return {"GIT_ALTERNATE_OBJECT_DIRECTORIES": f'"{text}"'}


def seed_submodules(
    workspace: Path, *, quarantine: Path, source: Source, agent: str, email: str, owner: tuple[int, int] | None
) -> None:
    """Write the git directory of each submodule below the workspace's own; ``prepare.sh`` checks them out.

    Preconditions: no instruction of a container has run on this workspace; its ``.git`` is written.

    Raises:
        WorkspaceError: A submodule could not be copied.
    """
    for submodule in source.submodules:
        git_dir = workspace / ".git" / "modules" / submodule.name
        sha256 = len(submodule.commit) == 64
        up = "../" * (len(git_dir.relative_to(workspace).parts))
        try:
            for place in ("objects/pack", "objects/info", "refs/heads", "info"):
                (git_dir / place).mkdir(parents=True)
            _pack(submodule, quarantine, git_dir)
            (git_dir / "shallow").write_text(f"{submodule.commit}\n", encoding="ascii")
            config = _CONFIG.format(
                version=1 if sha256 else 0,
                extensions="[extensions]\n\tobjectFormat = sha256\n" if sha256 else "",
                worktree=quoted(up + submodule.path),
                agent=quoted(agent),
                email=quoted(email),
            )
            (git_dir / "config").write_text(config, encoding="utf-8")
            (git_dir / "HEAD").write_text(f"{submodule.commit}\n", encoding="ascii")
            with open(workspace / ".git" / "config", "a", encoding="utf-8") as shared:
                shared.write(f"[submodule {quoted(submodule.name)}]\n\tactive = true\n")
        except OSError as error:
            raise WorkspaceError(
                f"the submodule {submodule.path} cannot be written",
                code="workspace.make",
                details=str(error),
                remedy=["df -h: is there room where the state is kept?", "or leave --submodules out"],
            ) from error
    if owner is not None and source.submodules:
        give(workspace / ".git" / "modules", *owner)


def _pack(submodule: Submodule, quarantine: Path, git_dir: Path) -> None:
    place = quarantine / "seed-submodule"
    place.mkdir(mode=0o700)
    wanted = f"--shallow {submodule.commit}\n{submodule.commit}\n"
    done = run_git(
        [
            "-c",
            "core.fsync=none",
            "pack-objects",
            "--revs",
            "--quiet",
            "--delta-base-offset",
            "--shallow",
            place / "pack",
        ],
        git_dir=quarantine,
        stdin=wanted.encode(),
        timeout_s=_PACK_S,
        also=_borrowing(submodule.objects),
    )
    if done.status != 0:
        raise WorkspaceError(
            f"the submodule {submodule.path} cannot be copied",
            code="workspace.submodule",
            details=done.said[-2000:],
            remedy=[f"git -C {submodule.path} fsck", "or leave --submodules out"],
        )
    for path in place.iterdir():
        os.rename(path, git_dir / "objects" / "pack" / path.name)
    place.rmdir()
