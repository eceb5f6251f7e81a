"""The main path: an agent runs contained, and its work comes back."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from containai.audit.chain import find_break
from tests.support.product import Product

pytestmark = [pytest.mark.user, pytest.mark.usefixtures("nothing_left")]


def test_untracked_work_comes_back_on_a_branch_of_its_own(product: Product) -> None:
    before = product.git("rev-parse", "main")
    ran = product.run("echo hello > note.txt; mkdir -p deep/er && echo x > deep/er/file")
    assert ran.status == 0, ran.stderr
    assert ran.result["branch"] == "shell/session-1"
    assert product.git("show", "shell/session-1:note.txt") == "hello"
    assert product.git("show", "shell/session-1:deep/er/file") == "x"
    assert ran.result["commits"] == [product.git("rev-parse", "shell/session-1")]
    assert ran.result["base_commit"] == before == product.git("rev-parse", "main")
    assert product.git("status", "--porcelain") == ""
    assert not (product.repository / "note.txt").exists()
    assert f"Containai-Session: {ran.result['session']}" in product.git("log", "-1", "--format=%B", "shell/session-1")


def test_commits_of_the_agent_come_back_in_order(product: Product) -> None:
    ran = product.run("for i in 1 2 3; do echo $i > f; git add f; git commit -qm c$i; done; echo rest > rest")
    assert product.git("log", "--format=%s", "--reverse", "main..shell/session-1").splitlines()[:3] == [
        "c1",
        "c2",
        "c3",
    ]
    assert ran.result["commits"] == product.git("rev-list", "--reverse", "main..shell/session-1").splitlines()
    assert product.git("show", "shell/session-1:rest") == "rest"


def test_nothing_done_leaves_no_branch(product: Product) -> None:
    ran = product.run("true")
    assert ran.result["commits"] == []
    assert ran.result["pushed"] is False
    assert product.branches() == ["main"]


def test_branches_are_numbered_lowest_free(product: Product) -> None:
    names = [product.run("date +%N > f").result["branch"] for _ in range(3)]
    assert names == ["shell/session-1", "shell/session-2", "shell/session-3"]
    product.git("branch", "-D", "shell/session-2")
    assert product.run("date +%N > f").result["branch"] == "shell/session-2"


def test_the_result_has_every_field_of_the_contract(product: Product) -> None:
    ran = product.run("echo x > f; exit 3")
    assert ran.status == ran.result["exit_code"] == 3
    for name in ("session", "name", "agent", "engine", "branch", "base_commit", "commits", "pushed", "exit_code",
                 "config_sha256", "policy_sha256", "event_log", "duration_s", "startup_s"):  # fmt: skip
        assert name in ran.result
    assert 0 < ran.result["startup_s"] < ran.result["duration_s"]
    assert len(ran.result["config_sha256"]) == len(ran.result["policy_sha256"]) == 64


def test_the_agent_sees_the_digest_of_its_configuration(product: Product) -> None:
    ran = product.run("echo $CONTAINAI_SESSION_CONFIG_SHA256")
    assert ran.printed.strip() == ran.result["config_sha256"]


def test_the_log_tells_every_exec_and_its_chain_holds(product: Product) -> None:
    ran = product.run("/usr/bin/env true; cat /dev/null")
    paths = [event["path"] for event in product.events(ran, "exec")]
    assert "/usr/bin/env" in paths
    assert any(path.endswith("/true") for path in paths)
    assert any(path.endswith("/cat") for path in paths)
    log = Path(ran.result["event_log"])
    with log.open("rb") as lines:
        assert find_break(lines) is None
    assert log.stat().st_mode & 0o777 == 0o600
    words = [event["event"] for event in product.events(ran, "session")]
    assert words[0] == "session-config"
    assert words[-1] == "session-end"


def test_the_log_for_people_keeps_words_apart_and_is_short(product: Product) -> None:
    ran = product.run("echo 'two  words' a\\'b >/dev/null; /usr/bin/env true 'c d' ''", "--network-proxy", "none")
    lines = [line[14:] for line in product.command("log", ran.result["session"]).stdout.splitlines()]
    began = f"session-config agent shell, branch {ran.result['branch']}, network none, command sh -c "
    assert lines[0].startswith(f"session         {began}")
    assert lines[0].endswith(" (--json for all)")
    executed = [line.partition("] ")[2] for line in lines if line.startswith("exec     allow")]
    assert "/usr/bin/env true 'c d' ''" in executed
    assert "/usr/bin/true 'c d' ''  (not in 3 places before)" in executed
    assert not any(line.startswith("exec     absent") for line in lines)
    counted = [line for line in lines if line.endswith(" of the last commit (--kind exec for all)")]
    ours = [event for event in product.events(ran, "exec") if event.get("container") == "finish"]
    assert sum(int(line.split()[2]) for line in counted) == len(ours) > 10
    assert not any(line.endswith("(finish)") for line in lines)
    whole = product.command("log", ran.result["session"], "--kind", "exec").stdout.splitlines()
    (finish,) = [line for line in whole if "] /bin/sh -c " in line]
    assert finish.endswith("... (--json for all)  (finish)")
    assert max(map(len, [*lines, *whole])) < 520
    assert not any(line.endswith(" ") for line in lines)


def test_a_letter_that_the_terminal_lacks_does_not_end_the_log(product: Product) -> None:
    ran = product.run("/usr/bin/true →; /usr/bin/true last")
    elsewhere = replace(product, variables={"PYTHONIOENCODING": "latin-1"})
    shown = elsewhere.command("log", ran.result["session"], "--kind", "exec")
    assert shown.status == 0, shown.stderr
    assert "/usr/bin/true '\\u2192'" in shown.stdout
    assert "/usr/bin/true last" in shown.stdout


def test_an_agent_that_is_not_signed_in_is_told_of_the_variable_that_is_there(product: Product) -> None:
    program = product.home / ".local/bin/claude"  # any native program
    program.parent.mkdir(parents=True)
    shutil.copy("/bin/true", program)
    product = replace(product, variables={"PATH": "/nonexistent", "ANTHROPIC_API_KEY": "sk-not-to-be-seen"})
    ran = product.command("run", "--agent", "claude", "--prompt", "x", "--network-proxy", "none")
    assert ran.status == 0, ran.stderr
    note = "no sign-in of Claude Code was found, and ANTHROPIC_API_KEY is not passed: --env ANTHROPIC_API_KEY"
    assert f"containai: note: {note}\n" in ran.stderr
    kept = [path.read_text() for path in product.sessions.glob("*/*.json*")]
    assert len(kept) == 2
    assert not any("sk-not-to-be-seen" in text for text in (ran.stderr, *kept))


def test_an_edited_removed_or_moved_line_breaks_the_chain(product: Product) -> None:
    lines = Path(product.run("true").result["event_log"]).read_bytes().splitlines(keepends=True)
    edited = [line.replace(b'"verdict":"allow"', b'"verdict":"deny"', 1) for line in lines]
    assert edited != lines
    for forged in (
        edited,
        lines[:2] + lines[3:],
        [lines[1], lines[0], *lines[2:]],
        [*lines[:-1], lines[-1][:-9] + b"\n"],
    ):
        assert find_break(forged) is not None
    assert find_break(lines) is None


def test_log_prints_events_as_json_by_kind(product: Product) -> None:
    ran = product.run("true")
    shown = product.command("log", ran.result["session"], "--kind", "exec", "--json")
    events = [json.loads(line) for line in shown.stdout.splitlines()]
    assert events
    assert {event["kind"] for event in events} == {"exec"}
    assert {"seq", "ts", "session", "event", "pid", "path", "argv", "verdict"} <= set(events[0])


def test_list_shows_the_session(product: Product) -> None:
    ran = product.run("echo x > f")
    listed = json.loads(product.command("list", "--json").stdout)
    assert (listed["id"], listed["state"], listed["branch"]) == (ran.result["session"], "ended", "shell/session-1")


def test_standard_streams_pass_through_whole(product: Product) -> None:
    data = os.urandom(3_000_000)
    ran = product.command("run", "--", "sh", "-c", "tee copy | sha256sum; echo complaint >&2", stdin=data)
    import hashlib

    assert ran.stdout.split()[0] == hashlib.sha256(data).hexdigest()
    assert "complaint" in ran.stderr
    assert ran.status == 0


def test_no_push_keeps_the_work_in_the_session_until_recovered(product: Product) -> None:
    ran = product.run("echo kept > f", "--no-push")
    assert ran.result["pushed"] is False
    assert product.git("rev-parse", "shell/session-1") == ran.result["base_commit"]
    recovered = product.command("recover", ran.result["session"])
    assert recovered.status == 0, recovered.stderr
    assert product.git("show", "shell/session-1:f") == "kept"


def test_named_branch_and_its_archive(product: Product) -> None:
    first = product.run("echo 1 > f", "-b", "topic")
    assert first.result["branch"] == "shell/topic"
    again = product.command("run", "-b", "topic", "--", "true")
    assert again.status == 125
    assert "error[workspace." in again.stderr
    second = product.run("echo 2 > f", "-b", "topic", "-y")
    assert product.git("show", "shell/topic:f") == "2", second.stderr
    archived = [name for name in product.branches() if name.startswith("shell/topic-archived-")]
    assert [product.git("show", f"{name}:f") for name in archived] == ["1"]


def test_push_from_inside_works_at_any_time_and_only_to_its_branch(product: Product) -> None:
    ran = product.run(
        "echo 1 > f; git add f; git commit -qm one; git push local || exit 9;"
        "git push local HEAD:refs/heads/main && exit 8; git push local HEAD:refs/heads/other && exit 7;"
        "git push local :refs/heads/shell/session-1 && exit 6; exit 0"
    )
    assert ran.status == 0, ran.stderr
    assert product.git("rev-parse", "main") == ran.result["base_commit"]
    assert product.branches() == ["main", "shell/session-1"]
    refused = {event["ref"] for event in product.events(ran, "git") if event["verdict"] == "deny"}
    assert {"refs/heads/main", "refs/heads/other"} <= refused
