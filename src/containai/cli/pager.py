"""The user's own pager, chosen as git chooses it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from containai.cli.environ import Surroundings
from containai.errors import ContainaiError
from containai.host.process import PIPE, spawn
from containai.workspace.git import run_git_as_user

_PLAIN = ("", "cat")


@contextlib.contextmanager
def open_pager(here: Surroundings, repository: Path) -> Iterator[BinaryIO]:
    """Where to write: into the pager on a terminal, else to standard output.

    Source: git-var(1), GIT_PAGER: the variable, then ``core.pager``, then PAGER, then ``less``; each
    is a line for a shell.
    """
    command = _choose(here, repository) if sys.stdout.isatty() else ""
    if command in _PLAIN:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    sys.stdout.flush()
    variables = {"LESS": "FRX", "LV": "-c", **here.variables}
    try:
        child = spawn(["/bin/sh", "-c", command], env=variables, stdin=PIPE, stdout=1, stderr=2)
    except ContainaiError:
        yield sys.stdout.buffer
        return
    assert child.stdin is not None
    try:
        yield child.stdin  # type: ignore[misc]
    finally:
        with contextlib.suppress(BrokenPipeError, OSError):
            child.stdin.close()
        while True:
            try:
                child.wait()
                break
            except KeyboardInterrupt:
                continue  # the pager's to answer


def _choose(here: Surroundings, repository: Path) -> str:
    chosen = here.variables.get("GIT_PAGER")
    if chosen is None:
        asked = run_git_as_user(["config", "--get", "core.pager"], repository, here.variables)
        if asked.status == 0:
            chosen = asked.stdout.decode(errors="replace").strip()
    return chosen if chosen is not None else here.variables.get("PAGER", "less")
