"""SIGKILL of any part at any moment: what was committed is on a branch of the user's, and his repository is whole."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tests.support.moments import (
    WORK,
    Moment,
    Watched,
    kill,
    repository_leftovers,
    state_of,
    wait_for,
)
from tests.support.product import Product, host_traces

pytestmark = [pytest.mark.user, pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(180)]

NET = ("--network-proxy", "none")
STAY = f"{WORK}sleep 1000"


def event(name: str, count: int = 1) -> Moment:
    """Once this event is in the log so many times."""
    return lambda w: w.events().count(name) >= count


def in_phase(name: str) -> Moment:
    """Once the record says so."""
    return lambda w: w.phase() == name


def process(*words: str) -> Moment:
    """Once such a process runs below the launcher."""
    return lambda w: bool(w.processes(*words))


def file(name: str) -> Moment:
    """Once the session's directory has this file."""
    return lambda w: w.has(name)


def made(count: int) -> Moment:
    """Once the agent has noted so many commits."""
    return lambda w: len(w.made) >= count


def branch_moved(w: Watched) -> bool:
    """Once the host's branch has a commit of the agent's."""
    return bool(w.branch()) and w.branch() != w.product.git("rev-parse", "main")


def check(product: Product, watched: Watched, *, torn_pack: bool = False, empty_lock: bool = False) -> None:
    """After a crash: recover, and everything is as it must be.

    Args:
        empty_lock: Git was killed while it moved a branch. A lock into which it had not written yet may be a living
            git's for all that anybody knows, and stays; the work stands beside it.
        torn_pack: Git was killed while it wrote a pack into the host repository; it leaves a file that its own
            housekeeping removes.
    """
    deadline = time.monotonic() + 20
    while found := host_traces()["processes"] - BEFORE:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    recovered = product.command("recover")
    assert recovered.status == 0, recovered.stderr
    for commit in watched.commits():
        holders = product.git("for-each-ref", "--contains", commit, "refs/heads", check=False)
        assert holders, f"{commit} is on no branch; {recovered} {watched.phase()} {watched.events()}"
    if "all" in watched.made:
        assert any(product.git("show", f"{b}:left", check=False) == "left" for b in product.branches())
    assert product.git("fsck", "--strict", "--no-dangling") == ""
    if torn_pack:
        assert all("/objects/pack/tmp_" in path for path in repository_leftovers(product.repository))
        product.git("prune", "--expire=now")
    if empty_lock:
        for path in map(Path, repository_leftovers(product.repository)):
            assert (path.name, path.stat().st_size) == ("session-1.lock", 0)
            path.unlink()
    assert repository_leftovers(product.repository) == []
    assert not list(product.sessions.glob("*/workspace"))
    before = state_of(product)
    again = product.command("recover")
    assert (again.status, again.stdout) == (0, "")
    assert state_of(product) == before


BEFORE = host_traces()["processes"]


def start(product: Product, script: str, *options: str) -> Watched:
    """A session, watched."""
    return Watched(product=product, child=product.start(script, *options))


def end(child: subprocess.Popen[bytes]) -> None:
    """Wait for its end and close its pipes."""
    child.communicate(timeout=90)


LAUNCHER: dict[str, tuple[str, Moment]] = {
    "directory": (WORK, lambda w: w.path is not None),
    "branch reserved": (WORK, lambda w: bool(w.branch())),
    "record": (WORK, in_phase("creating")),
    "configuration logged": (WORK, event("session-config")),
    "quarantine": (WORK, file("return.git/HEAD")),
    "seed": (WORK, file("workspace/.git/objects/pack")),
    "workspace ready": (WORK, event("workspace-ready")),
    "started": (WORK, event("started")),
    "running": (STAY, in_phase("running")),
    "first commit": (STAY, made(1)),
    "first push": (STAY, event("push")),
    "all made": (STAY, made(4)),
    "agent ended": (WORK, event("agent-ended")),
    "returning": (WORK, in_phase("returning")),
    "last push": (WORK, event("push", 2)),
    "branch moved": (WORK, branch_moved),
    "branch logged": (WORK, event("git-return")),
    "returned": (WORK, event("returned")),
    "session end": (WORK, event("session-end")),
    "ended": (WORK, in_phase("ended")),
}
SLOW = {
    "record",
    "running",
    "first commit",
    "branch reserved",
    "configuration logged",
    "quarantine",
    "started",
    "first push",
    "branch logged",
    "ended",
}


def _cases(names: dict[str, tuple[str, Moment]]) -> list[object]:
    return [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in names]


