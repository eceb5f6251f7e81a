"""``containai list``."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from containai.cli.environ import Surroundings
from containai.cli.output import Console, print_json, print_table, printable
from containai.session.state import Phase, SessionStore


def list_main(args: argparse.Namespace, here: Surroundings, console: Console) -> int:
    """Print every session, oldest first; 1 when one cannot be read."""
    rows = []
    survey = SessionStore(here.state_dir).survey()
    for directory, record in survey.whole:
        live = directory.is_live
        interrupted = not live and record.phase not in (Phase.ENDED, Phase.UNRETURNED)
        state = "interrupted" if interrupted else record.verdict or record.phase.value
        if args.json:
            print_json(asdict(record) | {"phase": record.phase.value, "state": state, "live": live})
        else:
            exit_code = "" if record.exit_code is None else str(record.exit_code)
            commits = str(len(record.commits))
            rows.append((record.id, state, record.agent, record.branch, exit_code, commits, record.repository))
    if not args.json:
        header = ("SESSION", "STATE", "AGENT", "BRANCH", "EXIT", "COMMITS", "REPOSITORY")
        print_table(header, [tuple(map(printable, row)) for row in rows])
    for directory, error in survey.damaged:
        console.note(printable(f"{directory.id}: {error.summary}: {error.details}"))
    return 1 if survey.damaged else 0
