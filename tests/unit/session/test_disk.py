"""When a workspace is taken for too large."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from containai.errors import ContainaiError
from containai.session import disk
from containai.session.disk import RESERVE_BYTES, DiskGuard, used_bytes

pytestmark = pytest.mark.user
MIB = 1024 * 1024


class Disk:
    """A disk that loses space whenever it is looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free: list[int], used: int | None) -> None:
        self.free, self.measured, self.looks = free, 0, 0
        self.often = threading.Event()
        self.used = used
        monkeypatch.setattr(disk, "_INTERVAL_S", 0.005)
        monkeypatch.setattr(disk, "free_bytes", self._free)
        monkeypatch.setattr(disk, "used_bytes", self._used)

    def _free(self, _: Path) -> int:
        self.looks += 1
        if self.looks > 20:
            self.often.set()
        return self.free.pop(0) if len(self.free) > 1 else self.free[0]

    def _used(self, _: Path) -> int | None:
        self.measured += 1
        return self.used


def watched(tmp_path: Path, *, looks: Disk, most: int = 800 * MIB, reserve_bytes: int = RESERVE_BYTES) -> str:
    """What the guard said; nothing if it was still content after the disk had been looked at often."""
    said: list[ContainaiError] = []

    def fail(error: ContainaiError) -> None:
        said.append(error)
        looks.often.set()

    guard = DiskGuard(tmp_path, most, fail, reserve_bytes=reserve_bytes)
    guard.start()
    assert looks.often.wait(60)
    guard.stop()
    assert all(error.code == "workspace.disk" for error in said)
    return said[0].details if said else ""


GIB = 1024 * MIB


def test_a_workspace_beyond_its_limit_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Disk(monkeypatch, [50 * GIB, 49 * GIB], used=900 * MIB)
    assert "943,718,400 bytes" in watched(tmp_path, looks=looks)


def test_what_others_write_is_measured_and_not_held_against_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Disk(monkeypatch, [50 * GIB, 40 * GIB], used=10 * MIB)
    assert watched(tmp_path, looks=looks) == ""
    assert looks.measured == 1


def test_little_is_not_even_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Disk(monkeypatch, [50 * GIB, 50 * GIB - 90 * MIB], used=900 * MIB)
    assert watched(tmp_path, looks=looks) == ""
    assert looks.measured == 0


@pytest.mark.parametrize(("used", "ended"), [(100 * MIB, True), (None, True), (10 * MIB, False)])
def test_the_last_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, used: int | None, ended: bool) -> None:
    looks = Disk(monkeypatch, [600 * MIB, 500 * MIB], used=used)
    assert ("left" in watched(tmp_path, looks=looks, most=20 * GIB)) is ended


def test_who_commits_the_work_may_use_what_is_kept_free_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Disk(monkeypatch, [600 * MIB, 100 * MIB], used=400 * MIB)
    assert watched(tmp_path, looks=looks, reserve_bytes=64 * MIB) == ""
    looks = Disk(monkeypatch, [600 * MIB, 60 * MIB], used=400 * MIB)
    assert "left" in watched(tmp_path, looks=looks, reserve_bytes=64 * MIB)


def test_a_disk_that_was_nearly_full_before_is_nobodys_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Disk(monkeypatch, [400 * MIB, 390 * MIB], used=300 * MIB)
    assert watched(tmp_path, looks=looks, most=20 * GIB) == ""


def test_a_tree_is_measured_as_the_disk_sees_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 3 * MIB)
    with open(tmp_path / "hole", "wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "link").symlink_to("/usr")
    used = used_bytes(tmp_path)
    assert used is not None
    assert 3 * MIB <= used < 4 * MIB
