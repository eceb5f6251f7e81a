"""One way to call git on the host.

Every call has an argument vector (``host/process.py``), an environment made from nothing, and options
that switch off whatever a repository could make git run: hooks, the file system monitor, pagers,
prompts, maintenance. ``replace`` refs and grafts are not followed and partial clones fetch nothing.

The user's own git configuration is read in one place only: ``run_git_as_user``, the first look at the
source, where his ``safe.directory`` decides whether git may touch that repository at all. From there on
the repository is named with ``--git-dir``, and git reads that repository's configuration and no other.

As root in somebody else's repository, git runs as that somebody: objects and refs that it writes stay his.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import select
import signal
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from containai.errors import ContainaiError, WorkspaceError
from containai.host.clock import monotonic_s
from containai.host.process import MINIMAL_ENVIRONMENT, Completed, run, spawn

Argument = str | bytes | Path

_QUIET: Mapping[str, str] = {
    **MINIMAL_ENVIRONMENT,
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "true",
    "GIT_PAGER": "cat",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_GRAFT_FILE": "/nonexistent",  # the older way to another history; no clone and no push follows either
    "GIT_NO_LAZY_FETCH": "1",
    # Git frees its compressor after each object: without these, glibc gives the memory back and asks again each time,
    # which is half the time of packing a few hundred objects. Source: mallopt(3).
    "MALLOC_TRIM_THRESHOLD_": "16777216",
    "MALLOC_TOP_PAD_": "2097152",
}
HOST_ENVIRONMENT: Mapping[str, str] = {
    **_QUIET,
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    # Reflog entries of the refs that we move.
    "GIT_COMMITTER_NAME": "ContainAI",
    "GIT_COMMITTER_EMAIL": "host@containai.invalid",
}
# What decides, in git's own rules, whether a repository of somebody else may be used.
# Source: git-config(1), safe.directory.
_USER_VARIABLES = ("HOME", "XDG_CONFIG_HOME", "SUDO_UID")
_OPTIONS = (
    "--no-pager",
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "protocol.file.allow=user"),
    *("-c", "maintenance.auto=false"),
    *("-c", "gc.auto=0"),
)
_INSTALL = ("apt-get install git", "dnf install git")


class Child(Protocol):
    """A process that ``spawn`` has started."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None:
        """Exit status, or None while it runs."""


def git_argv(arguments: Sequence[Argument], *, git_dir: Path, work_tree: Path | None = None) -> list[Argument]:
    """The whole argument vector of a git call on the repository at ``git_dir``.

    Git starts in ``/``: never in a directory that a container could write.
    """
    tree = () if work_tree is None else (f"--work-tree={work_tree}",)
    return [*_as_owner(git_dir), "git", "-C", "/", *_OPTIONS, f"--git-dir={git_dir}", *tree, *arguments]


def run_git(
    arguments: Sequence[Argument],
    *,
    git_dir: Path,
    stdin: bytes = b"",
    timeout_s: float = 60.0,
    also: Mapping[str, str] = MappingProxyType({}),
) -> Completed:
    """Run git to its end; its status is the caller's to judge.

    Args:
        also: Further variables for git, of the caller's making.

    Raises:
        WorkspaceError: Git is not installed, or did not finish in time.
    """
    return _translated(git_argv(arguments, git_dir=git_dir), {**HOST_ENVIRONMENT, **also}, stdin, timeout_s)


def run_git_in_tree(
    arguments: Sequence[Argument],
    *,
    git_dir: Path,
    work_tree: Path,
    user: Mapping[str, str],
    also: Mapping[str, str] = MappingProxyType({}),
    stdin: bytes = b"",
    timeout_s: float = 60.0,
) -> Completed:
    """Run git in the user's working tree under his own configuration: his ignore rules, filters and identity.

    As root in somebody else's repository that somebody's configuration is read, under his name.

    Args:
        user: The launcher's environment, as for ``run_git_as_user``.
        also: Further variables for git, of the caller's making.
    """
    lower = _as_owner(git_dir)
    if lower:
        with contextlib.suppress(KeyError):
            user = {"HOME": pwd.getpwuid(git_dir.stat().st_uid).pw_dir}
    argv = [*lower, "git", "-C", work_tree, *_OPTIONS, f"--git-dir={git_dir}", f"--work-tree={work_tree}", *arguments]
    return _translated(argv, {**_user_environment(user), **also}, stdin, timeout_s)


