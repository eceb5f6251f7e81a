"""How long a session takes to start, and whole, beside other tools that run the same command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from bench.measure import Values, interleave, ratio, spread, table
from bench.peers import obtain_peers
from bench.place import Place, small_repository, timed_session

_OURS = "**containai run**"


def section(place: Place, rounds: int) -> Iterator[str]:
    repository = small_repository(place)

    def session() -> Values:
        return timed_session(place, repository)

    with ExitStack() as stack:
        peers, absent = obtain_peers(place, repository, stack)
        results = interleave({_OURS: session, **{name: peer.case for name, peer in peers.items()}}, rounds)
    ours = results[_OURS]
    yield "## Start of a session\n"
    yield (
        f"Each tool runs `date +%s%N`, which tells when the command began, {rounds} times, in turns, in a repository "
        "of three files. *Start*: from the call to the command's first instructions. *Whole*: to the end of the tool. "
        "Milliseconds: median (lowest to highest); the ratios are medians over the rounds.\n"
    )
    rows = [
        [
            name,
            spread(values, "start"),
            f"{ratio(ours, values, 'start'):.2f}",
            spread(values, "whole"),
            f"{ratio(ours, values, 'whole'):.2f}",
        ]
        for name, values in results.items()
    ]
    rows += [[name, "absent", "", "absent", ""] for name in absent]
    yield table(["", "start, ms", "containai is × this", "whole, ms", "containai is × this"], rows)
    yield f"ContainAI's own `startup_s`: {spread(ours, 'reported')} ms; the goal is below 250 ms.\n"
    yield from (f"- Absent: {name}: {reason}." for name, reason in absent.items())
    yield from (f"- {name}: {peer.note}." for name, peer in peers.items() if peer.note)
    yield (
        "\nThe tools do not do the same. Of these, ContainAI alone makes a branch and a clone, starts a proxy with a "
        "log, reads every guard back from the kernel and brings the work home.\n"
    )
