"""The container that was made ahead: it is taken where it still waits, verified then, and replaced where it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest

from containai.engine.protocol import EffectiveConfig, ExitResult, Stdio
from containai.errors import DriftError, EngineError
from containai.plan.model import WORKSPACE, Mount, MountKind
from containai.session import returning
from containai.session.ahead import FinishAhead
from containai.session.housekeeping import PendingChore, _complete
from tests.unit.engine.test_verify import EXPECTED, GOOD, SPEC

pytestmark = pytest.mark.user


class Made:
    """A container, and its making; ``effective`` is what the kernel says about it when it is asked."""

    def __init__(self, effective: EffectiveConfig = GOOD, *, ended: bool = False, fails: bool = False) -> None:
        self.effective, self.ended, self.fails = effective, ended, fails
        self.asked = self.destroyed = self.abandoned = 0

    def complete(self) -> Made:
        if self.fails:
            raise EngineError("no room", code="engine.create")
        return self

    def abandon(self) -> None:
        self.abandoned += 1

    def wait(self, _deadline_s: float | None, _wake_fd: int = -1) -> ExitResult | None:
        return ExitResult(status=137) if self.ended else None

    def inspect(self) -> EffectiveConfig:
        self.asked += 1
        return self.effective

    def engine_drift(self) -> tuple[str, ...]:
        return ()

    def destroy(self) -> None:
        self.destroyed += 1


class Engine:
    """Makes one after the other of what it is given."""

    expectation = EXPECTED

    def __init__(self, *made: Made, makes_ahead: bool = True) -> None:
        self.left, self.makes_ahead = list(made), makes_ahead

    def begin(self, _spec: Any, _stdio: Stdio) -> Made:
        return self.left.pop(0)


def take(*made: Made) -> tuple[bool, Any, Engine]:
    """Have the first made ahead, then take what there is: whether it is that one, the container, and what is unmade."""
    engine: Any = Engine(*made)
    ahead = PendingChore(engine, SPEC)
    assert not made[0].asked
    taken, container = _complete(engine, SPEC, ahead)
    return taken is ahead, container, engine


def test_the_one_that_waits_is_verified_when_it_is_taken() -> None:
    first, second = Made(), Made()
    was_ahead, container, engine = take(first, second)
    assert (was_ahead, container, engine.left) == (True, first, [second])
    assert (first.asked, first.destroyed) == (1, 0)


@pytest.mark.parametrize("first", [Made(fails=True), Made(ended=True)], ids=["never came about", "ended"])
def test_another_takes_its_place_and_is_verified_too(first: Made) -> None:
    second = Made()
    was_ahead, container, engine = take(first, second)
    assert (was_ahead, container, engine.left) == (False, second, [])
    assert (first.destroyed, second.asked) == (int(first.ended), 1)


def test_one_that_differs_from_its_plan_is_destroyed_and_not_quietly_replaced() -> None:
    first, second = Made(replace(GOOD, no_new_privs=False)), Made()
    with pytest.raises(DriftError):
        take(first, second)
    assert (first.destroyed, second.asked, second.destroyed) == (1, 0, 0)


def test_one_that_nobody_takes_is_taken_back() -> None:
    first = Made()
    engine: Any = Engine(first)
    PendingChore(engine, SPEC).abandon()
    assert first.abandoned == 1


@pytest.mark.parametrize(
    ("makes_ahead", "mounted", "begun"),
    [(True, "/tmp", True), (False, "/tmp", False), (True, str(WORKSPACE / "a/b"), False)],
    ids=["where a container costs much", "where it does not", "nothing is mounted where the agent changes links"],
)
def test_when_it_is_made_ahead(monkeypatch: pytest.MonkeyPatch, makes_ahead: bool, mounted: str, begun: bool) -> None:
    mount = Mount(kind=MountKind.TMPFS, target=PurePosixPath(mounted))
    monkeypatch.setattr(returning, "render_finish", lambda *_: replace(SPEC, mounts=(*SPEC.mounts, mount)))
    made = Made()
    engine: Any = Engine(made, makes_ahead=makes_ahead)
    session: Any = SimpleNamespace(plan=SimpleNamespace(plan_sha256=""))
    ahead, awaited = FinishAhead(engine, session), list[int]()
    ahead.begin(lambda: awaited.append(len(engine.left)))
    ahead.abandon()
    assert awaited == ([1] if makes_ahead else [])  # before anything is made; no other engine waits
    assert (engine.left, made.abandoned) == (([], 1) if begun else ([made], 0))
