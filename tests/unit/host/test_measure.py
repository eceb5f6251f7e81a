"""What trees take, whatever is in them."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from containai.host import process
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


def test_what_vanishes_meanwhile_is_counted(tmp_path: Path) -> None:
    """A name of a temporary file, or of a folder with much in it: nobody knows."""
    (tmp_path / "a").write_bytes(b"x" * MIB)
    found = measure_trees([tmp_path / "a", tmp_path / "gone", tmp_path / "too"], timeout_s=60)
    assert found.count >= MIB
    assert (found.hidden, found.vanished) == ("", 2)


def instead_of_du(monkeypatch: pytest.MonkeyPatch, *argv: str | Path) -> list[process.Child]:
    """Another program runs; the children that were started."""
    spawn, spawned = process.spawn, []

    def other(_: object, **how: Any) -> process.Child:
        spawned.append(spawn(list(argv), **how))
        return spawned[-1]

    monkeypatch.setattr(process, "spawn", other)
    return spawned


def test_it_is_given_up_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ``du`` that does not come to its end."""
    children = instead_of_du(monkeypatch, "sleep", "600")
    found = measure_trees([tmp_path], timeout_s=600, give_up=lambda: True)
    assert (found.count, found.hidden) == (0, "it takes too long to measure")
    assert children[0].poll() is not None


def test_it_is_given_up_while_it_complains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instead_of_du(monkeypatch, "sh", "-c", "yes 'du: /x: Permission denied' >&2")
    found = measure_trees([tmp_path], timeout_s=20, give_up=iter([False, False, True]).__next__)
    assert found.hidden == "it takes too long to measure"


def test_complaints_without_end_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flood = "yes 'du: cannot read directory /x: Permission denied' | head -c 50000000 >&2; printf '4096\\ttotal\\n'"
    instead_of_du(monkeypatch, "sh", "-c", flood)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = measure_trees([tmp_path], timeout_s=120)
    assert (found.count, found.hidden) == (4096, "part of it cannot be measured: Permission denied")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 20_000  # KiB


def test_one_that_says_nothing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        instead_of_du(patched, "false")
        with pytest.raises(OSError, match="said nothing"):
            measure_trees([tmp_path], timeout_s=60)
    instead_of_du(monkeypatch, "/nowhere/du")
    with pytest.raises(OSError, match="No such file"):
        measure_trees([tmp_path], timeout_s=60)
