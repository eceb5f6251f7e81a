"""A guard that cannot look any more ends the session."""

from __future__ import annotations

import os
import threading

import pytest

from containai.errors import ContainaiError, WorkspaceError
from containai.session.lookout import Lookout

pytestmark = pytest.mark.user


def blind(why: str) -> ContainaiError:
    return WorkspaceError("nothing is seen", code="workspace.unseen", details=why)


@pytest.mark.parametrize(
    ("error", "looks"), [(MemoryError(), 1), (RuntimeError("can't start new thread"), 1), (OSError("none"), 3)]
)
def test_whatever_goes_wrong_in_a_look_ends_the_session(error: Exception, looks: int) -> None:
    """No memory too, which an agent may bring about."""
    looked: list[int] = []
    said: list[ContainaiError] = []
    ended = threading.Event()

    def look() -> ContainaiError | None:
        looked.append(1)
        raise error

    def fail(why: ContainaiError) -> None:
        said.append(why)
        ended.set()

    guard = Lookout("guard", os.getpid(), 0.005, look, fail, blind)
    guard.start()
    assert ended.wait(60)
    guard.stop()
    assert (len(looked), len(said)) == (looks, 1)
    assert str(error) in said[0].details
    assert said[0].code == "workspace.unseen"
