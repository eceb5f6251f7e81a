"""scripts/refused_calls.py asks the profile about each call with its own arguments."""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from scripts import refused_calls
from scripts.refused_calls import count_refused

TRACE = """\
7 clone3(0x7f2a10, 0x58) = 0x8
8 clone3(0x7f2a10, 0x58 <unfinished ...>
9 <... clone3 resumed>) = 0xa
7 clone(0x3d0f00, 0x7f, 0x7f, 0x7f, 0x7f) = 0x9
7 clone(0x10000011, 0, 0, 0x7f, 0) = -1 EPERM (Operation not permitted)
7 socket(0x2, 0x80001, 0) = 0x3
7 socket(0x11, 0x80003, 0x3) = 0x4
7 ioctl(0x2, 0x5413, 0x7ffc) = 0
7 ioctl(0x2, 0x5412, 0x7ffc) = 0
7 personality(0xffffffff) = 0
7 no_such_call() = 0x0
8 +++ exited with 0 +++
"""


def test_calls_are_judged_by_their_arguments() -> None:
    assert count_refused(TRACE.splitlines()) == Counter(
        {
            ("clone3", "ENOSYS"): 2,
            ("clone(0x10000011)", "EPERM"): 1,
            ("socket(0x11, 0x80003, 0x3)", "EAFNOSUPPORT"): 1,
            ("ioctl(0x5412)", "EPERM"): 1,
            ("no_such_call", "ENOSYS"): 1,
        }
    )


@pytest.mark.parametrize(("words", "status"), [([], 2), (["--help"], 0), (["-h"], 0), (["--nosuch"], 2)])
def test_words_that_are_no_command_are_answered_with_its_use(
    words: list[str], status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["refused_calls.py", *words])
    assert refused_calls.main() == status
    said = capsys.readouterr()
    assert (said.out or said.err).startswith("List the system calls of a command")
