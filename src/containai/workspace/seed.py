"""The agent's repository, as far as the host can make it without touching a working tree.

The host writes ``.git`` of the new workspace: one pack with the branch's history, the refs, the configuration. It does
so before any instruction of a container has run, so nobody hostile has been there, and no git of the host works in it:
git packs inside the quarantine, and the finished pack is moved over. What is left for the ``prepare`` container is to
check the files out. That reads what the repository's authors wrote, and therefore happens inside.

``prepare`` can do without it and clone from the return port. But a clone sends every object through a pipe to
``index-pack``, which computes each object's name anew; ``pack-objects`` knows them already. For a tree of 80 MB that is
0.3 s instead of 1.3 s.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from containai.errors import WorkspaceError
from containai.plan.model import REMOTE_NAME, RETURN_URL, Source
from containai.policy.model import Author
from containai.workspace.git import run_git
from containai.workspace.scripts import commit_identity

_PACK_S = 900.0
_CONFIG = """\
[core]
	repositoryformatversion = {version}
	filemode = true
	bare = false
	logallrefupdates = true
{sparse}{extensions}[remote "{remote}"]
	url = {url}
	fetch = {fetch}
	tagOpt = --no-tags
[remote]
	pushDefault = {remote}
[branch {branch}]
	remote = {remote}
	merge = {merge}
[push]
	default = upstream
[pack]
	# What is pushed never leaves this machine: time counts, size does not. The host's own gc packs it well later.
	window = 0
	compression = 1
[user]
	name = {name}
	email = {email}
"""


def seed_workspace(
    workspace: Path,
    *,
    quarantine: Path,
    source: Source,
    branch: str,
    agent: str,
    author: Author | None = None,
    owner: tuple[int, int] | None = None,
    url: str = RETURN_URL,
) -> None:
    """Write ``.git`` of an empty workspace.

    Args:
        workspace: The session's workspace.
        quarantine: The session's quarantine repository, where the objects are found.
        author: Who stands in the commits; None for the agent itself.
        owner: User and group of the agent; None when they are the caller's.
        url: The remote's address, as seen from inside.

    Preconditions: no instruction of a container has run on this workspace.

    Raises:
        WorkspaceError: It could not be written, or the history is incomplete.
    """
    git_dir = workspace / ".git"
    base, ref, tracking = source.base_commit, f"refs/heads/{branch}", f"refs/remotes/{REMOTE_NAME}/{branch}"
    try:
        for place in ("objects/info", "objects/pack", "info", ref, tracking):
            folder = git_dir / place
            (folder.parent if place in (ref, tracking) else folder).mkdir(parents=True, exist_ok=True)
        ends = _pack(quarantine, git_dir, source)
        if ends:
            (git_dir / "shallow").write_text("".join(f"{commit}\n" for commit in sorted(ends)), encoding="ascii")
        for name in (ref, tracking):
            (git_dir / name).write_text(f"{base}\n", encoding="ascii")
        (git_dir / f"refs/remotes/{REMOTE_NAME}/HEAD").write_text(f"ref: {tracking}\n", encoding="utf-8")
        if source.sparse is not None:
            patterns = source.sparse.patterns.encode(errors="surrogateescape")
            (git_dir / "info" / "sparse-checkout").write_bytes(patterns)
        (git_dir / "config").write_text(_config(source, branch, commit_identity(agent, author), url), encoding="utf-8")
        # Last: what has no HEAD is no repository, so an interrupted seed is never taken for a whole one.
        (git_dir / "HEAD").write_text(f"ref: {ref}\n", encoding="utf-8")
        if owner is not None:
            give(git_dir, *owner)
    except OSError as error:
        raise WorkspaceError(
            "the workspace cannot be written",
            code="workspace.make",
            details=str(error),
            remedy=[f"make {workspace} writable, with space left"],
        ) from error


def _pack(quarantine: Path, git_dir: Path, source: Source) -> set[str]:
    """Write the one pack; return the commits at which the history ends."""
    ends: set[str] = set()
    with suppress(FileNotFoundError):
        ends = set((quarantine / "shallow").read_text(encoding="ascii").split())
    if source.depth:
        ends = _ends(quarantine, source, ends)
    wanted = [*(f"--shallow {commit}" for commit in sorted(ends)), source.base_commit, ""]
    place = quarantine / "seed"
    place.mkdir(mode=0o700)
    # core.fsync: what is copied here still stands on the host; a crash loses nothing.
    options = ["-c", "core.fsync=none", "pack-objects", "--revs", "--quiet", "--delta-base-offset"]
    options += ["--shallow"] if ends else []
    done = run_git([*options, place / "pack"], git_dir=quarantine, stdin="\n".join(wanted).encode(), timeout_s=_PACK_S)
    if done.status != 0:
        raise WorkspaceError(
            "the branch's history cannot be copied",
            code="workspace.clone",
            details=done.said[-2000:],
            remedy=["git fsck in the repository", "df -h: is there room for a copy?"],
        )
    for path in place.iterdir():
        os.rename(path, git_dir / "objects" / "pack" / path.name)
    place.rmdir()
    return ends


def _ends(quarantine: Path, source: Source, already: set[str]) -> set[str]:
    """The commits, among the newest ``source.depth`` ones, whose parents are left out.

    Not git's own notion of depth, which counts along every line of a merge: in a history full of merges fifty
    steps back are tens of thousands of commits.
    """
    listed = run_git(["rev-list", "--parents", f"--max-count={source.depth}", source.base_commit], git_dir=quarantine)
    if listed.status != 0:
        raise WorkspaceError(
            "the branch's history cannot be read",
            code="workspace.clone",
            details=listed.said,
            remedy=["git fsck in the repository"],
        )
    family = [line.split() for line in listed.stdout.decode().splitlines()]
    given = {line[0] for line in family}
    return {line[0] for line in family if line[0] in already or not given.issuperset(line[1:])}


def _config(source: Source, branch: str, identity: tuple[str, str], url: str) -> str:
    name, email = identity
    sha256 = len(source.base_commit) == 64
    return _CONFIG.format(
        version=1 if sha256 else 0,
        sparse=""
        if source.sparse is None
        else f"\tsparseCheckout = true\n\tsparseCheckoutCone = {str(source.sparse.cone).lower()}\n",
        extensions="[extensions]\n\tobjectFormat = sha256\n" if sha256 else "",
        remote=REMOTE_NAME,
        url=url,
        fetch=quoted(f"+refs/heads/{branch}:refs/remotes/{REMOTE_NAME}/{branch}"),
        branch=quoted(branch),
        merge=quoted(f"refs/heads/{branch}"),
        name=quoted(name),
        email=quoted(email),
    )


def quoted(value: str) -> str:
    """Quote a value, or the name of a subsection, in git's configuration. Source: git-config(1), Syntax."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def give(directory: Path, uid: int, gid: int) -> None:
    """Make a tree of the host's making the agent's."""
    os.chown(directory, uid, gid)
    for folder, names, files in os.walk(directory):
        for name in [*names, *files]:
            os.chown(os.path.join(folder, name), uid, gid, follow_symlinks=False)
