"""Sessions in Docker that an ordinary user starts: Yama keeps the memory of Docker's processes from his supervisor.

The container's first process reads in his place (docs/exec-supervision.md). So each record is what was asked for, or
nothing happened; and whoever no one can read for does not run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docker.conftest import docker
from tests.docker.test_session import LONG, NET, end, events_of, running, wait_for_file
from tests.support.product import IDENTITY, Product

pytestmark = [pytest.mark.docker, pytest.mark.needs("docker-engine"), pytest.mark.timeout(400)]

DOCKER = (*NET, "--engine", "docker")
HERE = Path(__file__).parent
MAIN = "import sys; from containai.cli.main import main; sys.exit(main(sys.argv[1:]))"
BRANCH = "shell/session-1"


def as_user(product: Product, uid: int, weakened: str = "") -> Product:
    """A user's own home and repository, and a launcher of his, who may ask Docker; perhaps with a change."""
    for name, source in (("ways.py", HERE.parent / "support/exec_ways.py"), ("hostile.py", HERE / "hostile.py")):
        (product.repository / name).write_bytes(source.read_bytes())
    product.git("add", "-A")
    product.git(*IDENTITY, "commit", "-q", "-m", "programs")
    place = product.repository.parent
    subprocess.run(["chown", "-R", f"{uid}:{uid}", place], check=True, timeout=60)
    for path in (place, *place.parents):
        if path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    group = os.stat("/var/run/docker.sock").st_gid
    prefix = ("setpriv", f"--reuid={uid}", f"--regid={uid}", f"--groups={group}")
    python = ("-c", f"{weakened}\n{MAIN}") if weakened else ("-m", "containai")
    return Product(home=product.home, repository=product.repository, launcher=(*prefix, sys.executable, *python))


def shown(product: Product, name: str) -> str:
    """A file of the returned branch; root reads it in a user's repository."""
    return product.git("-c", f"safe.directory={product.repository}", "show", f"{BRANCH}:{name}")


