"""A user with a repository, for tests that go through the ``containai`` command."""

from __future__ import annotations

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
def nothing_left() -> object:
    """Fails a test after which a process, mount or control group is there that was not before."""
    before = host_traces()
    yield
    after = host_traces()
    left = {kind: after[kind] - before[kind] for kind in after}
    assert not any(left.values()), f"left behind: {left}"
