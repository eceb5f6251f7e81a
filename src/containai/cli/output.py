"""Printing: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from containai.cli.messages import Messages
from containai.errors import ContainaiError

_RED, _YELLOW, _DIM, _END = "\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[0m"


def printable(text: str) -> str:
    """``text`` without anything that a terminal could obey or that could hide what is read.

    Trust: ``text`` may come from the agent or its repository.
    """
    return "".join(c if c in "\t " or unicodedata.category(c)[0] not in "CZ" else f"\\x{ord(c):02x}" for c in text)


class Console:
    """Messages for a person.

    Args:
        messages: Writes them, where nothing may wait for their reader.
    """

    def __init__(self, *, colour: bool, quiet: bool = False, messages: Messages | None = None) -> None:
        self._colour = colour and sys.stderr.isatty()
        self._quiet = quiet
        self._messages = messages

    def paint(self, style: str, text: str) -> str:
        """``text`` in a style, on a terminal."""
        return f"{style}{text}{_END}" if self._colour else text

    def progress(self, text: str) -> None:
        """What is being done; shown when nobody asked for silence."""
        if not self._quiet:
            self._write(self.paint(_DIM, f"containai: {printable(text)}"))

    def note(self, text: str) -> None:
        """Something the user should know; shown always."""
        self._write(f"containai: {self.paint(_YELLOW, 'note:')} {printable(text)}")

    def error(self, error: ContainaiError) -> None:
        """An error: what, why, what to do, with its stable code."""
        self._write(f"containai: {self.paint(_RED, f'error[{error.code}]:')} {printable(error.summary)}")
        for line in error.details.splitlines():
            self._write(f"  {printable(line)}")
        if error.remedy:
            self._write("  to mend it:")
            for line in error.remedy:
                self._write(f"    {printable(line)}")

    def damaged(self, session_id: str, error: ContainaiError) -> None:
        """A session that cannot be told about, beside others that can."""
        summary = f"session {session_id}: {error.summary}"
        self.error(ContainaiError(summary, code=error.code, details=error.details, remedy=error.remedy))

    def finish(self) -> None:
        """Nothing more will be said."""
        if self._messages is not None:
            self._messages.finish()

    def _write(self, line: str) -> None:
        end = "\r\n" if sys.stderr.isatty() else "\n"  # raw terminals need the carriage return
        if self._messages is not None:
            self._messages.write(line + end)
            return
        try:
            print(line, file=sys.stderr, end=end, flush=True)
        except OSError:
            pass  # the terminal is gone; the session's end must go on


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    print(json.dumps(value))


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on standard output, columns aligned."""
    table = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def silence_broken_pipe() -> None:
    """Point standard output at nothing, so that the interpreter's last flush cannot fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
