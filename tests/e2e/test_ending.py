"""However a session ends, its work comes back and nothing stays behind."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.product import Product, host_traces

pytestmark = [pytest.mark.user, pytest.mark.usefixtures("nothing_left")]


@pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)])
def test_the_agents_status_is_the_runs_status(product: Product, script: str, status: int) -> None:
    ran = product.run(f"echo x > f; {script}")
    assert ran.status == status
    assert product.git("show", "shell/session-1:f") == "x"


def test_a_program_that_is_not_there(product: Product) -> None:
    page = (Path(__file__).parents[2] / "docs/errors.md").read_text()
    for program, status in (("no-such-program", 127), ("/etc/passwd", 126)):
        ran = product.command("run", "--", program)
        assert (ran.status, f"error[agent.cannot-run]: {program}" in ran.stderr) == (status, True)
    (product.repository / "a.py").write_text("#!/bin/sh\n")
    product.git("add", "-A")
    product.git("-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-qm", "no program yet")
    assert "    chmod +x ./a.py, and commit that" in product.command("run", "--", "./a.py").stderr
    assert "| `agent.cannot-run` | 126 or 127 |" in page
    assert product.branches() == ["main"]


def test_only_run_says_125(product: Product) -> None:
    """By which whoever starts an agent knows that none was started."""
    nowhere = replace(product, variables={"DOCKER_HOST": f"unix://{product.home}/no.sock"})
    failed = nowhere.command("image", "build", "--npm-registry", "https://npm.example", "base")
    assert (failed.status, "error[engine.docker]" in failed.stderr) == (1, True), failed.stderr
    config = product.home / ".config/containai/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("[network]\nmode = 7\n")
    refused = product.command("run", "--", "true")
    assert (refused.status, "error[policy.invalid]" in refused.stderr) == (125, True), refused.stderr


def test_timeout_ends_an_agent_that_ignores_it(product: Product) -> None:
    ran = product.run('trap "" TERM INT; echo x > f; while :; do sleep 0.1; done', "--timeout", "1")
    assert ran.status == 124
    assert "the time limit (1 s) ended it" in ran.stderr
    assert product.git("show", "shell/session-1:f") == "x"


def test_processes_that_the_agent_leaves_running_end_with_it(product: Product) -> None:
    ran = product.run("(setsid sleep 1000 &) ; nohup sleep 1000 >/dev/null 2>&1 & echo x > f")
    assert ran.status == 0
    assert product.git("show", "shell/session-1:f") == "x"


def _full_pipe() -> tuple[int, int, int]:
    """A pipe into which nothing can be written: its ends, and how many bytes are in it."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    held = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            held += os.write(writable, b"." * 4096)
    os.set_blocking(writable, True)
    return readable, writable, held


def _start_with(product: Product, stdout: int, stderr: int) -> subprocess.Popen[bytes]:
    argv = product.argv("run", "--json", "--", "sh", "-c", "echo x > f; exit 3")
    return subprocess.Popen(
        argv,
        cwd=product.repository,
        env=product.environment,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
    )


def test_nobody_has_to_read_the_messages(product: Product) -> None:
    """They are lost, and nothing else: the work is home, the log is whole, the status is the agent's."""
    readable, writable, held = _full_pipe()
    child = _start_with(product, subprocess.PIPE, writable)
    try:
        out, _ = child.communicate(timeout=60)
    finally:
        child.kill()
    result = json.loads(out)
    assert (child.returncode, result["exit_code"], result["problem"]) == (3, 3, "")
    assert product.git("show", "shell/session-1:f") == "x"
    assert product.git("rev-list", "main..shell/session-1").splitlines() == result["commits"]
    events = Path(result["event_log"]).read_text().splitlines()
    assert json.loads(events[-1])["event"] == "session-end"
    assert json.loads(product.command("list", "--json").stdout)["state"] == "ended"
    assert os.get_blocking(writable), "the flag is everybody's who shares the pipe"
    os.close(writable)
    with open(readable, "rb") as pipe:
        assert pipe.read() == b"." * held


@pytest.mark.parametrize("number", [None, signal.SIGTERM])
def test_the_result_waits_for_its_reader_when_the_session_is_settled(
    product: Product, number: signal.Signals | None
) -> None:
    readable, writable, held = _full_pipe()
    child = _start_with(product, writable, subprocess.DEVNULL)
    os.close(writable)
    try:
        deadline = time.monotonic() + 60
        while json.loads(product.command("list", "--json").stdout or "{}").get("state") != "ended":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert product.git("show", "shell/session-1:f") == "x"
        assert _writes_to(child.pid, 1)
        if number is not None:
            child.send_signal(number)
            assert child.wait(timeout=30) == -number
        with open(readable, "rb") as pipe:
            said = pipe.read()[held:]
        assert child.wait(timeout=30) == (3 if number is None else -number)
    finally:
        child.kill()
        child.wait()
    assert (json.loads(said)["exit_code"] == 3) if number is None else (said == b"")


