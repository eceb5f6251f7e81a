"""Child processes: the only place that starts them.

Every child gets an argument vector (no shell), an explicit environment, and a bound on its time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from containai.errors import ContainaiError
from containai.record import dataclass

Child = subprocess.Popen[bytes]
PIPE = subprocess.PIPE
TimeoutExpired = subprocess.TimeoutExpired
_GROUP_GRACE_S = 10.0

MINIMAL_ENVIRONMENT: Mapping[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A child that has ended."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def said(self) -> str:
        """What it printed on standard error, fit for a message."""
        return self.stderr.decode(errors="replace").strip()


def run(
    argv: Sequence[str | bytes | Path],
    *,
    env: Mapping[str, str] = MINIMAL_ENVIRONMENT,
    stdin: bytes = b"",
    cwd: Path | None = None,
    timeout_s: float = 60.0,
) -> Completed:
    """Run a child to its end.

    Raises:
        ContainaiError: It could not be started (``process.missing``) or took too long (``process.timeout``).
    """
    try:
        done = subprocess.run(
            argv, env=dict(env), input=stdin, cwd=cwd, timeout=timeout_s, capture_output=True, check=False
        )
    except subprocess.TimeoutExpired as expired:
        raise ContainaiError(
            f"{_name(argv)} did not finish within {timeout_s:g} s", code="process.timeout"
        ) from expired
    except OSError as error:
        raise ContainaiError(f"cannot run {_name(argv)}", code="process.missing", details=str(error)) from error
    return Completed(status=done.returncode, stdout=done.stdout, stderr=done.stderr)


def run_in_own_group(argv: Sequence[str | bytes | Path], *, timeout_s: float) -> Completed:
    """Run a child that may signal its whole process group, as mmdebstrap does when it fails: ours is another one.

    Whatever ends the wait ends the group too; its processes get a moment to clean up.

    Raises:
        ContainaiError: It could not be started (``process.missing``) or took too long (``process.timeout``).
    """
    child = spawn(argv, stdout=PIPE, stderr=PIPE, new_session=True)
    try:
        stdout, stderr = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as expired:
        raise ContainaiError(
            f"{_name(argv)} did not finish within {timeout_s:g} s", code="process.timeout"
        ) from expired
    finally:
        if child.returncode is None:
            _end_group(child)
    return Completed(status=child.returncode, stdout=stdout, stderr=stderr)


def _end_group(child: Child) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.communicate(timeout=_GROUP_GRACE_S)
            return


def spawn(
    argv: Sequence[str | bytes | Path],
    *,
    env: Mapping[str, str] = MINIMAL_ENVIRONMENT,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
    new_session: bool = False,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child and return at once.

    Raises:
        ContainaiError: It could not be started (``process.missing``).
    """
    try:
        return subprocess.Popen(
            argv,
            env=dict(env),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=tuple(pass_fds),
            start_new_session=new_session,
            cwd=cwd,
        )
    except OSError as error:
        raise ContainaiError(f"cannot run {_name(argv)}", code="process.missing", details=str(error)) from error


def run_in_foreground(argv: Sequence[str | bytes | Path], *, env: Mapping[str, str]) -> int:
    """Run a program of the user's on his terminal, until he ends it; its exit status.

    Raises:
        ContainaiError: It could not be started (``process.missing``).
    """
    try:
        return subprocess.run(argv, env=dict(env), check=False).returncode
    except OSError as error:
        raise ContainaiError(f"cannot run {_name(argv)}", code="process.missing", details=str(error)) from error


def _name(argv: Sequence[str | bytes | Path]) -> str:
    first = argv[0]
    return first.decode(errors="replace") if isinstance(first, bytes) else str(first)
