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
