"""Docker's library, as a launch loads it: its plain client, what it raises, and nothing above them."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.user

_LOOK = """
import sys, warnings
warnings.simplefilter("error")
from containai.host.docker import _library
found = _library()
print(found.client.__name__, found.errors.ImageNotFound.__name__, found.failure.__name__)
print(*sorted({"docker.client", "docker.models", "charset_normalizer", "chardet"} & set(sys.modules)))
import charset_normalizer
"""


def test_a_launch_loads_the_plain_client_alone() -> None:
    done = subprocess.run([sys.executable, "-c", _LOOK], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ["APIClient ImageNotFound RequestException", ""]
    assert done.returncode == 0, done.stderr  # and who wants the other library finds it
