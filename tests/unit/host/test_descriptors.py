"""The launcher may open many files, whatever its shell allowed."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.user
CODE = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
from containai.host.descriptors import allow_many, allowed
allow_many()
print(*resource.getrlimit(resource.RLIMIT_NOFILE), allowed())
"""


@pytest.mark.parametrize(("soft", "hard", "then"), [(256, 4096, 4096), (256, 10000, 8192), (9000, 10000, 9000)])
def test_the_soft_limit_is_raised_as_far_as_it_may(soft: int, hard: int, then: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(soft=soft, hard=hard)], capture_output=True, timeout=30, check=True
    )
    assert list(map(int, done.stdout.split())) == [then, hard, then]
