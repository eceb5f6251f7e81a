"""Exec supervision through the product: what a record says, and that none is missing."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from containai.audit.chain import find_break
from tests.support.product import Product

pytestmark = pytest.mark.user
QUIET = ("--network-proxy", "none")


def execs(product: Product, script: str) -> dict[str, dict[str, Any]]:
    """Exec events of a session by their last argument."""
    ran = product.run(script, *QUIET)
    assert ran.status == 0, ran.stderr
    return {event["argv"][-1]: event for event in product.events(ran, "exec") if event["argv"]}


def test_a_record_says_where_and_what(product: Product) -> None:
    found = execs(
        product,
        "mkdir -p /tmp/d && cp /bin/true /tmp/d/prog && ln -s d/prog /tmp/link\n"
        "cd /tmp/d && ./prog relative; ../link through; /tmp/d/../d/prog dots; cd /; tmp/d/prog other",
    )
    for word, path, cwd in (
        ("relative", "./prog", "/tmp/d"),
        ("through", "../link", "/tmp/d"),
        ("dots", "/tmp/d/../d/prog", "/tmp/d"),
        ("other", "tmp/d/prog", "/"),
    ):
        event = found[word]
        assert (event["path"], event["cwd"], event["resolved"]) == (path, cwd, "/tmp/d/prog")
        assert "absent" not in event
        assert event["parent"] == found["relative"]["parent"]


def test_a_program_that_is_not_there_is_recorded_as_absent(product: Product) -> None:
    found = execs(
        product,
        "mkdir /tmp/a /tmp/b; cp /bin/true /tmp/b/prog; echo > /tmp/a/text\n"
        "PATH=/tmp/a:/tmp/b prog searched; /tmp/a/none gone; /tmp/a/text plain; /tmp/a folder; true",
    )
    assert found["searched"]["resolved"] == "/tmp/b/prog"
    assert "absent" not in found["searched"]
    for word in ("gone", "plain", "folder"):
        assert found[word]["absent"] is True


def test_odd_ways_to_name_a_program(product: Product) -> None:
    found = execs(
        product,
        "cat > /tmp/odd.py <<'E'\n"
        "import os\n"
        "def child(act):\n"
        "    if not (pid := os.fork()):\n"
        "        act()\n"
        "    os.waitpid(pid, 0)\n"
        "fd = os.open('/bin/true', os.O_RDONLY)\n"
        "child(lambda: os.execve(fd, ['x', 'descriptor'], {}))\n"
        "child(lambda: os.execv('/proc/self/root/bin/true', ['x', 'magic']))\n"
        "child(lambda: os.execv(f'/proc/self/fd/{fd}', ['x', 'numbered']))\n"
        "child(lambda: os.execv(b'/bin/\\xff', ['x', 'bytes']) if not os.path.exists(b'/bin/\\xff') else None)\n"
        "E\n"
        "python3 /tmp/odd.py 2>/dev/null",
    )
    assert found["descriptor"]["path"] == "/usr/bin/true"
    assert found["magic"]["path"] == "/proc/self/root/bin/true"
    assert found["magic"]["resolved"] == ""
    assert "absent" not in found["magic"]
    assert found["numbered"]["path"].startswith("/proc/self/fd/")
    assert found["bytes"]["path"] == "/bin/\\xff"


def test_no_exec_is_missing_after_the_launcher_is_killed(product: Product) -> None:
    """What a program of the agent's has done was in the record before: also when nobody could write the log any more."""
    child = product.start(
        "git config user.name a; git config user.email a@b; i=0\n"
        "while :; do i=$((i + 1)); /usr/bin/env sh -c 'echo $0 >> done; git add done; git commit -qm $0' mark-$i; done",
        *QUIET,
    )
    deadline = time.monotonic() + 60
    while not list(product.sessions.glob("*/workspace/done")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    child.kill()
    child.communicate(timeout=60)
    recovered = product.command("recover")
    assert recovered.status == 0, recovered.stderr
    (place,) = product.sessions.glob("*")
    lines = (place / "events.jsonl").read_bytes().splitlines(keepends=True)
    assert find_break(lines) is None
    marked = {word for event in map(json.loads, lines) if event["kind"] == "exec" for word in event["argv"]}
    did = product.git("show", "shell/session-1:done").split()
    assert len(did) > 3
    assert set(did) <= marked
    assert list(place.glob("*.spool")) == []


def test_many_at_once_are_all_recorded_in_their_order(product: Product) -> None:
    ran = product.run(
        "for i in 1 2 3 4 5 6 7 8; do (for j in $(seq 100); do /bin/true $i-$j; done) & done; wait", *QUIET
    )
    seen = [event["argv"][-1] for event in product.events(ran, "exec") if event["path"] == "/bin/true"]
    assert sorted(seen) == sorted(f"{i}-{j}" for i in range(1, 9) for j in range(1, 101))
    for i in range(1, 9):
        assert [word for word in seen if word.startswith(f"{i}-")] == [f"{i}-{j}" for j in range(1, 101)]
    stamps = [event["ts"] for event in product.events(ran, "exec")]
    assert stamps == sorted(stamps)
    assert not list(Path(ran.result["event_log"]).parent.glob("*.spool"))
