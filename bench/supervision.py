"""What the log of every execution costs: many short programs inside a session, in bubblewrap, and outside."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from bench.measure import Case, Values, interleave, ratio, spread, table
from bench.place import Place, run

_COUNT = 500
_SCRIPT = f"""
a=$(date +%s%N); i=0
while [ $i -lt {_COUNT} ]; do /bin/true; i=$((i + 1)); done
echo "spent $(($(date +%s%N) - a))"
"""
_OUTSIDE, _OURS = "outside", "**in a session**"


def section(place: Place, rounds: int) -> Iterator[str]:
    repository = place.work / "small"
    shell = ["/bin/sh", "-c", _SCRIPT]

    def case(argv: list[str], cwd: Path | None = None) -> Case:
        def measure() -> Values:
            match = re.search(r"^spent (\d+)$", run(argv, cwd=cwd, env=place.environment), re.MULTILINE)
            assert match
            return {"each": int(match[1]) / 1e9 / _COUNT}

        return measure

    cases = {_OUTSIDE: case(shell), _OURS: case(place.session(repository, *shell))}
    if shutil.which("bwrap"):
        bwrap = [
            "bwrap",
            "--unshare-all",
            "--die-with-parent",
            "--ro-bind",
            "/",
            "/",
            "--dev",
            "/dev",
            "--proc",
            "/proc",
        ]
        cases["in bubblewrap alone"] = case([*bwrap, *shell])
    results = interleave(cases, rounds)
    base = results[_OUTSIDE]
    yield "## Cost of supervision\n"
    yield (
        f"A shell forks and executes `/bin/true` {_COUNT} times; microseconds for each, over {rounds} rounds in turns: "
        "median (lowest to highest).\n"
    )
    rows = [
        [name, spread(values, "each", 1e6), f"{ratio(values, base, 'each'):.2f}"] for name, values in results.items()
    ]
    yield table(["", "fork, exec and wait, µs", "× outside"], rows)
