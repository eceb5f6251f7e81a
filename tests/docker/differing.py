"""Sessions whose container is asked for otherwise than it is meant to be, and what they have to come to (I11)."""

from __future__ import annotations

import subprocess
import sys

from tests.support.product import Product

LONG = 300
NET = ("--network-proxy", "none")

# Containai's own code in a process of its own; one function of its engine has its answer changed.
_LAUNCHER = """
import sys
from containai.engine.docker import engine
name, change = sys.argv.pop(1), sys.argv.pop(1)
original = getattr(engine, name)
def changed(*args, **kwargs):
    body = original(*args, **kwargs)
    host = body["HostConfig"]
    exec(change)
    return body
setattr(engine, name, changed)
from containai.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def assert_never_runs(product: Product, function: str, change: str, said: str) -> None:
    """A session with that change is refused in these words, and leaves nothing behind."""
    words = ["run", "--engine", "docker", *NET, "--", "sh", "-c", "echo ran > f"]
    done = subprocess.run(
        [sys.executable, "-c", _LAUNCHER, function, change, *words],
        cwd=product.repository, env=product.environment, capture_output=True, timeout=LONG, check=False,
    )  # fmt: skip
    told = done.stderr.decode()
    assert done.returncode == 125, told
    assert "error[engine.drift]" in told
    assert said in told
    assert product.branches() == ["main"]
    assert not list(product.sessions.glob("*"))
