"""One answer for doctor and run: everything that refuses, together."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from containai.errors import PreflightRefused
from containai.host.cgroups import NoDelegation
from containai.preflight.checks import check
from containai.preflight.model import Tool, Verdict
from containai.preflight.report import as_json, refuse_if_needed, verdict_of
from tests.unit.preflight.test_checks import BAD, GOOD, UNKNOWN, with_

pytestmark = pytest.mark.user


def test_a_good_host_is_not_refused() -> None:
    refuse_if_needed(GOOD, "embedded")
    assert verdict_of(check(GOOD, "embedded")) == "ready"


def test_all_refusals_are_shown_together() -> None:
    facts = with_(
        ptrace_scope=0, git=Tool(), delegation=NoDelegation(reason="no group", remedy=("sudo mkdir /g", "# note"))
    )
    with pytest.raises(PreflightRefused) as refused:
        refuse_if_needed(facts, "embedded")
    error = refused.value
    assert error.code == "preflight.ptrace_scope"
    assert error.exit_status == 125
    for part in ("ptrace_scope is 0", "no group", "git: not installed", "secrets, of any other process"):
        assert part in error.details
    assert {"sudo sysctl -w kernel.yama.ptrace_scope=1", "sudo mkdir /g", "sudo apt-get install git"} <= set(
        error.remedy
    )


def test_the_commands_of_one_check_stay_together_in_their_order() -> None:
    """Those that end with a reboot, and those that a reboot would undo."""
    facts = with_(apparmor_enabled=False, ptrace_scope=None, docker=None)
    with pytest.raises(PreflightRefused) as refused:
        refuse_if_needed(facts, "docker")
    lines = refused.value.remedy
    heads = {
        name: number
        for number, line in enumerate(lines)
        if line.startswith("# ") and line.endswith(":")
        for name in line[2:-1].split(", ")
    }
    for finding in check(facts, "docker"):
        if finding.verdict is Verdict.REFUSE:
            begin = heads[finding.id] + 1
            assert lines[begin : begin + len(finding.remedy)] == finding.remedy
    assert lines.count("sudo reboot") > 2


def test_what_could_not_be_tried_does_not_come_first() -> None:
    with pytest.raises(PreflightRefused) as refused:
        refuse_if_needed(with_(bwrap=Tool(), probe=None), "embedded")
    assert refused.value.code == "preflight.bubblewrap"
    assert refused.value.details.startswith("bubblewrap: not installed")
    assert refused.value.details.index("tmpfs: could not be tried") < refused.value.details.index("namespaces: could")


def test_a_remedy_is_shown_once() -> None:
    facts = replace(GOOD, bwrap=Tool(), probe=None)
    with pytest.raises(PreflightRefused) as refused:
        refuse_if_needed(facts, "embedded")
    assert refused.value.remedy.count("sudo apt-get install bubblewrap") == 1


@pytest.mark.parametrize("changes", [changes for _, changes, _ in BAD] + [changes for _, changes in UNKNOWN] + [{}])
def test_run_refuses_exactly_where_doctor_does(changes: dict[str, object]) -> None:
    """P7."""
    facts = with_(**changes)
    try:
        refuse_if_needed(facts, "embedded")
        launched = "ready"
    except PreflightRefused:
        launched = "refused"
    assert launched == as_json("embedded", check(facts, "embedded"))["verdict"]


def test_json_is_the_contract() -> None:
    said = json.loads(json.dumps(as_json("embedded", check(with_(ptrace_scope=0), "embedded"))))
    assert set(said) == {"engine", "verdict", "findings"}
    assert (said["engine"], said["verdict"]) == ("embedded", "refused")
    for finding in said["findings"]:
        assert set(finding) == {"id", "state", "verdict", "summary", "why", "remedy"}
        assert finding["state"] in ("on", "off", "unknown")
        assert finding["verdict"] in ("pass", "warn", "refuse")
        assert isinstance(finding["remedy"], list)
