"""The text of a review: one thing is said of as one thing."""

from __future__ import annotations

import pytest

from containai.cli.review import _group
from containai.review.model import Trigger

pytestmark = pytest.mark.user


@pytest.mark.parametrize(("count", "words"), [(1, "1 that runs"), (2, "2 that run")])
def test_one_runs_and_two_run(count: int, words: str) -> None:
    triggers = [
        Trigger(digest="d", id=f"id{each}", kind="ci", path="a", why="runs on your CI") for each in range(count)
    ]
    lines = [line for _, line in _group("runs", "run", triggers)]
    assert lines[:2] == [f"Before you merge, {words}", "  ci: runs on your CI"]
    assert [line for line in lines if line.startswith("    id")] == [f"    id{each}  a" for each in range(count)]
