"""Ways to execute something unseen: the record says what ran, or that nobody could tell, and then nothing ran."""

from __future__ import annotations

import hashlib
import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from containai.audit.chain import find_break
from containai.supervise.spool import read_records
from tests.support.product import IDENTITY, Product, make_repository
from tests.support.users import OrdinaryUser
from tests.unit.supervise.test_spool import record

pytestmark = pytest.mark.user
QUIET = ("--network-proxy", "none")
WAYS = (Path(__file__).parent.parent / "support/exec_ways.py").read_text()


@pytest.fixture
def armed(product: Product) -> Product:
    """A repository that has the program of ways."""
    (product.repository / "ways.py").write_text(WAYS)
    product.git("add", "-A")
    product.git(*IDENTITY, "commit", "-q", "-m", "ways")
    return product


def run(product: Product, script: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Exec events, and what the programs printed."""
    ran = product.run(f"exec > out 2>&1\n{script}\nexit 0", *QUIET)
    assert ran.status == 0, ran.stderr
    return product.events(ran, "exec"), product.git("show", f"{ran.result['branch']}:out").splitlines()


def last(events: list[dict[str, Any]], word: str) -> dict[str, Any]:
    """The newest event whose last word is this one."""
    return next(event for event in reversed(events) if event["argv"][-1:] == [word])


def configure(product: Product, text: str) -> None:
    place = product.home / ".config/containai"
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.toml").write_text(text)


def test_what_can_be_written_only_is_read(armed: Product) -> None:
    ways = ("path", "array", "words", "all", "split", "descriptor")
    script = "\n".join(f"python3 ways.py {way} /usr/bin/echo {way}-hidden end-{way}" for way in ways)
    events, printed = run(armed, script)
    for way in ways:
        assert f"{way}-hidden end-{way}" in printed, "the control: the kernel reads it"
        event = last(events, f"end-{way}")
        assert event["argv"] == ["/usr/bin/echo", f"{way}-hidden", f"end-{way}"]
        assert (event["path"], event["resolved"]) == ("/usr/bin/echo", "/usr/bin/echo")
        assert (event["verdict"], event["truncated"]) == ("allow", False)


def test_the_longer_name_behind_a_readable_beginning_is_recorded(armed: Product) -> None:
    events, printed = run(
        armed, "cp /usr/bin/true /tmp/a; cp /usr/bin/echo /tmp/ab; python3 ways.py prefix /tmp/ab it-ran"
    )
    assert printed == ["it-ran"]
    assert (last(events, "it-ran")["path"], last(events, "it-ran")["resolved"]) == ("/tmp/ab", "/tmp/ab")


def test_what_nobody_can_read_does_not_run_and_its_record_says_so(armed: Product) -> None:
    events, printed = run(armed, "python3 ways.py unmapped /usr/bin/echo hidden; echo end")
    assert printed == ["errno 14", "end"]
    (event,) = (event for event in events if event.get("unreadable"))
    assert (event["unreadable"], event["argv"]) == (["argv"], ["/usr/bin/echo"])
    assert (event["verdict"], event["denied_by"], event["guard"]) == ("deny", "supervisor", "unreadable")


LINKS = {
    "root": "ln -s /proc/self/root/usr/bin/echo /tmp/l; /tmp/l",
    "thread": "ln -s /proc/thread-self/root/usr/bin/echo /tmp/l; /tmp/l",
    "cwd": "cd /usr/bin; ln -s /proc/self/cwd/echo /tmp/l; /tmp/l",
    "plain": "/proc/self/root/usr/bin/echo",
    "descriptor": "exec 5< /usr/bin/echo; /proc/self/fd/5",
    "device": "exec 5< /usr/bin/echo; /dev/fd/5",
    "relative": "cd /; proc/self/root/usr/bin/echo",
    "number": "sh -c 'exec /proc/$$/root/usr/bin/echo \"$@\"' sh",
    "folder": "mkdir /tmp/proc; ln -s /usr/bin/echo /tmp/proc/q; /tmp/proc/q",
    "chain": "ln -s /proc/self/root/tmp/m /tmp/l; ln -s ../usr/./bin//echo /tmp/m; /tmp/l",
    "up": "/tmp/../../../proc/self/root/../usr/bin/echo",
}


def test_a_link_through_proc_is_followed_for_the_process(armed: Product) -> None:
    script = "\n".join(f"(rm -rf /tmp/l /tmp/m /tmp/proc; {way} {name}-ran)" for name, way in LINKS.items())
    events, printed = run(armed, script)
    assert printed == [f"{name}-ran" for name in LINKS]
    for name in LINKS:
        event = last(events, f"{name}-ran")
        assert event["resolved"] == "/usr/bin/echo", name
        assert "absent" not in event


def test_what_is_not_there_behind_a_link_is_absent_and_behind_proc_is_not_said_to_be(product: Product) -> None:
    events, _ = run(
        product,
        "ln -s /usr/bin/none /tmp/l; /tmp/l gone; ln -s /proc/self/root/usr/bin/none /tmp/m; /tmp/m unknown\n"
        "/usr/bin/true/ slash; /usr/bin/true/x below; /bin/none linked; ln -s o /tmp/o; /tmp/o loop",
    )
    for word in ("gone", "slash", "below", "linked"):
        assert last(events, word)["absent"] is True, word
        assert last(events, word)["resolved"] == ""
    for word in ("unknown", "loop"):
        assert "absent" not in last(events, word)
        assert last(events, word)["resolved"] == ""


def test_to_ask_whether_an_exec_would_be_allowed_is_no_exec(armed: Product) -> None:
    events, printed = run(armed, "python3 ways.py check /usr/bin/echo checked; echo end")
    assert printed == ["errno 22", "end"], "as before Linux 6.14"
    assert [event["path"] for event in events if "checked" in event["argv"]] == ["/usr/bin/python3"]


def test_an_exec_of_a_thread_is_recorded_for_its_process(armed: Product) -> None:
    events, printed = run(armed, "python3 ways.py thread /usr/bin/echo from-a-thread")
    assert printed == ["from-a-thread"]
    started, event = (event for event in events if event["argv"][-1:] == ["from-a-thread"])
    assert event["pid"] == started["pid"]
    assert event["thread"] != event["pid"]
    assert "thread" not in started


@pytest.mark.needs("root", "open-checkout")
def test_a_program_that_the_launcher_may_not_look_into_starts_nothing(
    ordinary: OrdinaryUser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A program that its user cannot read is not dumpable: its memory, and even its directory, are closed to him."""
    place = Path("/usr/local/bin/containai-test-unreadable")
    home = Path(ordinary.run(["mktemp", "-d"]).stdout.decode().strip())
    (home / "repository").parent.chmod(0o755)
    make_repository(home / "repository")
    subprocess.run(["chown", "-R", f"{ordinary.uid}", home], check=True, timeout=30)
    place.write_bytes(Path("/usr/bin/env").read_bytes())
    place.chmod(0o711)
    try:
        command = [sys.executable, "-m", "containai", "run", "--json", *QUIET, "--"]
        script = "containai-test-unreadable echo it-ran > out 2> err; env echo control >> out"
        done = ordinary.run(
            [*command, "sh", "-c", script],
            env={"HOME": str(home), "XDG_STATE_HOME": str(home / "state")},
            cwd=home / "repository",
            timeout_s=90,
        )
    finally:
        place.unlink()
    assert done.stdout, done.stderr.decode()
    result = json.loads(done.stdout)
    events = [json.loads(line) for line in Path(result["event_log"]).read_text().splitlines()]
    shown = ordinary.run(["git", "show", f"{result['branch']}:out"], cwd=home / "repository").stdout
    subprocess.run(["rm", "-rf", home], check=True, timeout=30)
    assert shown == b"control\n"
    unread = [event for event in events if event.get("unreadable")]
    assert unread, "its execs are recorded as what they are"
    assert all(event["verdict"] == "deny" and "path" in event["unreadable"] for event in unread)
    assert not [event for event in events if event["kind"] == "exec" and not event["path"] and event not in unread]


RULES = """
[exec]
deny = ["uname"]
[[exec.rules]]
name = "no-secret"
program = "expr"
arguments = ["SECRET*"]
[[exec.rules]]
name = "no-force"
program = "git"
arguments = ["push", "--force*"]
[[exec.rules]]
name = "that-file"
sha256 = "{digest}"
"""
LOADER = "/lib64/ld-linux-x86-64.so.2"
ROUND_A_RULE = {
    "control": "/usr/bin/expr SECRET-0 : '.*'",
    "array": "python3 ways.py array /usr/bin/expr SECRET-1 : '.*'",
    "split": "python3 ways.py split /usr/bin/expr SECRET-2 : '.*'",
    "path": "python3 ways.py path /usr/bin/expr SECRET-3 : '.*'",
    "link": "ln -s /proc/self/root/usr/bin/expr /tmp/e; /tmp/e SECRET-4 : '.*'",
    "folder": "mkdir /tmp/proc; ln -s /usr/bin/expr /tmp/proc/q; /tmp/proc/q SECRET-5 : '.*'",
    "descriptor": "exec 5< /usr/bin/expr; /proc/self/fd/5 SECRET-6 : '.*'",
    "loader": f"{LOADER} /usr/bin/expr SECRET-7 : '.*'",
    "name": "bash -c 'exec -a git-push git --force nowhere HEAD'",
    "digest": "/usr/bin/nproc",
    "digest, path": "python3 ways.py path /usr/bin/nproc",
    "digest, link": "ln -s /proc/self/root/usr/bin/nproc /tmp/n; /tmp/n",
    "digest, descriptor": "python3 ways.py descriptor /usr/bin/nproc",
    "digest, prefix": "cp /usr/bin/true /tmp/a; ln -s /usr/bin/nproc /tmp/ab; python3 ways.py prefix /tmp/ab",
}


def test_rules_hold_for_each_way_that_needs_no_race(armed: Product) -> None:
    digest = hashlib.sha256(Path("/usr/bin/nproc").read_bytes()).hexdigest()
    script = "\n".join(f"({way}) > ran-{n} 2>/dev/null" for n, way in enumerate(ROUND_A_RULE.values()))
    script += "\ngit add -A; for n in ran-*; do test -s $n && echo $n; done"
    _, printed = run(armed, script)
    assert len(printed) == len(ROUND_A_RULE) - 1, "the control: without a rule all but the refused push print"
    configure(armed, RULES.format(digest=digest))
    events, printed = run(armed, script)
    assert printed == []
    denied = [event["rule"] for event in events if event.get("denied_by") == "supervisor"]
    assert (denied.count("no-secret"), denied.count("no-force"), denied.count("that-file")) == (8, 1, 5)


CHANGED = """
import mmap, os, subprocess
wanted = open('/usr/bin/nproc', 'rb').read()
with open('/tmp/x', 'wb+') as file:
    file.truncate(len(wanted))
    os.chmod('/tmp/x', 0o755)
    shared = mmap.mmap(file.fileno(), 0)
shared[:] = b'i' * len(wanted)
try:
    subprocess.run(['/tmp/x'])
except OSError:
    pass
shared[:] = wanted
shared.close()
try:
    subprocess.run(['/tmp/x', '--version'])
except PermissionError:
    print('refused')
"""


def test_a_file_that_changes_behind_its_times_is_hashed_again(armed: Product) -> None:
    (armed.repository / "changed.py").write_text(CHANGED)
    armed.git("add", "-A")
    armed.git(*IDENTITY, "commit", "-q", "-m", "changed")
    assert "nproc" in run(armed, "python3 changed.py")[1][0], "the control: it runs"
    configure(armed, RULES.format(digest=hashlib.sha256(Path("/usr/bin/nproc").read_bytes()).hexdigest()))
    assert run(armed, "python3 changed.py")[1] == ["refused"]


SCRIPTS = {
    "script": "printf '#!/usr/bin/uname\\n' > /tmp/s; chmod +x /tmp/s; /tmp/s script",
    "chain": "printf '#! /tmp/s -a\\n' > /tmp/t; chmod +x /tmp/t; /tmp/t chain",
    "root": "/proc/self/root/usr/bin/uname root",
    "link": "ln -s /proc/self/root/usr/bin/uname /tmp/l; /tmp/l link",
    "descriptor": "python3 -c \"import os; os.execv('/proc/self/fd/%d' % os.open('/usr/bin/uname', os.O_PATH), ['u', 'descriptor'])\"",
}


def test_a_denied_program_that_is_reached_in_another_way_is_recorded_as_denied(product: Product) -> None:
    configure(product, '[exec]\ndeny = ["uname"]\n')
    events, _ = run(product, "\n".join(SCRIPTS.values()) + "\nprintf '#!/bin/sh\\n' > u; chmod +x u; ./u fine")
    for name in SCRIPTS:
        event = last(events, name)
        assert (event["verdict"], event.get("denied_by"), event.get("guard")) == ("deny", "kernel", "landlock"), name
    assert last(events, "chain")["interpreters"] == ["/tmp/s", "/usr/bin/uname"]
    assert last(events, "fine")["verdict"] == "allow"


FLOOD = """
import ctypes, sys
libc = ctypes.CDLL(None)
path, word = b'/' + b'\\1' * 200, b'\\xff' * 1024
arguments = (ctypes.c_char_p * 6)(word, word, word, word, word, None)
deep = (b'/' + b'\\1' * 200) * 20
for _ in range(int(sys.argv[1])):
    libc.execve(deep, arguments, None)
open('done', 'w').close()
"""


@pytest.fixture
def flooding(product: Product) -> Product:
    (product.repository / "flood.py").write_text(FLOOD)
    product.git("add", "-A")
    product.git(*IDENTITY, "commit", "-q", "-m", "flood")
    return product


def test_a_flood_waits_for_the_log_and_takes_no_more_than_its_bound(flooding: Product) -> None:
    child = flooding.start("python3 flood.py 2000", *QUIET)
    largest = 0
    while child.poll() is None:
        for spool in flooding.sessions.glob("*/*.spool"):
            try:
                largest = max(largest, spool.stat().st_size)
            except FileNotFoundError:
                continue
        time.sleep(0.002)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 0, err.decode()
    (log,) = flooding.sessions.glob("*/events.jsonl")
    lines = log.read_bytes().splitlines(keepends=True)
    assert find_break(lines) is None
    flood = [line for line in lines if b"u0001" in line and b'"kind":"exec"' in line]
    assert len(flood) == 2000, "none is missing"
    assert 0 < largest <= 4 << 20
    assert max(map(len, flood)) < 10_000
    assert all(json.loads(line)["truncated"] for line in flood)


def test_signals_while_the_records_of_a_flood_are_moved_do_not_cost_the_work(flooding: Product) -> None:
    child = flooding.start("echo work > work; python3 flood.py 100000000", *QUIET)
    deadline = time.monotonic() + 60
    while not list(flooding.sessions.glob("*/workspace/work")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):  # together: the first ends the agent
        child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert child.returncode in {128 + 1, 128 + 2, 128 + 15}, err.decode()
    assert flooding.git("show", f"{json.loads(out)['branch']}:work") == "work"


@pytest.mark.parametrize("most", [6 << 20, 0], ids=["no batch fits", "no line fits"])
def test_when_the_log_fails_the_session_ends_and_recover_brings_the_records(flooding: Product, most: int) -> None:
    """The launcher's files may not grow beyond ``most``: then a write fails, while execs wait for it."""
    child = flooding.start("echo work > work; python3 flood.py 100000000", *QUIET)
    deadline = time.monotonic() + 60
    while not list(flooding.sessions.glob("*/workspace/work")) and time.monotonic() < deadline:
        time.sleep(0.02)
    (log,) = flooding.sessions.glob("*/events.jsonl")
    if not most:
        while log.stat().st_size < 4 << 20 and time.monotonic() < deadline:  # beyond what the other files need
            time.sleep(0.02)
        most = log.stat().st_size
    resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (most, most))
    out, err = child.communicate(timeout=60)
    assert child.returncode == 125, err.decode()
    assert json.loads(out)["kept"]
    assert b"bytes of exec records are not in the log yet" in err
    (spool,) = flooding.sessions.glob("*/execs.spool")
    held = {(event["ts"], event["pid"]) for event in read_records(spool.read_bytes())[0]}

    def logged() -> set[tuple[str, int]]:
        events = map(json.loads, log.read_bytes().splitlines())
        return {(event["ts"], event["pid"]) for event in events if event["kind"] == "exec"}

    assert held - logged()
    recovered = flooding.command("recover")
    assert recovered.status == 0, recovered.stderr
    assert held <= logged()
    assert find_break(log.read_bytes().splitlines(keepends=True)) is None
    assert not spool.exists()
    assert flooding.git("show", f"{json.loads(out)['branch']}:work") == "work"


def test_recover_brings_the_records_of_a_session_that_had_ended(product: Product) -> None:
    ran = product.run("true", *QUIET)
    place = Path(ran.result["event_log"]).parent
    (place / "execs.spool").write_bytes(record(1, "/usr/bin/left"))
    recovered = product.command("recover")
    assert recovered.status == 0, recovered.stderr
    assert "nothing to recover" not in recovered.stderr
    assert [event["path"] for event in product.events(ran, "exec")][-1] == "/usr/bin/left"
    assert not list(place.glob("*.spool"))
    assert "nothing to recover" in product.command("recover").stderr
