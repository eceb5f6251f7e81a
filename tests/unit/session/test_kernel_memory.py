"""When a session is taken for one that takes the kernel's memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from containai.session import kernel_memory
from containai.session.kernel_memory import MOST_FILTERS, KernelMemoryGuard

pytestmark = pytest.mark.user
MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("mapped", "filters", "ended"),
    [
        pytest.param([100 * MIB, 300 * MIB], MOST_FILTERS + 1, True, id="many, and so much is gone"),
        pytest.param([100 * MIB, 300 * MIB], MOST_FILTERS, False, id="others have taken it"),
        pytest.param([100 * MIB, 150 * MIB], MOST_FILTERS + 1, False, id="many small ones"),
        pytest.param([300 * MIB, 100 * MIB, 200 * MIB], MOST_FILTERS + 1, True, id="others gave some back before"),
    ],
)
def test_filters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mapped: list[int], filters: int, *, ended: bool
) -> None:
    monkeypatch.setattr(kernel_memory, "mapped_kernel_bytes", lambda: mapped.pop(0))
    monkeypatch.setattr(kernel_memory, "count_filters", lambda *_: filters)
    guard = KernelMemoryGuard(os.getpid(), tmp_path, 1 << 30, lambda _: None)
    said = [guard._look_at_filters() for _ in range(len(mapped))]
    assert [error is not None for error in said] == [False] * (len(said) - 1) + [ended]
    assert not ended or "seccomp filters" in said[-1].details  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("machine", "own", "ended"), [(5000, 3000, True), (5000, 2000, False), (4000, 3000, False)]
)  # of 16000
def test_orphans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: int, own: int, *, ended: bool) -> None:
    monkeypatch.setattr(kernel_memory, "most_orphans", lambda: 16000)
    monkeypatch.setattr(kernel_memory, "orphans_of_the_machine", lambda: machine)
    monkeypatch.setattr(kernel_memory, "orphans_of", lambda _, most: min(own, most + 1))
    guard = KernelMemoryGuard(os.getpid(), tmp_path, 1 << 30, lambda _: None)
    said = guard._look_at_orphans()
    assert (said is not None) is ended
    assert said is None or "2,000 connections" in said.details