def run_git_as_user(arguments: Sequence[Argument], directory: Path, user: Mapping[str, str]) -> Completed:
    """Run git in ``directory`` under the user's own configuration, to learn whether he trusts it.

    Args:
        user: The launcher's environment. Only the variables that git's ownership rules read are taken from it.

    Trust: ``directory`` is the user's choice; git itself decides whether its configuration is read.
    """
    return _translated(["git", "-C", directory, *_OPTIONS, *arguments], _user_environment(user), b"", 60.0)


def spawn_git(
    arguments: Sequence[Argument],
    *,
    git_dir: Path,
    work_tree: Path | None = None,
    stdin: int,
    stdout: int,
    stderr: int,
    more: Mapping[str, str] | None = None,
) -> Child:
    """Start git, in a process group of its own, with these descriptors as its standard streams.

    Args:
        more: Variables beside those that every git of the host gets.

    Raises:
        WorkspaceError: Git is not installed.
    """
    argv = git_argv(arguments, git_dir=git_dir, work_tree=work_tree)
    try:
        env = {**HOST_ENVIRONMENT, **(more or {})}
        return spawn(argv, env=env, stdin=stdin, stdout=stdout, stderr=stderr, new_session=True)
    except ContainaiError as error:
        raise _explained(error) from error


def await_exit(child: Child, deadline_s: float, *wake_fds: int) -> int | None:
    """Wait for the end of a child, until ``deadline_s`` (monotonic) or until one of ``wake_fds`` can be read.

    Returns:
        The exit status; None when the child still runs.
    """
    await_end(child, deadline_s, *wake_fds)
    return child.poll()


def await_end(child: Child, deadline_s: float, *wake_fds: int) -> bool:
    """As ``await_exit``, but leave an ended child to be waited for: its process group then is still its own."""
    if child.returncode is not None:
        return True
    # Not Popen.wait: with a time limit it polls, with pauses of up to 50 ms.
    descriptor = os.pidfd_open(child.pid)
    try:
        poller = select.poll()
        for fd in (descriptor, *wake_fds):
            poller.register(fd, select.POLLIN)
        return descriptor in dict(poller.poll(max(0.0, deadline_s - monotonic_s()) * 1000))
    finally:
        os.close(descriptor)


def end_group(child: Child, number: int = signal.SIGKILL) -> None:
    """Send a signal to a git of ``spawn_git`` that has not been waited for, and to everything that it started."""
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)


def _user_environment(user: Mapping[str, str]) -> dict[str, str]:
    environment = {**_QUIET, "HOME": str(Path.home())}
    return environment | {name: user[name] for name in _USER_VARIABLES if name in user}


def _translated(argv: Sequence[Argument], env: Mapping[str, str], stdin: bytes, timeout_s: float) -> Completed:
    try:
        return run(argv, env=env, stdin=stdin, timeout_s=timeout_s)
    except ContainaiError as error:
        raise _explained(error) from error


def _explained(error: ContainaiError) -> WorkspaceError:
    if error.code == "process.timeout":
        return WorkspaceError(
            error.summary,
            code="workspace.git-slow",
            details="the disk or the repository is too slow",
            remedy=["git gc in the repository, then try again"],
        )
    return WorkspaceError("git is not installed", code="workspace.git-missing", details=error.details, remedy=_INSTALL)


def _as_owner(git_dir: Path) -> tuple[str, ...]:
    if os.geteuid() != 0:
        return ()
    owner = git_dir.stat()
    if owner.st_uid == 0 or not _reaches(git_dir, owner.st_uid, owner.st_gid):
        return ()
    user, group = f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}"
    return ("setpriv", user, group, "--clear-groups", "--no-new-privs", "--")


def _reaches(path: Path, uid: int, gid: int) -> bool:
    """Whether that user can walk to ``path``: a repository of his may lie below a directory of root alone."""
    for directory in path.parents:
        entry = directory.stat()
        bit = stat.S_IXUSR if entry.st_uid == uid else stat.S_IXGRP if entry.st_gid == gid else stat.S_IXOTH
        if not entry.st_mode & bit:
            return False
    return True
