"""When a session is taken for one that fills the disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from containai.errors import ContainaiError
from containai.host.cgroups import Freezer
from containai.host.holdings import Holdings
from containai.host.measure import Measured
from containai.session import disk
from containai.session.disk import RESERVE_BYTES, DiskGuard, Space
from containai.session.reserve import take_reserve

pytestmark = pytest.mark.user
MIB = 1024 * 1024
GIB = 1024 * MIB
MANY = 10_000_000


class Disk:
    """A disk that is looked at, and a session that is measured: each time the next of what is given, then the last."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        free: list[int | Space],
        used: list[int | Space],
        *,
        hidden: str = "",
        unlinked: int = 0,
        unseen: bool = False,
        vanishing: int = 0,
        still: int | None = None,
        stops: bool = True,
    ) -> None:
        self.free = [each if isinstance(each, Space) else Space(bytes=each, files=MANY) for each in free]
        self.used = [each if isinstance(each, Space) else Space(bytes=each, files=10) for each in used]
        self.hidden, self.unlinked, self.unseen = hidden, unlinked, unseen
        self.vanishing = vanishing  # so many times something vanishes
        self.still, self.stops = still, stops  # what is found while nothing moves; whether it can be had so
        self.is_still, self.stopped = False, 0
        self.measured = self.looks = 0
        self.often = threading.Event()
        monkeypatch.setattr(disk, "_INTERVAL_S", 0.005)
        monkeypatch.setattr(disk, "_PAUSE_FACTOR", 0)
        monkeypatch.setattr(disk, "free_space", self._free)
        monkeypatch.setattr(disk, "total_files", lambda _: MANY)
        monkeypatch.setattr(disk, "measure_trees", self._measure)
        monkeypatch.setattr(
            disk, "look", lambda *_: Holdings(unlinked_bytes=self.unlinked, locks=0, whole=not self.unseen)
        )

    @contextmanager
    def frozen(self) -> Iterator[bool]:
        """In the place of ``Freezer``."""
        self.stopped += 1
        self.is_still = self.stops
        yield self.stops
        self.is_still = False

    def _free(self, _: Path) -> Space:
        self.looks += 1
        if self.looks > 40:
            self.often.set()
        return self.free.pop(0) if len(self.free) > 1 else self.free[0]

    def _measure(self, _: object, *, files: bool = False, **__: object) -> Measured:
        if not files:
            self.measured += 1
        if self.is_still and self.still is not None:
            return Measured(count=10 if files else self.still)
        found = self.used[min(self.measured, len(self.used)) - 1]
        self.vanishing -= 1
        vanished = int(self.vanishing >= 0)
        return Measured(count=found.files if files else found.bytes, hidden=self.hidden, vanished=vanished)


def watched(tmp_path: Path, looks: Disk, *, most: int = 800 * MIB, reserve_bytes: int = RESERVE_BYTES) -> str:
    """What the guard said; nothing if it was still content after the disk had been looked at often."""
    said: list[ContainaiError] = []

    def fail(error: ContainaiError) -> None:
        said.append(error)
        looks.often.set()

    freezer = None if looks.still is None else cast("Freezer", looks)
    guard = DiskGuard(tmp_path, tmp_path, os.getpid(), most, fail, reserve_bytes=reserve_bytes, freezer=freezer)
    guard.start()
    assert looks.often.wait(60)
    guard.stop()
    assert all(error.code == "workspace.disk" for error in said)
    return said[0].details if said else ""


def test_a_session_beyond_its_limit_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Disk(monkeypatch, [50 * GIB, 49 * GIB], [900 * MIB])
    assert "943,718,400 bytes" in watched(tmp_path, looks)


def test_a_file_without_a_name_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Disk(monkeypatch, [50 * GIB, 49 * GIB], [10 * MIB], unlinked=900 * MIB)
    assert "954,204,160 bytes" in watched(tmp_path, looks)


