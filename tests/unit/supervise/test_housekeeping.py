"""What the container that finishes a session may execute."""

from __future__ import annotations

import pytest

from containai.supervise.housekeeping import OwnPrograms
from containai.supervise.rules import DENY

pytestmark = pytest.mark.user


@pytest.mark.parametrize(
    ("path", "runs"),
    [
        ("/usr/bin/git", True),
        ("/bin/sed", True),
        ("/usr/lib/git-core/git", True),
        ("/usr/bin/sh", False),
        ("/usr/bin/python3", False),
        ("/workspace/git", False),
        ("/tmp/git", False),
        ("git", False),
        ("./git", False),
        ("/usr/bin/../../workspace/git", False),
        ("/usr/bin/", False),
        ("/usr/lib/git-core/git-remote-ext", False),
        ("/proc/self/exe", False),
        ("/proc/self/root/usr/bin/git", False),
        ("", False),
    ],
)
def test_programs(path: str, runs: bool) -> None:
    assert OwnPrograms("/bin/sh").decide({"path": path, "resolved": "/usr/bin/git"}, -1) == (0 if runs else 1 | DENY)


def test_the_shell_is_executed_once() -> None:
    rule = OwnPrograms("/bin/sh")
    assert [rule.decide({"path": "/bin/sh"}, -1) for _ in range(3)] == [0, 1 | DENY, 1 | DENY]


def test_a_search_goes_on_where_nothing_is() -> None:
    assert OwnPrograms("/bin/sh").decide({"path": "/usr/games/x", "absent": True}, -1) == 0
