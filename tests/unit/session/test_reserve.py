"""The room for a session's end is really taken, and given back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from containai.errors import StateError
from containai.session import reserve
from containai.session.reserve import RESERVED_BYTES, RESERVED_FILES, release_reserve, take_reserve

pytestmark = pytest.mark.user


def test_space_and_files_are_taken_and_given_back(tmp_path: Path) -> None:
    take_reserve(tmp_path)
    held = [path.stat() for path in (tmp_path / reserve.NAME).iterdir()]
    assert len({each.st_ino for each in held}) == RESERVED_FILES
    assert sum(each.st_blocks * 512 for each in held) >= RESERVED_BYTES
    release_reserve(tmp_path)
    assert list(tmp_path.iterdir()) == []
    release_reserve(tmp_path)


def test_a_disk_without_that_room_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reserve, "RESERVED_BYTES", os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize + 1)
    with pytest.raises(StateError) as refused:
        take_reserve(tmp_path)
    assert refused.value.code == "state.no-room"
    assert list(tmp_path.iterdir()) == []
