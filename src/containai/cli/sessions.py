"""``containai list``."""

from __future__ import annotations

import argparse

from containai.cli.environ import Surroundings
from containai.cli.output import Console, print_json, print_table, printable
from containai.errors import StateError
from containai.session.record import Phase
from containai.session.state import SessionStore


def list_main(args: argparse.Namespace, here: Surroundings, console: Console) -> int:
    """Print every session, oldest first; 1 when one cannot be read."""
    rows = []
    survey = SessionStore(here.state_dir).survey()
    damaged = list(survey.damaged)
    for directory, record in survey.whole:
        try:
            live = directory.is_live
        except StateError as why:
            damaged.append((directory, why))
            live = False
        interrupted = not live and record.phase not in (Phase.ENDED, Phase.UNRETURNED)
        state = "interrupted" if interrupted else record.verdict or record.phase.value
        if args.json:
            print_json(record.as_json() | {"state": state, "live": live})
        else:
            exit_code = "" if record.exit_code is None else str(record.exit_code)
            commits = str(len(record.commits))
            rows.append((record.id, state, record.agent, record.branch, exit_code, commits, record.repository))
    if not args.json:
        header = ("SESSION", "STATE", "AGENT", "BRANCH", "EXIT", "COMMITS", "REPOSITORY")
        print_table(header, [tuple(map(printable, row)) for row in rows])
    for directory, error in damaged:
        console.damaged(directory.id, error)
    return 1 if damaged else 0