def _writes_to(pid: int, fd: int) -> bool:
    """Whether the process comes to wait in a write to that descriptor, by the kernel's own account."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        call = Path(f"/proc/{pid}/syscall").read_text().split()
        if call[:2] == [str(1), hex(fd)]:  # x86_64: write
            return True
        time.sleep(0.02)
    return False


def _wait_for(product: Product, child: subprocess.Popen[bytes]) -> None:
    """Until the agent has written its file."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if any(product.sessions.glob("*/workspace/f")):
            return
        assert child.poll() is None, child.communicate()
        time.sleep(0.02)
    raise AssertionError("the agent did not start")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_ending_signal_returns_the_work(product: Product, number: signal.Signals) -> None:
    child = product.start("echo x > f; sleep 1000")
    _wait_for(product, child)
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 128 + number, err
    assert product.git("show", "shell/session-1:f") == "x"
    assert json.loads(out)["reason"] == number.name


def test_ctrl_c_in_the_whole_process_group_returns_the_work(product: Product) -> None:
    child = product.start("echo x > f; sleep 1000")
    _wait_for(product, child)
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does
    child.communicate(timeout=60)
    assert child.returncode == 130
    assert product.git("show", "shell/session-1:f") == "x"


def test_a_killed_launcher_takes_the_agent_with_it_and_recover_returns_the_work(product: Product) -> None:
    child = product.start("echo x > f; git add f; git commit -qm one; echo y > g; sleep 1000")
    _wait_for(product, child)
    time.sleep(0.5)
    child.kill()
    child.communicate(timeout=60)
    _no_orphan_within(30)
    listed = json.loads(product.command("list", "--json").stdout)
    assert listed["state"] == "interrupted"
    recovered = product.command("recover")
    assert recovered.status == 0, recovered.stderr
    assert product.git("show", "shell/session-1:g") == "y"
    assert product.git("log", "--format=%s", "main..shell/session-1").splitlines()[-1] == "one"
    assert product.command("recover").stdout == ""


def test_the_last_commit_names_session_and_configuration(product: Product) -> None:
    ran = product.run("echo x > f")
    trailers = product.git("log", "-1", "--format=%(trailers:only)", "shell/session-1").splitlines()
    named = {"Containai-Session": ran.result["session"], "Containai-Config": ran.result["config_sha256"]}
    assert trailers == [f"{key}: {value}" for key, value in named.items()]


def test_after_a_killed_launcher_the_configuration_is_still_named(product: Product) -> None:
    child = product.start("echo x > f; sleep 1000")
    _wait_for(product, child)
    child.kill()
    child.communicate(timeout=60)
    _no_orphan_within(30)
    events = next(product.sessions.glob("*/events.jsonl")).read_text().splitlines()
    digest = next(event["config_sha256"] for event in map(json.loads, events) if event["event"] == "session-config")
    assert product.command("recover").status == 0
    assert (
        product.git("log", "-1", "--format=%(trailers:key=Containai-Config,valueonly)", "shell/session-1").strip()
        == digest
    )


def test_recover_removes_what_died_before_it_had_a_record(product: Product) -> None:
    unborn = product.sessions / "0123456789ab"
    (unborn / "workspace" / "deep").mkdir(parents=True)
    (unborn / "lock").write_text("")
    assert product.command("recover").status == 0
    assert not unborn.exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_kills_at_random_moments_lose_nothing(product: Product) -> None:
    """A kill may fall into the launch, the run or the return."""
    committed_marker = "committed"
    for round_number in range(20):
        child = product.start(
            f"echo {round_number} > work; git add work; git commit -qm w && echo {committed_marker}; sleep 1000"
        )
        time.sleep(secrets.randbelow(900) / 1000)
        child.kill()
        out, _ = child.communicate(timeout=60)
        _no_orphan_within(30)
        before = set(product.branches())
        recovered = product.command("recover")
        assert recovered.status == 0, recovered.stderr
        returned = [
            b
            for b in product.branches()
            if b != "main" and str(round_number) == product.git("show", f"{b}:work", check=False)
        ]
        if committed_marker.encode() in out:
            assert returned, f"round {round_number}: committed work was lost; {before}"
        product.git("fsck", "--strict")
    assert not list(product.sessions.glob("*/workspace"))


def _no_orphan_within(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while found := host_traces()["processes"]:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_twenty_sessions_at_once_on_one_repository(product: Product) -> None:
    children = [product.start(f"echo {n} > work-{n}; sleep 1") for n in range(20)]
    results = []
    for child in children:
        out, err = child.communicate(timeout=200)
        assert child.returncode == 0, err
        results.append(json.loads(out))
    branches = {result["branch"] for result in results}
    assert len(branches) == 20
    found = {product.git("ls-tree", "--name-only", branch).splitlines()[-1] for branch in branches}
    assert found == {f"work-{n}" for n in range(20)}
    # Writers of statements that met leave what they had prepared to git's own clean-up; each wrote in the end.
    assert product.git("fsck", "--strict", "--no-dangling") == ""
    stated = {line.split()[1] for line in product.git("notes", "--ref", "containai", "list").splitlines()}
    assert stated == {result["commits"][-1] for result in results}
    assert not any(Path(product.sessions).glob("*/workspace"))
