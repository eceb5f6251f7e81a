"""The diff of a branch as lines that a terminal can be given.

Git makes the diff, without colour, helpers or configuration of anybody; every line of it is then made printable, and
coloured here. So an escape sequence in a file, or in its name, is read and never obeyed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from containai.host.clock import monotonic_s
from containai.workspace.git import Argument, await_exit, end_group, spawn_git

_MOST_COLUMNS = 2000
_STAT_FILES = 40
_QUIET = ("--no-ext-diff", "--no-textconv", "--no-color", "--ignore-submodules=none", "--submodule=short")


def patch_lines(git_dir: Path, base: str, tip: str) -> Iterator[str]:
    """The patch, a printable line each. Git ends when the iterator is closed."""
    return _lines(git_dir, ["diff-tree", "-r", "-p", "-M", *_QUIET, base, tip])


def stat_lines(git_dir: Path, base: str, tip: str) -> Iterator[str]:
    """A summary: the first files with their sizes, and the sums."""
    options = [f"--stat=100,60,{_STAT_FILES}", "--summary"]
    return _lines(git_dir, ["diff-tree", "-r", "-M", *options, *_QUIET, base, tip])


def style_of(line: str) -> str:
    """How a line of a patch is shown: ``added``, ``removed``, ``place``, ``head`` or nothing."""
    if line.startswith(
        ("+++ ", "--- ", "diff --git ", "index ", "new file ", "deleted file ", "rename ", "similarity ")
    ):
        return "head"
    return {"+": "added", "-": "removed", "@": "place"}.get(line[:1], "")


def visible(text: str) -> str:
    """``text`` with everything that is not seen made visible, tabs kept, and cut where it is endless."""
    if text.isascii() and text.replace("\t", " ").isprintable() and len(text) <= _MOST_COLUMNS:
        return text
    more = len(text) - _MOST_COLUMNS
    shown = "".join(c if c == "\t" or c.isprintable() else _named(c) for c in text[:_MOST_COLUMNS])
    return f"{shown} ... and {more} more characters" if more > 0 else shown


def _named(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8 (PEP 383)
        return f"<{code - 0xDC00:02X}>"
    return f"<U+{code:04X}>" if code > 0x7F else f"<{code:02X}>"


def _lines(git_dir: Path, arguments: list[Argument]) -> Iterator[str]:
    null = os.open(os.devnull, os.O_RDWR)
    readable, writable = os.pipe()
    try:
        child = spawn_git(arguments, git_dir=git_dir, stdin=null, stdout=writable, stderr=null)
    except BaseException:
        os.close(readable)
        raise
    finally:
        os.close(null)
        os.close(writable)
    try:
        with os.fdopen(readable, "rb", buffering=1 << 18) as output:
            yield from _cut(output.readline)
    finally:
        with contextlib.suppress(OSError):
            end_group(child)
        await_exit(child, monotonic_s() + 5.0)


def _cut(readline: Callable[[int], bytes]) -> Iterator[str]:
    """Lines of at most some thousand bytes: the rest of a longer one is read and left out."""
    most = 8 * _MOST_COLUMNS
    while line := readline(most):
        rest = 0
        while not line.endswith(b"\n") and (more := readline(most)):
            rest += len(more)
            if more.endswith(b"\n"):
                break
        text = visible(line.rstrip(b"\n").decode("utf-8", "surrogateescape").removesuffix("\r"))
        yield f"{text} ... and {rest} more bytes" if rest else text
