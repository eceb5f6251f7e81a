"""``containai doctor``: the same checks as a launch, shown."""

from __future__ import annotations

import argparse

from containai.cli.environ import Surroundings
from containai.cli.output import Console, print_json, print_table, printable
from containai.preflight.checks import check
from containai.preflight.facts import Trials
from containai.preflight.model import Finding, State, Verdict
from containai.preflight.report import as_json, verdict_of
from containai.session.engines import ask_docker, every_image, look_at_host, settle_engine
from containai.session.identity import choose_identity

_NOTE = "Allowed hosts are not all harmless: many take uploads (gists, packages). See docs/network.md."  # N7


def main(args: argparse.Namespace, here: Surroundings, _console: Console) -> int:
    """Print the findings; 1 when the engine is refused."""
    trials = Trials(choose_identity())
    docker = ask_docker(args.engine, here.docker_host, every_image(), apparmor=trials.apparmor_enabled)
    facts = look_at_host(trials, here.state_dir, with_proxy=True, docker=docker)
    engine, _ = settle_engine(args.engine, facts)
    findings = check(facts, engine)
    verdict = verdict_of(findings)
    if args.json:
        print_json(as_json(engine, findings))
    else:
        print_table(("CHECK", "STATE", "", "WHAT WAS FOUND"), [_row(finding) for finding in findings])
        for finding in findings:
            _explain(finding)
        print(f"\nengine {engine}: {verdict}")
        if verdict == "ready":
            print(_NOTE)
    return 0 if verdict == "ready" else 1


def _row(finding: Finding) -> tuple[str, str, str, str]:
    return finding.id, finding.state.value, finding.verdict.value, printable(finding.summary)


def _explain(finding: Finding) -> None:
    if finding.verdict is Verdict.PASS and finding.state is not State.UNKNOWN:
        return
    print(f"\n{finding.id}: {finding.why}")
    for line in finding.remedy:
        print(f"    {line}")