@pytest.mark.parametrize("moment", _cases(LAUNCHER))
def test_the_launcher_is_killed(product: Product, moment: str) -> None:
    script, come = LAUNCHER[moment]
    watched = start(product, script, *NET)
    assert wait_for(watched, come), "the session ended without this moment"
    watched.look()
    kill(watched.child.pid)
    end(watched.child)
    check(product, watched)


@pytest.mark.parametrize(
    ("words", "come"),
    [
        pytest.param(("containai-shim",), made(3), id="shim"),
        pytest.param(("bwrap",), made(3), id="bwrap"),
        pytest.param(("sleep", "1000"), made(4), id="agent's program"),
        pytest.param(("-c", "urandom"), made(2), id="agent"),
        pytest.param(("squid",), made(3), id="squid"),
    ],
)
def test_a_part_of_the_running_session_is_killed(product: Product, words: tuple[str, ...], come: Moment) -> None:
    """The launcher lives: it ends the session, and returns the work itself."""
    watched = start(product, STAY, *(() if words == ("squid",) else NET))
    assert wait_for(watched, come)
    assert wait_for(watched, process(*words))
    assert [kill(pid) for pid in reversed(watched.processes(*words))]
    if words == ("squid",):  # the agent may go on, without a way out
        assert wait_for(watched, event("proxy-failed"))
        watched.child.terminate()
    wait_for(watched, lambda w: False)
    end(watched.child)
    assert "session-end" in watched.events()
    check(product, watched)


RETURN_PARTS: dict[str, tuple[Moment, tuple[str, ...]]] = {
    "finish's bwrap": (event("agent-ended"), ("bwrap",)),
    "finish's shell": (event("agent-ended"), ("containai-finish",)),
    "finish's push": (event("agent-ended"), ("git push",)),
    "receiving git": (event("agent-ended"), ("git", "receive-pack")),
    "check of the push": (event("agent-ended"), ("git", "index-pack")),
    "transfer": (event("push", 2), ("git", "index-pack")),
    "move of the branch": (event("push", 2), ("git", "update-ref")),
}


@pytest.mark.parametrize("part", RETURN_PARTS)
def test_a_part_of_the_return_is_killed(product: Product, part: str) -> None:
    """Processes of a few milliseconds: after one that was too quick for the watcher another session is tried."""
    come, words = RETURN_PARTS[part]
    hit = False
    for _ in range(8):
        watched = start(product, WORK, *NET)
        assert wait_for(watched, come)
        if wait_for(watched, process(*words)):
            for pid in watched.processes(*words):
                hit = kill(pid) or hit
        wait_for(watched, lambda w: False)
        end(watched.child)
        check(product, watched, torn_pack=part == "transfer", empty_lock=part == "move of the branch")
        if hit:
            break
        product.git("branch", "-D", "shell/session-1")
    assert hit


@pytest.mark.parametrize("ours", [True, False])
def test_a_lock_that_a_killed_git_left_keeps_nothing_from_coming_home(product: Product, ours: bool) -> None:
    """Git writes the new value into the lock: so it shows whether it is the session's own."""
    watched = start(product, STAY, *NET)
    assert wait_for(watched, lambda w: len(w.made) == 4 and "push" in w.events())
    kill(watched.child.pid)
    end(watched.child)
    interrupted = subprocess.Popen(
        product.argv("recover"), cwd=product.repository, env=product.environment, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    watched.child = interrupted
    assert wait_for(watched, event("push", 2))  # the last commit is made; moving the branch is next
    kill(interrupted.pid)
    end(interrupted)
    returned = watched.path and (watched.path / "return.git/refs/heads/shell/session-1").read_text()
    lock = product.repository / ".git/refs/heads/shell/session-1.lock"
    lock.write_text(returned if ours and returned else "")
    recovered = product.command("recover")
    assert recovered.status == 0, recovered.stderr
    assert product.git("show", f"shell/session-1{'' if ours else '-2'}:left") == "left"
    assert lock.exists() != ours  # another one may be a living git's
    lock.unlink(missing_ok=True)
    check(product, watched)


RECOVER: dict[str, Moment] = {
    "begun": event("recovered"),
    "finish": process("containai-finish"),
    "last push": event("push", 2),
    "branch moved": branch_moved,
    "returned": event("returned"),
}


@pytest.mark.parametrize("moment", RECOVER)
def test_recover_is_killed(product: Product, moment: str) -> None:
    watched = start(product, STAY, *NET)
    assert wait_for(watched, made(4))
    watched.look()
    kill(watched.child.pid)
    end(watched.child)
    watched.child = subprocess.Popen(
        product.argv("recover"), cwd=product.repository, env=product.environment, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert wait_for(watched, RECOVER[moment])
    kill(watched.child.pid)
    end(watched.child)
    check(product, watched)
