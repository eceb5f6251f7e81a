"""What several tests of a session's end begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.git import make_repository
from tests.support.returning import Session, open_session


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    opened = open_session(make_repository(tmp_path / "host"), tmp_path / "session")
    opened.prepare()
    yield opened
    opened.close()
