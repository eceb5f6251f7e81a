"""What a loss of power must not take: content is on the disk before its name is, as the kernel saw the calls."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.support.git import branches, commit, git, make_repository
from tests.support.returning import open_session

pytestmark = [pytest.mark.user, pytest.mark.needs("strace")]

_CALLS = "openat,fsync,fdatasync,rename,renameat,renameat2,link,linkat"
_SYNC = re.compile(r"f(?:data)?sync\(\d+<([^>]*)>\) += 0")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")
_NAME = re.compile(r'(?:rename|link)\w*\((?:AT_FDCWD[^,]*, )?"([^"]*)", (?:AT_FDCWD[^,]*, )?"([^"]*)"')


def _steps(trace: Path) -> list[tuple[str, str]]:
    """("sync", path) and ("name", new name), in the order in which the kernel carried them out."""
    steps = []
    for line in _whole(trace.read_text().splitlines()):
        if sync := _SYNC.search(line):
            steps.append(("sync", sync[1]))
        elif (name := _NAME.search(line)) and "= 0" in line:
            steps.append(("name", name[2]))
    return steps


def _whole(lines: Iterable[str]) -> Iterator[str]:
    """The lines of strace, with a call that another process interrupted put together again where it ended."""
    begun: dict[str, str] = {}
    for line in lines:
        pid = line.partition(" ")[0]
        if line.endswith("<unfinished ...>"):
            begun[pid] = line.removesuffix("<unfinished ...>").rstrip()
        elif resumed := _RESUMED.search(line):
            yield begun.pop(pid) + resumed[1]
        else:
            yield line


def test_an_interrupted_line_of_strace_is_put_together() -> None:
    lines = ["1 fsync(3</a> <unfinished ...>", "2 fsync(4</b>) = 0", "1 <... fsync resumed>)           = 0"]
    assert [_SYNC.search(line)[1] for line in _whole(lines)] == ["/b", "/a"]  # type: ignore[index]


def _traced(tmp_path: Path, code: str) -> list[tuple[str, str]]:
    trace = tmp_path / "trace"
    argv: list[str | Path] = [
        "strace",
        "-f",
        "-y",
        "-s",
        "4096",
        "-e",
        f"trace={_CALLS}",
        "-o",
        trace,
        sys.executable,
        "-c",
        code,
    ]
    environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(tmp_path)}
    done = subprocess.run(argv, env=environment, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return _steps(trace)


def test_a_branch_has_its_content_on_the_disk_before_its_name(tmp_path: Path) -> None:
    host = make_repository(tmp_path / "host")
    new = commit(host, "next", n__txt="n\n")
    git(host, "config", "core.fsync", "none")  # the repository's own choice, for commits that can be made again
    code = f"""
from pathlib import Path
from containai.workspace.refs import create_ref
assert create_ref(Path({os.fspath(host / ".git")!r}), "refs/heads/made", {new!r}, "test") is None
"""
    steps = _traced(tmp_path, code)
    assert branches(host)["made"] == new
    ref = os.fspath(host / ".git" / "refs" / "heads" / "made")
    assert ("sync", f"{ref}.lock") in steps
    assert steps.index(("sync", f"{ref}.lock")) < steps.index(("name", ref))


@pytest.mark.parametrize(("phase", "durable"), [("CREATING", False), ("RETURNING", True), ("ENDED", True)])
def test_a_record_of_the_return_is_durable_when_it_is_written(tmp_path: Path, phase: str, durable: bool) -> None:
    code = f"""
from pathlib import Path
from containai.session.record import Phase, SessionRecord
from containai.session.state import SessionDir
SessionDir(Path({os.fspath(tmp_path)!r})).write(SessionRecord(
    id="s", name="n", agent="a", engine="e", repository="r", git_dir="g", base_commit="b", branch="x", created="now",
    phase=Phase.{phase}, agent_uid=1, agent_gid=1))
"""
    steps = _traced(tmp_path, code)
    record = os.fspath(tmp_path / "record.json")
    named = steps.index(("name", record))
    assert ("sync", os.fspath(tmp_path / "record.new")) in steps[:named]
    assert (("sync", os.fspath(tmp_path)) in steps[named:]) == durable


def test_returned_objects_are_on_the_disk_before_the_branch_that_names_them(tmp_path: Path) -> None:
    session = open_session(make_repository(tmp_path / "host"), tmp_path / "session")
    try:
        session.prepare()
        done = commit(session.workspace, "by the agent", c__txt="three\n")
        session.finish()
        session.server.stop()
        source = session.source
        git(session.host, "config", "core.fsync", "none")
        code = f"""
from pathlib import Path
from containai.git_return.apply import apply_return
from containai.git_return.quarantine import open_quarantine
from containai.plan.model import Source
source = Source(toplevel=Path({os.fspath(source.toplevel)!r}), git_dir=Path({os.fspath(source.git_dir)!r}),
    base_commit={source.base_commit!r}, described="main")
quarantine = open_quarantine(Path({os.fspath(session.quarantine.path)!r}), {session.branch!r}, {source.base_commit!r})
apply_return(source, quarantine, {session.branch!r}, {source.base_commit!r})
"""
        steps = _traced(tmp_path, code)
        assert git(session.host, "rev-parse", session.branch) == done
        moved = steps.index(("name", os.fspath(source.git_dir / "refs" / "heads" / session.branch)))
        packs = [
            n for n, (what, path) in enumerate(steps) if what == "sync" and "/objects/tmp_objdir-containai" in path
        ]
        assert len(packs) >= 2  # the pack and its index
        assert max(packs) < moved
    finally:
        session.close()
