"""Repositories from HTTPS, kept below the state directory (W2).

    <state>/sources/<host>/<path>.git         bare; the remote's branches as refs/remotes/origin/*
    <state>/sources/<host>/<path>.git.lock    held while one launch fetches

Git fetches on the host, outside of any container, as the user's own ``git clone`` would: his configuration, his
credential helpers, his proxies and certificates. Only HTTPS is spoken, whatever the configuration or a redirect says,
and nothing of what arrives is run: no hooks, no templates, no submodules, no checkout.

A first fetch happens in a directory that is renamed when it is complete, so what an interruption leaves is never used.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from containai.errors import ContainaiError, StateError, WorkspaceError
from containai.host.process import Completed, run
from containai.plan.address import Address
from containai.plan.model import Source
from containai.workspace.git import run_git
from containai.workspace.source import history_depth

FETCH_TIMEOUT_S = 3600.0

# How git is to be spoken with is the user's choice; which repository it works in is not, nor is a trace that could
# write down what a credential helper said. Source: git(1), Environment Variables.
_KEPT = re.compile(
    r"GIT_(ASKPASS|TERMINAL_PROMPT|SSL_\w+|PROXY_SSL_\w+|CONFIG_(GLOBAL|SYSTEM|NOSYSTEM)|HTTP_USER_AGENT)"
)
_OPTIONS = (
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "maintenance.auto=false"),
    *("-c", "gc.auto=0"),
    *("-c", "fetch.recurseSubmodules=false"),
)
_FETCH = (
    "fetch",
    "--quiet",
    "--prune",
    "--no-tags",
    "--no-recurse-submodules",
    "--no-auto-maintenance",
    "--no-write-fetch-head",
)
_REFSPEC = "+refs/heads/*:refs/remotes/origin/*"
_DEFAULT = re.compile(rb"ref: refs/heads/([^\t\n]+)\tHEAD\n")
_PASSWORD = re.compile(r"(?<=://)[^/\s@']*@")


def fetch_source(address: Address, user: Mapping[str, str], state_dir: Path) -> Source:
    """Bring the kept repository up to date, or clone it, and describe it.

    Args:
        user: The launcher's whole environment; what a credential helper may need is in it.

    Raises:
        WorkspaceError: The remote cannot be reached, refuses, or has no commit to start from.
        StateError: The state directory cannot be written.
    """
    kept = state_dir / "sources" / address.place
    try:
        _make_private(state_dir / "sources", kept.parent)
        with _locked(kept):
            branch = _default_branch(address, user)
            if (kept / "HEAD").exists():
                _fetch(kept, address, user)
            else:
                _clone(kept, address, user)
    except OSError as error:
        raise StateError(
            "the repository cannot be kept",
            code="state.unwritable",
            details=str(error),
            remedy=[f"make {state_dir} writable, with space left"],
        ) from error
    asked = run_git(["rev-parse", "--verify", "--quiet", f"refs/remotes/origin/{branch}^{{commit}}"], git_dir=kept)
    if asked.status != 0:
        raise WorkspaceError(
            "the remote's default branch has no commit",
            code="workspace.unborn",
            details=f"{branch} of {address.url}",
            remedy=["push a first commit to it"],
        )
    told = f"the work returns to {kept}; from there: git -C {shlex.quote(str(kept))} push origin BRANCH"
    return Source(
        toplevel=kept,
        git_dir=kept,
        base_commit=asked.stdout.decode().strip(),
        described=branch,
        depth=history_depth(kept),
        notes=(told,),
        url=address.url,
    )


def _clone(kept: Path, address: Address, user: Mapping[str, str]) -> None:
    """A bare repository with the remote's branches, at its place once it is whole."""
    fresh = kept.with_name(kept.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)  # of a launch that was interrupted: we hold the lock
    fresh.mkdir(mode=0o700)
    try:
        _say_if_failed(_git(["init", "--quiet", "--bare", "--template=", fresh], user), address)
        for name, value in (("url", address.url), ("fetch", _REFSPEC)):
            run_git(["config", f"remote.origin.{name}", value], git_dir=fresh)
        _fetch(fresh, address, user)
        os.rename(fresh, kept)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _fetch(place: Path, address: Address, user: Mapping[str, str]) -> None:
    _say_if_failed(_git([f"--git-dir={place}", *_FETCH, "--", address.url, _REFSPEC], user), address)


def _default_branch(address: Address, user: Mapping[str, str]) -> str:
    """Which branch the remote's ``HEAD`` is. Asked first: it shows whether there is anything to fetch.

    Trust: the remote chooses the name; git's own rules for names apply to what it then fetches.
    """
    done = _git(["ls-remote", "--symref", "--", address.url, "HEAD"], user)
    _say_if_failed(done, address)
    found = _DEFAULT.match(done.stdout)
    name = os.fsdecode(found[1]) if found else ""
    if not name or not name.isprintable() or _git(["check-ref-format", f"refs/heads/{name}"], user).status:
        raise WorkspaceError(
            "the remote has no default branch",
            code="workspace.unborn",
            details=f"{address.url}: nothing to start from",
            remedy=["push a first commit to it, or choose its default branch where it is hosted"],
        )
    return name


def _git(arguments: list[str | Path], user: Mapping[str, str]) -> Completed:
    env = {name: value for name, value in user.items() if not name.startswith("GIT_") or _KEPT.fullmatch(name)}
    try:
        return run(
            ["git", "-C", "/", *_OPTIONS, *arguments],
            env={**env, "LC_ALL": "C.UTF-8", "GIT_ALLOW_PROTOCOL": "https"},
            timeout_s=FETCH_TIMEOUT_S,
        )
    except ContainaiError as error:
        raise WorkspaceError(
            error.summary,
            code="workspace.fetch",
            details=error.details,
            remedy=["git ls-remote ADDRESS HEAD   # this must work first: it uses the same credentials"],
        ) from error


def _say_if_failed(done: Completed, address: Address) -> None:
    if done.status != 0:
        said = _PASSWORD.sub("", done.said)[-2000:]
        said = "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in said)
        raise WorkspaceError(
            "the remote repository cannot be fetched",
            code="workspace.fetch",
            details=said or "git gave no reason",
            remedy=[f"git ls-remote {address.url} HEAD", "this must work first: it uses the same credentials"],
        )


def _make_private(root: Path, place: Path) -> None:
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    root.chmod(0o700)


@contextlib.contextmanager
def _locked(kept: Path) -> Iterator[None]:
    """One launch at a time fetches; another one waits. The lock is gone with its process."""
    fd = os.open(f"{kept}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
