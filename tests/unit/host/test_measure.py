"""What trees take, whatever is in them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from containai.host.measure import measure_trees

pytestmark = pytest.mark.user
MIB = 1024 * 1024


def test_a_tree_is_measured_as_the_disk_sees_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 3 * MIB)
    (tmp_path / "again").hardlink_to(tmp_path / "a")
    with open(tmp_path / "hole", "wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "link").symlink_to("/usr")
    found = measure_trees([tmp_path], timeout_s=60)
    assert 3 * MIB <= found.count < 4 * MIB
    assert found.hidden == ""


def test_files_are_counted(tmp_path: Path) -> None:
    for tree in ("one", "two"):
        (tmp_path / tree).mkdir()
        for number in range(50):
            (tmp_path / tree / str(number)).touch()
    found = measure_trees([tmp_path / "one", tmp_path / "two"], timeout_s=60, files=True)
    assert (found.count, found.hidden) == (102, "")


@pytest.fixture
def shut(tmp_path: Path) -> Iterator[Path]:
    """A folder that its owner cannot enter, with a file in it."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "big").write_bytes(b"x" * MIB)
    (tmp_path / "d").chmod(0)
    yield tmp_path
    (tmp_path / "d").chmod(0o700)


def test_a_folder_that_is_shut_is_told(shut: Path) -> None:
    found = measure_trees([shut], timeout_s=60)
    if os.geteuid() == 0:
        assert found.count >= MIB
        assert found.hidden == ""
    else:
        assert found.count < MIB
        assert found.hidden == "part of it cannot be measured: Permission denied"


def test_what_vanishes_meanwhile_is_nothing_hidden(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * MIB)
    found = measure_trees([tmp_path / "a", tmp_path / "gone"], timeout_s=60)
    assert found.count >= MIB
    assert found.hidden == ""


def test_it_is_given_up_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ``du`` that does not come to its end."""
    (tmp_path / "du").write_text("#!/bin/sh\nexec sleep 600\n")
    (tmp_path / "du").chmod(0o755)
    spawned = []
    from containai.host import measure

    spawn = measure.process.spawn
    monkeypatch.setattr(
        measure.process,
        "spawn",
        lambda argv, **how: spawned.append(spawn([tmp_path / "du", *argv[1:]], **how)) or spawned[0],
    )
    found = measure_trees([tmp_path], timeout_s=600, give_up=lambda: True)
    assert (found.count, found.hidden) == (0, "it takes too long to measure")
    assert spawned[0].poll() is not None


def test_one_that_says_nothing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from containai.host import measure

    spawn = measure.process.spawn
    monkeypatch.setattr(measure.process, "spawn", lambda argv, **how: spawn(["false"], **how))
    with pytest.raises(OSError, match="said nothing"):
        measure_trees([tmp_path], timeout_s=60)
    monkeypatch.setattr(measure.process, "spawn", lambda argv, **how: spawn(["/nowhere/du"], **how))
    with pytest.raises(OSError, match="No such file"):
        measure_trees([tmp_path], timeout_s=60)