def unread(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records that say that nobody could read; each is a denial."""
    found = [event for event in events if event.get("unreadable")]
    assert all((event["verdict"], event["guard"]) == ("deny", "unreadable") for event in found)
    return found


WAYS = ("path", "array", "words", "all", "split", "descriptor")
WORDS = [f"word-{n}-" + "x" * (2 * n) for n in range(40)]
TRUE = "\n".join((
    "exec > out 2>&1; touch started; while [ ! -e go ]; do sleep 0.2; done",
    "id -u; id -un; cat /proc/self/attr/current; ls /proc/self/fd",
    f"/usr/bin/env -i /usr/bin/echo {' '.join(WORDS)}",
    "ln -s /proc/self/root/usr/bin/echo /tmp/l; /tmp/l through-a-link; (cd /usr/bin; ./echo relative)",
    *(f"python3 ways.py {way} /usr/bin/echo {way}-hidden end-{way}" for way in WAYS),
    "python3 ways.py thread /usr/bin/echo from-a-thread; python3 hostile.py landlock",
    "python3 ways.py unmapped /usr/bin/echo hidden; (sleep 0.2; /usr/bin/echo orphan > late) & exec sleep 1",
))  # fmt: skip


def test_each_record_is_true_and_a_visitor_does_not_run(product: Product) -> None:
    """As himself, who is 1000 as in the images; what can be written and not read is read, too.

    ``docker exec`` is no descendant of the first process, nor of the launcher: nobody can tell what it asks for.
    """
    product = as_user(product, 1000)
    child = product.start(TRUE, *DOCKER)
    try:
        workspace = wait_for_file(product, "started").parent
        visit = docker("exec", running(product), "touch", "visited", check=False)
        visited = (workspace / "visited").exists()
        (workspace / "go").touch()
        child.wait(LONG)
    finally:
        end(child)
    assert child.returncode == 0
    events: list[dict[str, Any]] = [event for event in events_of(product) if event["kind"] == "exec"]
    printed = shown(product, "out").splitlines()
    assert printed[:3] == ["1000", "agentuser", "containai-agent-reading (enforce)"]
    assert printed[3:7] == ["0", "1", "2", "3"]  # the last is the directory's own
    told = [event["argv"] for event in events if not event.get("container")]
    assert ["/usr/bin/echo", *WORDS] in told
    assert " ".join(WORDS) in printed
    for way in WAYS:
        assert f"{way}-hidden end-{way}" in printed, "the control: the kernel reads it"
        assert ["/usr/bin/echo", f"{way}-hidden", f"end-{way}"] in told, way
    for word, path in (("through-a-link", "/tmp/l"), ("relative", "./echo"), ("orphan", "/usr/bin/echo")):
        (event,) = (event for event in events if event["argv"][-1:] == [word])
        assert (event["path"], event["resolved"], event["verdict"]) == (path, "/usr/bin/echo", "allow")
    assert shown(product, "late") == "orphan"
    assert ["echo", "in-a-sandbox"] in told
    assert {"landlocked 0", "in-a-sandbox"} <= set(printed)
    threads = [event for event in events if event["argv"][-1:] == ["from-a-thread"] and event.get("thread")]
    assert len(threads) == 1
    finish = [event["argv"] for event in events if event.get("container") == "finish"]
    assert finish
    assert all(finish)
    *visits, unmapped = unread(events)
    assert (unmapped["argv"], "errno 14" in printed) == (["/usr/bin/echo"], True)
    assert (visit.returncode != 0, visited) == (True, False)
    assert visits
    assert all((event["path"], event["argv"]) == ("", []) for event in visits)
    assert all(event["path"] for event in events if event not in visits)


def test_nothing_that_an_agent_does_makes_the_first_process_lie_hang_or_die(product: Product) -> None:
    """Another user's than the images'. At last it is left without descriptors, and nothing runs any more."""
    product = as_user(product, 4321)
    script = (
        "exec > out 2>&1; id -u; python3 hostile.py first; echo alive; python3 hostile.py memory; /usr/bin/echo as ever\n"
        "python3 hostile.py undumpable; python3 hostile.py starve; /usr/bin/touch ran; echo over"
    )
    ran = product.run(script, *DOCKER, timeout_s=LONG)
    assert ran.status == 0, ran.stderr
    events, printed = product.events(ran, "exec"), shown(product, "out").splitlines()
    assert printed[:6] == ["4321", "threads 2", "/proc/1/mem 13", "/proc/1/fd 13", "/proc/1/environ 13", "alive"]
    places = ("truncated", "kernel", "no-address", "last")
    nowhere = [f"{place} 14" for place in places for _ in range(2)]
    assert printed[6:18] == [*nowhere, "many 0", "as ever", "undumpable 14", "starved 0"]
    assert (len(printed), printed[-1]) == (20, "over")
    *told, undumpable, starved = unread(events)
    assert [event["unreadable"] for event in told] == [["path"], ["argv"]] * 4
    assert [event["argv"] for event in told[::2]] == [[f"path-{place}"] for place in places]
    assert undumpable["unreadable"] == starved["unreadable"] == ["path", "argv"]
    (many,) = (event for event in events if event["path"] == "/usr/bin/true" and event["truncated"])
    assert many["verdict"] == "allow"
    assert any(event["argv"] == ["/usr/bin/echo", "as", "ever"] for event in events)
    assert "ran" not in product.git("-c", f"safe.directory={product.repository}", "ls-tree", "--name-only", BRANCH)
    assert os.stat(ran.result["event_log"]).st_uid == 4321


WEAKENED = {
    "the usual profile": "from containai.preflight.model import Facts; Facts.profile = lambda *_: ('containai-agent', 'enforce')",
    "nobody reads inside": "from containai.engine.docker.engine import DockerEngine as E; E._reads_inside = lambda *_: False",
}


@pytest.mark.parametrize("weakened", WEAKENED)
def test_where_the_first_process_may_not_read_nothing_runs(product: Product, weakened: str) -> None:
    """Each of the two that make it possible is needed; without it no exec goes on, and its record says why."""
    product = as_user(product, 4321, WEAKENED[weakened])
    ran = product.command("run", "--json", *DOCKER, "--", "touch", "ran", timeout_s=LONG)
    assert ran.status != 0
    events = [event for event in events_of(product) if event["kind"] == "exec"]
    assert events
    assert unread(events) == events
    assert all(event["argv"] == [] and event["path"] == "" for event in events)
    assert not json.loads(ran.stdout or "{}").get("commits")