def test_all_of_a_session_counts_but_what_is_kept_for_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its log too: an agent can make it grow."""
    monkeypatch.setattr(disk, "look", lambda *_: Holdings(unlinked_bytes=0, locks=0, whole=True))
    (tmp_path / "workspace").mkdir()
    (tmp_path / "workspace/made").write_bytes(b"x" * MIB)
    (tmp_path / "events.jsonl").write_bytes(b"x" * 3 * MIB)
    take_reserve(tmp_path)
    guard = DiskGuard(tmp_path, tmp_path / "workspace", os.getpid(), GIB, lambda _: None)
    held = guard._measure(1e12, with_files=True)
    assert 4 * MIB <= held.bytes < 5 * MIB
    assert (held.files, held.hidden) == (3, "")


def test_what_others_write_is_measured_and_not_held_against_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Disk(monkeypatch, [50 * GIB, 50 * GIB, 50 * GIB, 40 * GIB], [10 * MIB])
    assert watched(tmp_path, looks) == ""
    assert looks.measured == 2  # once at the beginning


def test_little_is_not_even_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Disk(monkeypatch, [50 * GIB, 50 * GIB - 90 * MIB], [10 * MIB])
    assert watched(tmp_path, looks) == ""
    assert looks.measured == 1


def test_room_that_others_make_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free: list[int | Space] = [10 * GIB, 10 * GIB, 10 * GIB, 20 * GIB, 19 * GIB]
    looks = Disk(monkeypatch, free, [10 * MIB, 900 * MIB])
    assert "943,718,400 bytes" in watched(tmp_path, looks)


@pytest.mark.parametrize(("used", "ended"), [(100 * MIB, True), (10 * MIB, False)])
def test_the_last_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, used: int, ended: bool) -> None:
    looks = Disk(monkeypatch, [600 * MIB, 500 * MIB], [used])
    assert ("left" in watched(tmp_path, looks, most=20 * GIB)) is ended


@pytest.mark.parametrize(("left", "ended"), [(100 * MIB, False), (60 * MIB, True)])
def test_who_commits_the_work_may_use_what_is_kept_free_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int, ended: bool
) -> None:
    looks = Disk(monkeypatch, [600 * MIB, left], [400 * MIB])
    assert ("left" in watched(tmp_path, looks, most=20 * GIB, reserve_bytes=64 * MIB)) is ended


def test_a_large_clone_has_not_taken_the_last_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int | Space] = [10 * GIB, 10 * GIB, 10 * GIB]
    assert watched(tmp_path, Disk(monkeypatch, [*begun, 400 * MIB], [9 * GIB]), most=20 * GIB) == ""
    grown = Disk(monkeypatch, [*begun, 400 * MIB], [9 * GIB, 9 * GIB + 65 * MIB])
    assert "has taken 68,157,440" in watched(tmp_path, grown, most=20 * GIB)


def test_a_disk_that_was_nearly_full_before_is_nobodys_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Disk(monkeypatch, [400 * MIB, 390 * MIB], [300 * MIB])
    assert watched(tmp_path, looks, most=20 * GIB) == ""


@pytest.mark.parametrize("how", [{"hidden": "shut"}, {"unseen": True}])
def test_what_cannot_be_seen_is_held_against_it_once_so_much_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, bool]
) -> None:
    begun: list[int | Space] = [50 * GIB, 50 * GIB, 50 * GIB]
    assert watched(tmp_path, Disk(monkeypatch, [*begun, 50 * GIB - 200 * MIB], [MIB], **how)) == ""  # type: ignore[arg-type]
    assert "has lost" in watched(tmp_path, Disk(monkeypatch, [*begun, 49 * GIB], [MIB], **how))  # type: ignore[arg-type]
    scarce = Disk(monkeypatch, [600 * MIB, 500 * MIB], [MIB], **how)  # type: ignore[arg-type]
    assert "bytes left" in watched(tmp_path, scarce, most=20 * GIB)


def test_names_that_vanish_each_time_are_held_against_it_once_so_much_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is renamed while it is measured is not counted; what a build deletes neither."""
    begun: list[int | Space] = [50 * GIB] * 5
    room = Disk(monkeypatch, [*begun, 50 * GIB - 200 * MIB], [MIB], vanishing=MANY)
    assert watched(tmp_path, room) == ""
    assert room.measured == 2  # and not again and again
    assert "names in it vanish" in watched(tmp_path, Disk(monkeypatch, [*begun, 49 * GIB], [MIB], vanishing=MANY))
    scarce = Disk(monkeypatch, [600 * MIB, 600 * MIB, 500 * MIB], [MIB], vanishing=MANY)
    assert "names in it vanish" in watched(tmp_path, scarce, most=20 * GIB)
    # Two looks at the beginning, for bytes and files; then two of three in which something vanishes.
    assert watched(tmp_path, Disk(monkeypatch, [*begun, 49 * GIB], [MIB], vanishing=4)) == ""
    seen_once = Disk(monkeypatch, [*begun, 49 * GIB], [MIB, MIB, 900 * MIB, MIB], vanishing=MANY)
    assert "943,718,400 bytes" in watched(tmp_path, seen_once)


