"""What the record of every exec costs: to short programs and to a build; in a session, bubblewrap, strace, outside."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from bench.measure import Case, Values, interleave, ratio, spread, table
from bench.place import Place, run, small_repository

_COUNT = 500
_FORKS = f"""
a=$(date +%s%N); i=0
while [ $i -lt {_COUNT} ]; do /bin/true; i=$((i + 1)); done
echo "spent $(($(date +%s%N) - a))"
"""
# Sources of a few dozen lines: much process for little work, as in a build from scratch of many small files.
_BUILD = r"""
d=$(mktemp -d); cd "$d"; i=0
while [ $i -lt 40 ]; do
    { echo '#include <stdio.h>'; j=0
      while [ $j -lt 60 ]; do echo "int f${i}_$j(int x) { return x * $j + printf(\"%d\", x); }"; j=$((j + 1)); done
    } > f$i.c; i=$((i + 1))
done
echo 'int main(void) { return 0; }' > main.c
printf 'all: $(patsubst %%.c,%%.o,$(wildcard *.c))\n\tcc -o all $^\n%%.o: %%.c\n\tcc -O1 -c -o $@ $<\n' > Makefile
a=$(date +%s%N); make -s -j2 >/dev/null; b=$(date +%s%N); test -x all && echo "spent $((b - a))"
cd /; rm -rf "$d"
"""
_OUTSIDE, _OURS = "outside", "**in a session**"
_STRACE = ("strace", "-f", "--seccomp-bpf", "-e", "trace=execve,execveat", "-o", "/dev/null")
_BWRAP = (
    *("bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/"),
    *("--tmpfs", "/tmp", "--dev", "/dev", "--proc", "/proc"),
)


def section(place: Place, rounds: int) -> Iterator[str]:
    yield "## Cost of supervision\n"
    yield f"Over {rounds} rounds in turns: median (lowest to highest).\n"
    yield from _workload(
        place, rounds, _FORKS, _COUNT, 1e6, f"A shell forks and executes `/bin/true` {_COUNT} times", "each, µs"
    )
    if shutil.which("cc") and shutil.which("make"):
        yield from _workload(place, rounds, _BUILD, 1, 1e3, "`make -j2` of 41 C files of 60 functions each", "ms")
    else:
        yield "**Not measured: a build: there is no cc or no make**\n"


def _workload(place: Place, rounds: int, script: str, count: int, unit: float, what: str, column: str) -> Iterator[str]:
    repository = place.work / "small"
    if not repository.exists():
        small_repository(place)
    shell = ["/bin/sh", "-c", script]

    def case(argv: list[str], cwd: Path | None = None) -> Case:
        def measure() -> Values:
            match = re.search(r"^spent (\d+)$", run(argv, cwd=cwd, env=place.environment), re.MULTILINE)
            assert match
            return {"spent": int(match[1]) / 1e9 / count}

        return measure

    cases = {_OUTSIDE: case(shell), _OURS: case(place.session(repository, *shell))}
    if shutil.which("bwrap"):
        cases["in bubblewrap alone"] = case([*_BWRAP, *shell])
    if shutil.which("strace"):
        cases["under `strace -f --seccomp-bpf`"] = case([*_STRACE, *shell])
    results = interleave(cases, rounds)
    base = results[_OUTSIDE]
    yield f"{what}:\n"
    rows = [
        [name, spread(values, "spent", unit), f"{ratio(values, base, 'spent'):.2f}"] for name, values in results.items()
    ]
    yield table(["", column, "× outside"], rows)
