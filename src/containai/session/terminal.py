"""The user's terminal after the agent: what the agent wrote to it must not decide how our own words look. PURE.

A terminal obeys what is printed. An agent's last bytes can hide all that follows: a title that never ends takes it
up, text can be concealed, or have the colour of the ground; another screen, a scrolling region and the mouse stay as
they are when an agent is killed. So after an agent that gave its terminal any order, it gets the orders that end them.

Source: ECMA-48; "XTerm Control Sequences"; for keys kitty's "Comprehensive keyboard handling in terminals".
"""

from __future__ import annotations

import re

_ORDER = re.compile(rb"[\x0e\x1b]|\xc2[\x80-\x9f]")  # ESC, what stands for it and the next character, SHIFT OUT
_ENDS = (
    b"\x18\x1b\\"  # of a string or order that is not finished: a title, for example, takes all that follows
    b"\x1b7\x1b[?1049l"  # of another screen. The cursor is saved first: this order moves it to where it was saved
    b"\x1b[?69l\x1b7\x1b[r\x1b8"  # of margins and of a scrolling region; the latter moves the cursor
    b"\x1b[0m\x0f\x1b(B\x1b[?7h\x1b[?25h\x1b[?5l\x1b[4l"  # of how text looks, and where it goes
    b"\x1b[?1l\x1b>\x1b[?1000;1002;1003;1004;1005;1006;1015;1016;2004l"  # of what keys, mouse and pasting send
    b"\x1b]8;;\x1b\\"  # of a link
)
_AFTER = b"\r\x1b[J"  # nothing of the agent's stands beside and below what comes
# Ends that would be wrong, or not known, where nobody began: of keys in another form; of another palette.
_SELDOM = (
    (re.compile(rb"(?:\x1b\[|\xc2\x9b)[>=]"), b"\x1b[<99u\x1b[=0u\x1b[>4m"),
    (re.compile(rb"(?:\x1b\]|\xc2\x9d)(?:4|5|1[0-9]);"), b"".join(b"\x1b]%d\x1b\\" % n for n in (104, 110, 111, 112))),
)
_KEPT = 5  # bytes of the longest that may stand on both sides of a cut


class Written:
    """What was written to a terminal, as far as it matters for its restoration."""

    def __init__(self) -> None:
        self._last = b""
        self._ends: dict[bytes, None] = {}

    def saw(self, chunk: bytes) -> None:
        """Take note of the next piece."""
        text = self._last + chunk
        for begin, end in ((_ORDER, _ENDS), *_SELDOM):
            if end not in self._ends and begin.search(text):
                self._ends[end] = None
        self._last = text[-_KEPT:]

    @property
    def restoring(self) -> bytes:
        """What restores the terminal; nothing after plain text."""
        if not self._ends:
            return b""
        return b"".join((*self._ends, b"" if self._last.endswith(b"\n") else b"\n", _AFTER))
