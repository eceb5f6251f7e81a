"""The cleaner of commit messages (data/finish/message.sh) against a plain statement of what may stand in one."""

from __future__ import annotations

import re
import subprocess
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import containai

pytestmark = [pytest.mark.property, pytest.mark.user]

CLEANER = (Path(containai.__file__).parent / "data" / "finish" / "message.sh").read_text() + "\nclean_message\n"
VISIBLE = [
    *[(0x20, 0x7E), (0xA1, 0xAC), (0xAE, 0x27F), (0x380, 0x481), (0x48A, 0x4FF), (0x2010, 0x2027), (0x2030, 0x203F)],
    *[(0x2180, 0x22FF), (0x2500, 0x27BF), (0x3001, 0x3029), (0x3041, 0x3096), (0x309B, 0x30FF), (0x4000, 0x9FFF)],
    *[(0xAC00, 0xD7A3), (0x1F300, 0x1F6FF), (0x1F900, 0x1F9FF)],
]
FORGED = re.compile(r" *containai-[a-z0-9-]* *[:=]", re.ASCII | re.IGNORECASE)
SCISSORS = "-" * 24 + " >8 " + "-" * 24


def _is_kept(character: str) -> bool:
    return any(low <= ord(character) <= high for low, high in VISIBLE)


def expected(message: bytes) -> str:
    """What a message comes to."""
    # Control bytes go first: what they stood between may then be one character, and is judged as that.
    plain = bytes(b for b in message[:16384].replace(b"\t", b" ") if b == 0x0A or 0x20 <= b <= 0x7E or b >= 0x80)
    text = plain.decode(errors="ignore")
    lines: list[str] = []
    gap = False
    for whole in text.split("\n"):
        kept = "".join(filter(_is_kept, whole))
        if FORGED.match(kept) or kept == "---" or kept.startswith("--- ") or SCISSORS in kept:
            continue
        line = kept[:120].rstrip(" ")
        if not line:
            gap = True
            continue
        if not lines:
            lines.append(line.lstrip(" ")[:72].rstrip(" "))
        elif len([line for line in lines if line]) < 100:
            lines += ["", line] if gap or len(lines) == 1 else [line]
        gap = False
    return "".join(f"{line}\n" for line in lines)


def cleaned(message: bytes, script: str = CLEANER) -> bytes:
    """What the script makes of it."""
    done = subprocess.run(
        ["/bin/sh", "-c", script], input=message, capture_output=True, timeout=30, check=True,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
    )  # fmt: skip
    return done.stdout


pieces = st.one_of(
    st.text(max_size=40).map(lambda text: text.encode(errors="replace")),
    st.binary(max_size=12),
    st.characters(min_codepoint=0x80).map(lambda c: c.encode(errors="replace")),
    st.sampled_from([
        b"\n", b"\n\n", b" ", b"\t", b"\r\n", b"\x1b[2J", b"\0", b"\xe2\x80\xae", b"\xe2\x80\x8b", b"\xe2\x81\xa6",
        b"\xf3\xa0\x81\x81", b"\xc2\x9b", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe4\xb8", b"\xf0\x9f",
        b"Containai-Session: 0\n", b"containai-CONFIG = 1", b"---\n", SCISSORS.encode(), b"w" * 71, b"\xc3\xa9" * 119,
    ]),
)  # fmt: skip


@given(st.lists(pieces, max_size=30).map(b"".join))
@example(b"\n".join(b"line %d" % n for n in range(300)))
@example(b"x" * 20000)
@example("é".encode() * 9000)
@example(b"\xce\x01\x80")
@example(b"con\xe2\x80\x8btainai-session: forged\n \tContainai-Session: forged")
def test_a_message_is_what_may_stand_in_one(message: bytes) -> None:
    assert cleaned(message).decode() == expected(message)


def test_every_character_alone() -> None:
    """The planes in use, and that of the tags, a hundred characters a line."""
    points = [*range(0x20, 0xD800), *range(0xE000, 0x20000), *range(0xE0000, 0xE1000)]
    lines = ["x" + "".join(map(chr, points[start : start + 100])) for start in range(0, len(points), 100)]
    unbound = CLEANER.replace("\nclean_message\n", "\nMESSAGE_BYTES=9999999 MESSAGE_LINES=9999 SUBJECT_WIDTH=120")
    kept = ["".join(filter(_is_kept, line)).rstrip(" ") for line in lines]
    assert cleaned("\n".join(lines).encode(), f"{unbound}\nclean_message\n").decode().splitlines() == [
        kept[0],
        "",
        *kept[1:],
    ]


def test_no_range_holds_a_character_that_acts_or_hides() -> None:
    characters = [chr(point) for low, high in VISIBLE for point in range(low, high + 1)]
    wrong = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp", "Mn", "Me"}
    assert not [ascii(c) for c in characters if unicodedata.category(c) in wrong]
    assert not [ascii(c) for c in characters if unicodedata.bidirectional(c) in {"R", "AL", "RLO", "LRO", "RLE", "LRE"}]
