"""A user with a repository, for tests that go through the ``containai`` command."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.product import Product, host_traces, make_repository


@pytest.fixture
def product(tmp_path: Path) -> Product:
    """A home and a repository with one commit on ``main``."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    make_repository(tmp_path / "my repo")
    return Product(home=home, repository=tmp_path / "my repo")


@pytest.fixture
def nothing_left(product: Product) -> Iterator[None]:
    """Fails a test after which a process, mount or control group stays that was not there before."""
    before = host_traces()
    yield
    deadline = time.monotonic() + 3
    while left := {kind: found - before[kind] for kind, found in host_traces().items() if found - before[kind]}:
        if time.monotonic() > deadline:
            raise AssertionError(f"left behind: {left}")
        time.sleep(0.1)
    # os.walk passes over what an agent made too deep to be opened by its name.
    assert not [name for _, _, names in os.walk(product.home) for name in names if name.endswith(".new")]
