"""Exec supervision through the product: what a record says, and that none is missing."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest

from containai.audit.chain import find_break
from tests.support.product import IDENTITY, Product

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


def test_a_directory_that_is_gone_or_too_deep_hides_nothing(product: Product) -> None:
    found = execs(
        product,
        "cat > /tmp/odd.py <<'E'\n"
        "import os, shutil\n"
        "def child(*words):\n"
        "    if not (pid := os.fork()):\n"
        "        os.execv(words[0], ['x', *words[1:]])\n"
        "    os.waitpid(pid, 0)\n"
        "os.mkdir('/tmp/gone'); os.chdir('/tmp/gone'); os.rmdir('/tmp/gone')\n"
        "child('../../bin/true', 'gone')\n"
        "os.chdir('/tmp')\n"
        "for _ in range(30):\n"
        "    os.mkdir('d' * 200); os.chdir('d' * 200)\n"
        "os.mkdir('bin'); shutil.copy('/bin/true', 'bin/true')\n"
        "child('bin/true', 'deep')\n"
        "E\n"
        "python3 /tmp/odd.py",
    )
    assert "absent" not in found["gone"]
    assert found["gone"]["resolved"] in ("", "/usr/bin/true")
    assert "absent" not in found["deep"]
    assert found["deep"]["resolved"] != "/usr/bin/true"


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
    assert found["descriptor"]["path"] == found["descriptor"]["resolved"] == "/usr/bin/true"
    assert found["magic"]["path"] == "/proc/self/root/bin/true"
    assert found["magic"]["resolved"] == "/usr/bin/true"
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


def deny(product: Product, *programs: str) -> None:
    place = product.home / ".config/containai"
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.toml").write_text(f"[exec]\ndeny = {json.dumps(programs)}\n")


WAYS = {
    "by its name": "uname > out",
    "by its path": "/usr/bin/uname > out",
    "through a link of the system": "/bin/uname > out",
    "through a link": "ln -s /usr/bin/uname /tmp/u; /tmp/u > out",
    "through the root link": "/proc/self/root/usr/bin/uname > out",
    "by the loader": "/lib64/ld-linux-x86-64.so.2 /usr/bin/uname > out",
    "as a copy": "cp /usr/bin/uname /tmp/u; /tmp/u > out",
    "from memory": "python3 -c \"import os; f = os.memfd_create('u'); os.write(f, open('/usr/bin/uname', 'rb').read());"
    " os.execve(f, ['uname'], {})\" > out",
    "by its descriptor": "python3 -c \"import os; os.execve(os.open('/usr/bin/uname', os.O_RDONLY), ['uname'], {})\" > out",
    "by its place without reading": "python3 -c \"import os; os.execve(os.open('/usr/bin/uname', os.O_PATH), ['uname'], {})\""
    " > out",
}


@pytest.mark.parametrize("way", WAYS)
def test_a_denied_program_does_not_run(product: Product, way: str) -> None:
    script = f"{WAYS[way]}; echo $? > status; git add -A; git commit -qm tried"
    ran = product.run(script, *QUIET)
    assert "Linux" in product.git("show", f"{ran.result['branch']}:out"), "the control: where it is allowed it runs"
    deny(product, "uname", "unmae")
    ran = product.run(script, *QUIET)
    assert product.git("show", f"{ran.result['branch']}:out") == ""
    assert product.git("show", f"{ran.result['branch']}:status") != "0"
    assert "note: [exec] deny: the session has no program 'unmae'; nothing is denied by it" in ran.stderr
    config = product.events(ran, "session")[0]
    assert (config["exec_policy"], config["denied"]) == ("enforce", ["/usr/bin/uname"])


def test_a_denial_is_recorded_as_the_kernels_and_other_programs_run(product: Product) -> None:
    deny(product, "uname", "/usr/bin/nonexistent", "no-such-program")
    found = execs(product, "uname tried; ls / listed >/dev/null 2>&1; /usr/bin/env true fine")
    assert (found["tried"]["verdict"], found["tried"]["denied_by"]) == ("deny", "kernel")
    assert found["tried"]["guard"] == "landlock"
    assert found["listed"]["verdict"] == found["fine"]["verdict"] == "allow"


def test_a_repository_can_deny_more_and_allow_nothing(product: Product) -> None:
    (product.repository / "config.toml").write_text('[exec]\ndeny = ["nproc"]\n')
    product.git("add", "-A")
    product.git(*IDENTITY, "commit", "-q", "-m", "deny")
    deny(product, "uname")
    ran = product.run("uname > out; nproc >> out; true", *QUIET)
    assert product.git("show", f"{ran.result['branch']}:out") == ""
    assert product.events(ran, "session")[0]["denied"] == ["/usr/bin/nproc", "/usr/bin/uname"]


RULES = """
[[exec.rules]]
name = "no-force"
program = "git"
arguments = ["push", "--force*"]
[[exec.rules]]
name = "that-file"
sha256 = "{digest}"
"""


def test_rules_deny_uses_of_programs_and_files_by_digest(product: Product) -> None:
    place = product.home / ".config/containai"
    place.mkdir(parents=True, exist_ok=True)
    content = b"#!/bin/sh\necho ran >> out\n"
    (place / "config.toml").write_text(RULES.format(digest=hashlib.sha256(content).hexdigest()))
    script = (
        "git status >/dev/null && echo fine >> out; git -c a.b=c push --force local HEAD 2>> errors || echo refused >> out\n"
        "printf '#!/bin/sh\\necho ran >> out\\n' > /tmp/brought; chmod +x /tmp/brought; cp /tmp/brought /tmp/renamed\n"
        "/tmp/brought one; /tmp/renamed two; echo '#' >> /tmp/renamed; /tmp/renamed three; true"
    )
    ran = product.run(script, *QUIET)
    assert product.git("show", f"{ran.result['branch']}:out").split() == ["fine", "refused", "ran"]
    assert "not permitted" in product.git("show", f"{ran.result['branch']}:errors")
    found = {event["argv"][-1]: event for event in product.events(ran, "exec") if event["argv"]}
    for word, rule in (("HEAD", "no-force"), ("one", "that-file"), ("two", "that-file")):
        assert (found[word]["verdict"], found[word]["denied_by"], found[word]["rule"]) == ("deny", "supervisor", rule)
    assert found["three"]["verdict"] == found["status"]["verdict"] == "allow"
    shown = product.command("log", ran.result["session"], "--kind", "exec").stdout
    assert "(by the supervisor: no-force)" in shown
    config = product.events(ran, "session")[0]
    assert (config["exec_policy"], config["exec_rules"]) == ("enforce", ["no-force", "that-file"])


def test_observe_denies_nothing_and_says_what_it_would(product: Product) -> None:
    deny(product, "uname")
    with (product.home / ".config/containai/config.toml").open("a") as config:
        config.write(RULES.format(digest="0" * 64))
    ran = product.run(
        "uname tried; git push --force local HEAD && echo pushed > out; true", *QUIET, "--exec-policy", "observe"
    )
    found = {event["argv"][-1]: event for event in product.events(ran, "exec") if event["argv"]}
    assert (found["tried"]["verdict"], found["tried"]["would_deny"]) == ("allow", "deny")
    assert (found["HEAD"]["verdict"], found["HEAD"]["would_deny"]) == ("allow", "no-force")
    assert product.git("show", f"{ran.result['branch']}:out") == "pushed"


SWAP = """
import os, sys, threading
tries = int(sys.argv[1])
os.symlink('/bin/true', '/tmp/swapped')
done = False
def swap():
    n = 0
    while not done:
        n += 1
        os.symlink('/usr/bin/uname' if n % 2 else '/bin/true', '/tmp/next')
        os.rename('/tmp/next', '/tmp/swapped')
threading.Thread(target=swap).start()
out = os.open('out', os.O_CREAT | os.O_WRONLY | os.O_APPEND)
ran = failed = 0
for _ in range(tries):
    try:
        pid = os.posix_spawn('/tmp/swapped', ['swapped'], {}, file_actions=[(os.POSIX_SPAWN_DUP2, out, 1)])
    except OSError:
        failed += 1
        continue
    os.waitpid(pid, 0)
    ran += 1
done = True
open('counts', 'w').write(f'{ran} {failed}')
"""


@pytest.mark.parametrize("tries", [300, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(400)])])
def test_a_path_that_is_swapped_while_it_is_looked_at_does_not_help(product: Product, tries: int) -> None:
    deny(product, "uname")
    (product.repository / "swap.py").write_text(SWAP)
    product.git("add", "-A")
    product.git(*IDENTITY, "commit", "-q", "-m", "swap")
    ran = product.run(f"python3 swap.py {tries}", *QUIET, timeout_s=390)
    counts = [int(word) for word in product.git("show", f"{ran.result['branch']}:counts").split()]
    assert sum(counts) == tries
    assert min(counts) > 0, "the path was swapped both ways"
    assert product.git("show", f"{ran.result['branch']}:out") == ""
