"""The demo's account: everything is stopped, and each command that it names works after the demo is over."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest

from tests.support.product import Product


@pytest.mark.user
def test_the_account_and_the_commands_that_it_names(product: Product) -> None:
    done = product.command("demo", timeout_s=110)

    assert done.status == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("stopped  ")]
    assert len(rows) == 15
    assert "GOT THROUGH" not in done.stdout
    assert re.search(r"^ durations\.py +\| 7 \++-$", done.stdout, re.MULTILINE)  # git's own columns
    assert rows[-1].endswith("...")  # what is cut says so
    assert "1 commit on shell/session-1\n" in done.stdout  # no advice about a repository that is gone
    (named,) = re.findall(r"^  Read it: (.*)$", done.stdout, re.MULTILINE)
    # As it stands, in the shell that the demo was started from: nothing of ContainAI is on this PATH.
    log = subprocess.run(
        shlex.split(named), env=product.environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert log.returncode == 0, log.stderr
    assert "exfil.example" in log.stdout
