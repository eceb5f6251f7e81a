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
    """Bytes, or files (inodes).

    Attributes:
        hidden: Why that is not all, or nothing.
        vanished: Names that were gone before they were looked at: deleted, or renamed with all that is below them.
    """

    count: int
    hidden: str = ""
    vanished: int = 0


def measure_trees(
    trees: Sequence[Path], *, timeout_s: float, give_up: Callable[[], bool] = lambda: False, files: bool = False
) -> Measured:
    """Measure trees together.

    Args:
        trees: What is counted, each file of them once.
        timeout_s: How long that may take.
        give_up: Asked at least once a second; whether it takes too long already.
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
            heard, in_time = _read(child, monotonic_s() + timeout_s, give_up)
        finally:
            with suppress(ProcessLookupError):
                child.kill()
    words = heard.printed.split(b"\n")[-2].split() if heard.printed.count(b"\n") else []
    count = int(words[0]) if len(words) == 2 and words[0].isdigit() and words[1] == b"total" else None
    if count is None and in_time:
        raise OSError(f"du: {heard.complaint or 'it said nothing'}")
    hidden = heard.complaint if in_time else "it takes too long to measure"
    return Measured(count=count or 0, hidden=hidden, vanished=heard.vanished)


class _Heard:
    """The end of what ``du`` prints, its first complaint that matters, and how many names it did not find again."""

    def __init__(self) -> None:
        self.printed = self._line = b""
        self.complaint, self.vanished = "", 0

    def print(self, chunk: bytes) -> None:
        self.printed = (self.printed + chunk)[-_KEPT_BYTES:]

    def complain(self, chunk: bytes) -> None:
        *whole, line = (self._line + chunk).split(b"\n")
        self._line = line[-len(_GONE) :]
        for each in whole:
            if each.endswith(_GONE):
                self.vanished += 1
            else:
                self.complaint = self.complaint or _shown(each)


def _read(child: process.Child, deadline_s: float, give_up: Callable[[], bool]) -> tuple[_Heard, bool]:
    """What it says, and whether it came to its end in time."""
    assert child.stdout is not None
    assert child.stderr is not None
    heard = _Heard()
    with selectors.DefaultSelector() as waiting:
        waiting.register(child.stdout, selectors.EVENT_READ, heard.print)
        waiting.register(child.stderr, selectors.EVENT_READ, heard.complain)
        while waiting.get_map():
            for key, _ in waiting.select(_ASK_S):
                if chunk := os.read(key.fd, _KEPT_BYTES):
                    key.data(chunk)
                else:
                    waiting.unregister(key.fileobj)
            if waiting.get_map() and (monotonic_s() > deadline_s or give_up()):
                return heard, False
    return heard, True


def _shown(line: bytes) -> str:
    """Why, without the path, which is the agent's."""
    return f"part of it cannot be measured: {line.rpartition(b': ')[2].decode('ascii', 'replace')}"