def test_what_is_hidden_from_a_look_is_found_while_nothing_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exchanged for something else in step with the measurement, nothing of it vanishes."""
    begun: list[int | Space] = [50 * GIB] * 3
    assert watched(tmp_path, Disk(monkeypatch, [*begun, 49 * GIB], [MIB])) == ""
    assert "943,718,400 bytes" in watched(tmp_path, Disk(monkeypatch, [*begun, 49 * GIB], [MIB], still=900 * MIB))
    scarce = Disk(monkeypatch, [600 * MIB, 600 * MIB, 500 * MIB], [MIB], still=100 * MIB)
    assert "bytes left" in watched(tmp_path, scarce, most=20 * GIB)
    large = Disk(monkeypatch, [*begun, 50 * GIB - 200 * MIB], [700 * MIB], still=900 * MIB)  # a clone, and what is gone
    assert "943,718,400 bytes" in watched(tmp_path, large)


def test_nobody_is_stopped_who_cannot_have_taken_so_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int | Space] = [50 * GIB] * 3
    room = Disk(monkeypatch, [*begun, 50 * GIB - 200 * MIB], [MIB], still=MIB)
    assert watched(tmp_path, room) == ""
    assert (room.measured, room.stopped) == (2, 0)
    neighbours = Disk(monkeypatch, [*begun, 49 * GIB], [MIB], still=MIB)
    assert watched(tmp_path, neighbours) == ""
    assert neighbours.stopped == 1  # until more is gone


def test_who_cannot_be_stopped_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is slow keeps one from stopping; a session that sees to it is not believed for ever."""
    free: list[int | Space] = [50 * GIB] * 4
    once = Disk(monkeypatch, [*free, 49 * GIB], [MIB], still=MIB, stops=False)
    assert watched(tmp_path, once) == ""
    assert once.stopped == 1
    free += [49 * GIB - n * 200 * MIB for n in range(20)]
    again = Disk(monkeypatch, free, [MIB], still=MIB, stops=False)
    assert "its processes cannot be stopped" in watched(tmp_path, again)
    assert again.stopped == 3


def test_a_first_look_that_is_cut_short_is_not_taken_for_what_there_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is known to have been there: then only what is gone since it began can have been taken."""

    class Slow(Disk):
        def _measure(self, _: object, *, files: bool = False, **__: object) -> Measured:
            found = super()._measure(_, files=files)
            return Measured(count=0, hidden="it takes too long to measure") if self.measured == 1 else found

    begun: list[int | Space] = [600 * MIB, 600 * MIB, 600 * MIB]
    kept = Slow(monkeypatch, [*begun, 600 * MIB, 400 * MIB], [300 * MIB])
    # 200 MiB are gone, and it holds 300: which of them were there is not known.
    assert "has taken 209,715,200" in watched(tmp_path, kept, most=20 * GIB)
    neighbours = Slow(monkeypatch, [*begun, 600 * MIB, 500 * MIB], [300 * MIB, 20 * MIB])
    assert watched(tmp_path, neighbours, most=20 * GIB) == ""


def test_a_first_look_is_waited_for_while_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Disk(monkeypatch, [50 * GIB], [MIB])
    asked: list[bool] = []

    def slow(*_: object, give_up: Callable[[], bool], **__: object) -> Measured:
        asked.append(give_up())
        return Measured(count=MIB)

    monkeypatch.setattr(disk, "measure_trees", slow)
    monkeypatch.setattr(disk, "_URGENT_S", -1.0)
    assert watched(tmp_path, looks) == ""
    assert asked == [False, False]
    looks = Disk(monkeypatch, [600 * MIB, 500 * MIB], [MIB])
    monkeypatch.setattr(disk, "measure_trees", slow)
    watched(tmp_path, looks, most=20 * GIB)
    assert asked[-1]


@pytest.mark.parametrize(("made", "ended"), [(5_000, True), (100, False)])
def test_the_last_files_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: int, ended: bool) -> None:
    def free(files: int) -> Space:
        return Space(bytes=50 * GIB, files=files)

    looks = Disk(monkeypatch, [free(20_000), free(20_000), free(20_000), free(9_000)], [Space(bytes=MIB, files=30_000)])
    looks.used.append(Space(bytes=MIB, files=30_000 + made))
    assert ("room for 9,000 files" in watched(tmp_path, looks)) is ended


def test_a_measurement_that_keeps_failing_ends_the_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Disk(monkeypatch, [50 * GIB], [MIB])
    said: list[ContainaiError] = []
    ended = threading.Event()

    def fail(error: ContainaiError) -> None:
        said.append(error)
        ended.set()

    def no_descriptor(*_: object, **__: object) -> Measured:
        raise OSError("Too many open files")

    monkeypatch.setattr(disk, "measure_trees", no_descriptor)
    guard = DiskGuard(tmp_path, tmp_path, os.getpid(), GIB, fail)
    guard.start()
    assert ended.wait(60)
    guard.stop()
    assert [error.code for error in said] == ["workspace.unseen"]
    assert "Too many open files" in said[0].details
