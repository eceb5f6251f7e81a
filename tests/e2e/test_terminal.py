"""The user's terminal: what the agent does to it does not hide what ContainAI says afterwards."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess

import pytest

from tests.support.product import Product

pytestmark = [pytest.mark.user, pytest.mark.usefixtures("nothing_left")]


def on_a_terminal(product: Product, script: str, *, whole: bool) -> bytes:
    """What the terminal gets of a session. Not ``whole``: standard input and output go elsewhere."""
    ours, theirs = pty.openpty()
    other = theirs if whole else subprocess.DEVNULL
    child = subprocess.Popen(
        product.argv("run", "--network-proxy", "none", "--", "sh", "-c", script),
        cwd=product.repository, stdin=other, stdout=other, stderr=theirs, env={**product.environment, "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    printed = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while chunk := os.read(ours, 65536):
            printed += chunk
    os.close(ours)
    assert child.wait(60) == 0, printed
    return printed


@pytest.mark.parametrize("whole", [True, False])
def test_an_order_that_the_agent_did_not_finish_is_ended_before_our_own_words(product: Product, whole: bool) -> None:
    printed = on_a_terminal(product, r"printf 'last words\033]0;' >&2", whole=whole)
    agents, _, ours = printed.partition(b"last words\x1b]0;")
    assert b"branch shell/session-1" in agents
    assert ours.startswith(b"\x18\x1b\\")
    assert ours.index(b"\x1b[0m") < ours.index(b"bringing the work home")


def test_after_plain_words_the_terminal_gets_no_order(product: Product) -> None:
    printed = on_a_terminal(product, "echo last words", whole=True)
    assert b"last words\r\n\x1b[2mcontainai: bringing the work home" in printed


def test_the_name_of_the_users_branch_is_no_order_either(product: Product) -> None:
    """Git allows in it what some terminals obey; who clones has a branch of the remote's naming."""
    product.git("switch", "-q", "-c", "x\u009b31mred\u202e")
    ran = product.command("run", "--network-proxy", "none", "--use-current-branch", "--", "sh", "-c", "echo 1 > f")
    assert ran.status == 0, ran.stderr
    assert ran.stderr.count(r"x\x9b31mred\x202e") == 2  # where it works, where the work is
    assert "\u009b" not in ran.stderr
    assert "\u202e" not in ran.stderr
