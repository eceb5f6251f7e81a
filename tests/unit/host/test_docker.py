"""Docker's library, as a launch loads it: its plain client, what it raises, and nothing above them."""

from __future__ import annotations

import gc
import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import pytest

from containai.errors import EngineError
from containai.host.docker import Daemon

pytestmark = pytest.mark.user

_LOOK = """
import sys, warnings
warnings.simplefilter("error")
from containai.host.docker import _library
found = _library()
print(found.client.__name__, found.errors.ImageNotFound.__name__, found.failure.__name__)
print(*sorted({"docker.client", "docker.models", "charset_normalizer", "chardet", "inspect", "importlib.metadata"} & set(sys.modules)))
import charset_normalizer
from urllib3 import http2
print(http2.version("urllib3"))
import importlib.metadata
assert importlib.metadata.distribution("docker")
"""


def test_a_launch_loads_the_plain_client_alone() -> None:
    done = subprocess.run([sys.executable, "-c", _LOOK], capture_output=True, text=True, timeout=60, check=False)
    beside = "inspect" if sys.version_info >= (3, 12) else ""  # of importlib.resources, which certifi asks
    assert done.stdout.splitlines() == ["APIClient ImageNotFound RequestException", beside, version("urllib3")]
    assert done.returncode == 0, done.stderr  # and who wants the other libraries finds them


def test_a_daemon_that_is_not_there_is_told_in_words(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the library leaves the socket to the collector
        with pytest.raises(EngineError) as told:
            Daemon(str(tmp_path / "no.sock")).about()
        error = told.value
        said = (error.summary, error.code, error.details, error.remedy)
        del error, told
        gc.collect()
    assert said == (
        f"the daemon behind {tmp_path}/no.sock does not answer",
        "engine.docker",
        "No such file or directory",
        ("containai doctor --engine docker",),
    )
