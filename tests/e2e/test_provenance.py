"""Signed statements about returned commits, through ``containai run`` and ``containai provenance``."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.product import Product

pytestmark = [pytest.mark.user]
NOTES = "refs/notes/containai"
TWO_COMMITS = """
git config user.name A; git config user.email a@example.org
echo one > one; git add one; git commit -qm one
echo two > two; git add two; git commit -qm two
"""


def verdicts(ran_stdout: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ran_stdout.splitlines()]


def clone(product: Product, path: Path, *, notes: bool = True) -> Product:
    """Somebody else: another home, a clone of the repository, no key and no session."""
    subprocess.run(["git", "clone", "-q", "--no-local", product.repository, path], check=True, timeout=60)
    home = path.with_name(f"{path.name}-home")
    home.mkdir(mode=0o700)
    other = Product(home=home, repository=path)
    if notes:
        other.git("fetch", "-q", "origin", f"{NOTES}:{NOTES}", "refs/heads/*:refs/remotes/origin/*")
    return other


def test_returned_commits_verify_here_and_in_a_clone(product: Product, tmp_path: Path) -> None:
    ran = product.run(TWO_COMMITS)
    assert ran.status == 0
    assert len(ran.result["commits"]) == 2
    attested = [event for event in product.events(ran, "git") if event["event"] == "attested"]
    assert len(attested) == 1
    assert attested[0]["new"] == product.git("rev-parse", NOTES)

    key = product.home / ".config/containai/keys/provenance.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    here = product.command("provenance", "verify", "--json", f"main..{ran.result['branch']}")
    assert here.status == 0, here.stderr
    found = verdicts(here.stdout)
    assert [v["commit"] for v in found] == ran.result["commits"]
    for verdict in found:
        (statement,) = verdict["statements"]
        predicate = statement["predicate"]
        assert predicate["session"] == ran.result["session"]
        assert predicate["config_sha256"] == ran.result["config_sha256"]
        assert predicate["policy_sha256"] == ran.result["policy_sha256"]
        assert predicate["base_commit"]["gitCommit"] == product.git("rev-parse", "main")
        assert predicate["branch"] == ran.result["branch"]
        assert "unbroken up to event" in statement["log"]
    shown = product.command("provenance", "show", ran.result["commits"][0])
    assert shown.status == 0
    assert str(product.home) not in shown.stdout
    assert str(product.repository) not in shown.stdout

    public = tmp_path / "signer.pub"
    public.write_text(product.command("provenance", "key").stdout)
    assert "PUBLIC KEY" in public.read_text()
    other = clone(product, tmp_path / "clone")
    for commit in ran.result["commits"]:
        there = other.command("provenance", "verify", "--key", str(public), "--json", commit)
        assert there.status == 0, there.stderr
        assert verdicts(there.stdout)[0]["statements"][0]["log"] == "the session's log is not here"
    assert not (other.home / ".config").exists(), "to verify makes nothing"
    unproven = other.command("provenance", "verify", "--key", str(public), "main")
    assert unproven.status == 1
    assert "provenance.no-note" in unproven.stderr
    without = other.command("provenance", "verify", ran.result["commits"][0])
    assert without.status == 1
    assert "provenance.no-key" in without.stderr
    trusted = other.home / ".config/containai/trusted-keys"
    trusted.mkdir(parents=True, mode=0o700)
    (trusted / "signer.pub").write_text(public.read_text())
    assert other.command("provenance", "verify", ran.result["commits"][0]).status == 0


def test_of_a_range_it_is_plain_which_commit_failed(product: Product) -> None:
    """Results and errors may go to different places, so each says of which commit it is."""
    ran = product.run(TWO_COMMITS)
    product.git("config", "user.name", "A")
    product.git("config", "user.email", "a@example.org")
    product.git("commit", "-q", "--allow-empty", "-m", "mine")
    mine, (one, two) = product.git("rev-parse", "main"), ran.result["commits"]
    product.git("notes", "--ref", NOTES, "remove", one)
    merge = product.git("commit-tree", "-p", two, "-p", mine, "-m", "both", f"{two}^{{tree}}")
    found = product.command("provenance", "verify", f"main~1..{merge}")
    assert found.status == 1
    results = dict(line.split(": ", 1) for line in found.stdout.splitlines() if not line.startswith(" "))
    assert results.keys() == {mine, one, two, merge}
    assert results[two] == "verified"
    for failed in (mine, one, merge):
        assert results[failed].startswith("NOT VERIFIED: provenance.no-note: ")
        assert f"  {failed}" in found.stderr.splitlines()
    assert found.stderr.count("error[") == 1  # what to do is said once, and why stands with each result
    assert "error[provenance.no-note]: 3 of 4 commits not verified" in found.stderr
    assert two not in found.stderr
    # The reason stands below its own result, before the next.
    log = Path(ran.result["event_log"])
    log.write_bytes(log.read_bytes().replace(b'"started"', b'"stopped"'))
    lines = product.command("provenance", "verify", f"main..{two}").stdout.splitlines()
    begins = [index for index, line in enumerate(lines) if not line.startswith(" ")]
    assert [lines[index][:40] for index in begins] == [one, two]
    assert lines[begins[1]].startswith(f"{two}: NOT VERIFIED: provenance.log-broken: ")
    assert lines[begins[1] + 1 :], "the details"


def test_a_changed_log_is_noticed(product: Product) -> None:
    ran = product.run("echo one > one")
    commit = ran.result["commits"][0]
    log = Path(ran.result["event_log"])
    original = log.read_bytes()
    log.write_bytes(original.replace(b'"started"', b'"stopped"'))
    changed = product.command("provenance", "verify", commit)
    assert (changed.status, "provenance.log-broken" in changed.stderr) == (1, True)
    log.write_bytes(b"".join(original.splitlines(keepends=True)[:3]))
    short = product.command("provenance", "verify", commit)
    assert (short.status, "provenance.log-short" in short.stderr) == (1, True)
    log.write_bytes(original)
    assert product.command("provenance", "verify", commit).status == 0


def test_a_key_that_others_can_read_signs_nothing_and_costs_no_work(product: Product) -> None:
    assert product.command("provenance", "key").status == 0
    key = product.home / ".config/containai/keys/provenance.pem"
    key.chmod(0o640)
    ran = product.run("echo one > one")
    assert ran.status == 0
    assert len(ran.result["commits"]) == 1
    assert product.git("show", f"{ran.result['branch']}:one") == "one"
    assert any("no signed statement" in note and "0640" in note for note in ran.result["notes"])
    assert product.git("for-each-ref", NOTES) == ""
    assert [event["event"] for event in product.events(ran, "git")].count("not-attested") == 1


def test_no_commit_no_statement_and_no_key(product: Product) -> None:
    assert product.run("true").status == 0
    assert product.git("for-each-ref", NOTES) == ""
    assert not (product.home / ".config").exists()


def test_two_sessions_that_end_together_are_both_proven(product: Product) -> None:
    running = [product.start(f"echo {name} > {name}", "--network-proxy", "none") for name in ("a", "b")]
    results = [json.loads(child.communicate(timeout=90)[0]) for child in running]
    commits = [result["commits"][0] for result in results]
    for commit in commits:
        proven = product.command("provenance", "verify", commit)
        assert proven.status == 0, proven.stderr


def test_recover_signs_what_it_returns(product: Product) -> None:
    ran = product.run("echo one > one", "--no-push")
    assert product.git("for-each-ref", NOTES) == ""
    recovered = product.command("recover", ran.result["session"])
    assert recovered.status == 0, recovered.stderr
    proven = product.command("provenance", "verify", "--json", ran.result["branch"])
    assert proven.status == 0, proven.stderr
    predicate = verdicts(proven.stdout)[0]["statements"][0]["predicate"]
    # Those of the session that ran, not of the plan that recover has made for itself.
    assert predicate["config_sha256"] == ran.result["config_sha256"]
    assert predicate["policy_sha256"] == ran.result["policy_sha256"]


def test_usage(product: Product) -> None:
    assert product.command("provenance").status == 2
    assert product.command("provenance", "verify").status == 2
    nowhere = replace(product, repository=product.home)
    assert nowhere.command("provenance", "verify", "HEAD").status == 2
    assert os.listdir(product.home) == []
