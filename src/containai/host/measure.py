"""What trees take on their disk, by ``du``: it counts a file with several names once, and bears with any depth."""

from __future__ import annotations

import os
import selectors
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from containai.errors import ContainaiError
from containai.host import process
from containai.host.clock import monotonic_s
from containai.record import dataclass

_KEPT_BYTES = 64 * 1024
_ASK_S = 1.0
_GONE = b": No such file or directory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Bytes, or files (inodes); ``hidden`` says why that is not all, or nothing."""

    count: int
    hidden: str = ""


def measure_trees(
    trees: Sequence[Path], *, timeout_s: float, give_up: Callable[[], bool] = lambda: False, files: bool = False
) -> Measured:
    """Measure trees together.

    Args:
        trees: What is counted, each file of them once.
        timeout_s: How long that may take.
        give_up: Asked once a second; whether it takes too long already.
        files: Count files instead of bytes.

    Trust: the agent made what is in them, and may have shut folders of it. ``du`` follows no link; what it says on
    standard error is read as it comes and not kept, however much it is. No file system is left out: the agent can mount
    none, but make subvolumes.

    Raises:
        OSError: ``du`` cannot be run.
    """
    what = ["--inodes"] if files else ["--block-size=1"]
    try:
        child = process.spawn(
            ["du", "--summarize", "--total", *what, "--", *trees], stdout=process.PIPE, stderr=process.PIPE
        )
    except ContainaiError as error:
        raise OSError(error.details) from error
    with child:
        try:
            total, complaint, in_time = _read(child, monotonic_s() + timeout_s, give_up)
        finally:
            with suppress(ProcessLookupError):
                child.kill()
    words = total.split(b"\n")[-2].split() if total.count(b"\n") else []
    count = int(words[0]) if len(words) == 2 and words[0].isdigit() and words[1] == b"total" else None
    if count is None and in_time:
        raise OSError(f"du: {complaint or 'it said nothing'}")
    hidden = complaint if in_time else "it takes too long to measure"
    return Measured(count=count or 0, hidden=hidden)


def _read(child: process.Child, deadline_s: float, give_up: Callable[[], bool]) -> tuple[bytes, str, bool]:
    """The end of what it prints, its first complaint, and whether it came to its end in time."""
    assert child.stdout is not None
    assert child.stderr is not None
    printed, line, complaint = b"", b"", ""
    with selectors.DefaultSelector() as waiting:
        for pipe in (child.stdout, child.stderr):
            waiting.register(pipe, selectors.EVENT_READ)
        while waiting.get_map():
            ready = waiting.select(_ASK_S)
            if monotonic_s() > deadline_s or (not ready and give_up()):
                return printed, complaint, False
            for key, _ in ready:
                chunk = os.read(key.fd, _KEPT_BYTES)
                if not chunk:
                    waiting.unregister(key.fileobj)
                elif key.fileobj is child.stdout:
                    printed = (printed + chunk)[-_KEPT_BYTES:]
                else:
                    *whole, line = (line + chunk).split(b"\n")
                    complaint = complaint or next(map(_shown, filter(_matters, whole)), "")
                    line = line[-len(_GONE) :]
    return printed, complaint, True


def _matters(line: bytes) -> bool:
    """Of a running session files vanish while they are counted."""
    return not line.endswith(_GONE)


def _shown(line: bytes) -> str:
    """Why, without the path, which is the agent's."""
    return f"part of it cannot be measured: {line.rpartition(b': ')[2].decode('ascii', 'replace')}"
