"""``containai recover``: finish what an interruption left."""

from __future__ import annotations

import argparse

from containai.cli.environ import Surroundings
from containai.cli.output import Console, print_json, printable
from containai.errors import ContainaiError
from containai.session.recover import Recovered, recover_all


def main(args: argparse.Namespace, here: Surroundings, console: Console) -> int:
    """Recover one session, or all that need it; 1 when one could not be."""
    failed, nothing = False, True
    for recovered in recover_all(here.state_dir, args.session, config_dir=here.config_file.parent):
        failed, nothing = failed or bool(recovered.problem), False
        if args.json:
            print_json(recovered.as_json())
        else:
            _tell(recovered, console)
    if nothing and not args.json:
        console.progress("nothing to recover")
    return 1 if failed else 0


def _tell(recovered: Recovered, console: Console) -> None:
    for note in recovered.notes:
        console.note(printable(note))
    if recovered.problem:
        _complain(recovered, console)
    elif recovered.commits:
        count = f"{len(recovered.commits)} commit{'s' * (len(recovered.commits) != 1)}"
        print(f"{recovered.session}: {count} on {recovered.branch}")
        console.progress(f"look: containai review {recovered.session}")
    else:
        print(f"{recovered.session}: nothing to return; cleaned up")


def _complain(recovered: Recovered, console: Console) -> None:
    said = f"session {recovered.session} was not recovered"
    if recovered.code:
        console.error(ContainaiError(said, code=recovered.code, details=recovered.problem, remedy=recovered.remedy))
    else:  # a return that failed: its code stands in what it says
        console.note(printable(f"{said}: {recovered.problem}"))
