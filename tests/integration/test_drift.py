"""The drift check on real containers: bubblewrap is told to leave something out, and nothing of the agent's runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.product import Product, make_repository

pytestmark = [pytest.mark.user]

# Run in a process of its own: containai's own code, with one word taken from bubblewrap's arguments.
_WITHOUT = """
import sys
from containai.render import bwrap
taken = sys.argv.pop(1)
words = list(bwrap.ISOLATION)
words.remove(taken)
bwrap.ISOLATION = tuple(words)
from containai.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("taken", ["--unshare-ipc", "--unshare-uts", "--unshare-cgroup", "--unshare-net"])
def test_a_namespace_that_is_left_out_is_found_before_the_agent_runs(tmp_path: Path, taken: str) -> None:
    make_repository(tmp_path / "repo")
    (tmp_path / "home").mkdir()
    product = Product(home=tmp_path / "home", repository=tmp_path / "repo")
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT, taken, "run", "--", "sh", "-c", "echo ran > f"],
        cwd=product.repository,
        env=product.environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    said = done.stderr.decode()
    assert done.returncode == 125, said
    assert "error[engine." in said
    assert product.branches() == ["main"]
    assert not list(product.sessions.glob("*"))
