"""``containai selftest``: attack your own sandbox, and see what held."""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import version
from itertools import groupby

from containai.cli.environ import Surroundings
from containai.cli.output import Console, print_json, printable
from containai.selftest.catalogue import load_catalogue
from containai.selftest.result import SelfTest, Verdict, write_signed
from containai.selftest.run import Ground, refuse_unfit_host, run_selftest


def main(args: argparse.Namespace, here: Surroundings, console: Console) -> int:
    """Attack and tell; 0 only when nothing broke."""
    if args.list:
        for name, claim in load_catalogue().items():
            print(f"{name:<45} {claim}")
        return 0
    ground = Ground(
        launcher=(sys.executable, "-m", "containai"),
        variables=here.variables,
        home=here.home,
        state_dir=here.state_dir,
        config_file=here.config_file,
        docker_host=here.docker_host,
    )
    refuse_unfit_host(ground, args.engine)
    console.progress(f"{len(load_catalogue())} attacks, from inside three sessions")
    test = run_selftest(ground, args.engine, version("containai"))
    place = write_signed(test, here.state_dir, here.config_file.parent)
    if args.json:
        print_json({**test.as_json(), "signed": str(place)})
    else:
        _tell(test, verbose=args.verbose)
        console.progress(f"signed result: {place}")
    return 1 if test.of(Verdict.BROKEN) else 0


def _tell(test: SelfTest, *, verbose: bool) -> None:
    for theme, group in groupby(test.findings, key=lambda finding: finding.id.partition(".")[0]):
        findings = list(group)
        held = sum(finding.verdict is Verdict.HELD for finding in findings)
        print(f"{theme:<12} {held} of {len(findings)} held")
        for finding in findings:
            if verbose or finding.verdict is not Verdict.HELD:
                word = {"held": "held", "broken": "BROKEN", "unavailable": "not tried"}[finding.verdict.value]
                print(printable(f"  {word:<9}  {finding.id}: {finding.claim} ({finding.detail})"))
    broken, untried = len(test.of(Verdict.BROKEN)), len(test.of(Verdict.UNAVAILABLE))
    print(
        f"\n{len(test.of(Verdict.HELD))} held, {broken} broken, {untried} not tried; "
        f"engine {test.engine}, {test.duration_s:.1f} s"
    )
    if broken:
        print("What is broken is a defect, or a change of this machine's: please report it.")
