"""What restores a terminal: the orders that end what an agent's output has begun, however it was cut."""

from __future__ import annotations

import pytest

from containai.session.terminal import Written

ENDS = {
    "a title without end": (b"\x1b]0;", b"\x18\x1b\\"),
    "the same in one character": (b"\xc2\x9d0;", b"\x18\x1b\\"),
    "concealed": (b"\x1b[8m", b"\x1b[0m"),
    "another screen": (b"\x1b[?1049h", b"\x1b[?1049l"),
    "a scrolling region": (b"\x1b[5;6r", b"\x1b[r"),
    "no cursor": (b"\x1b[?25l", b"\x1b[?25h"),
    "line drawing": (b"\x0e", b"\x0f"),
    "text in the colour of the ground": (b"\x1b]10;#000000\x07", b"\x1b]110\x1b\\"),
    "keys in another form": (b"\x1b[>1u", b"\x1b[<99u"),
}


@pytest.mark.parametrize("what", ENDS)
@pytest.mark.parametrize("piece", [1, 2, 1000])
def test_what_was_begun_is_ended_however_it_was_cut(what: str, piece: int) -> None:
    begun, end = ENDS[what]
    written = Written()
    text = b"some text " + begun + b" more" * 20
    for at in range(0, len(text), piece):
        written.saw(text[at : at + piece])
    assert end in written.restoring
    assert written.restoring.startswith(b"\x18\x1b\\")
    assert written.restoring.endswith(b"\n\r\x1b[J")


@pytest.mark.parametrize("text", [b"", b"plain\r\n", "größer\t→\n".encode(), b"\x07\x08"])
def test_after_plain_text_nothing_is_restored(text: bytes) -> None:
    written = Written()
    written.saw(text)
    assert written.restoring == b""


def test_what_nobody_changed_stays_as_the_user_has_it() -> None:
    written = Written()
    written.saw(b"\x1b[32mgreen\x1b[0m\r\n")
    assert not any(end in written.restoring for end in (b"\x1b]110", b"\x1b[<99u"))
    assert b"\n" not in written.restoring
