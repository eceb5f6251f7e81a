"""What the record of every exec costs: to short programs and to a build; in a session, bubblewrap, strace, outside."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.measure import Case, Values, interleave, ratio, spread, table
from bench.peers import SANDLOCK, sandlock
from bench.place import Absent, Place, git, run, small_repository

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
# What a program needs lies in the repository, and the system's programs are meant, so that every tool finds the same;
# each works on a copy in a directory of its own.
_COPY = """PATH=/usr/local/bin:/usr/bin:/bin; unset PYTHONPYCACHEPREFIX PYTHONPATH PYTHONHOME
d=$(mktemp -d); cp -r . "$d"; cd "$d"; a=$(date +%s%N)
"""
_DONE = '\necho "spent $(($(date +%s%N) - a))"; cd /; rm -rf "$d"'
_TOOLZ, _PYTEST, _EXPRESS = "toolz==0.12.1", "pytest==8.3.4", "4.21.2"
_TESTS = f"{_COPY}PYTHONPATH=$d/site python3 -m pytest -q -p no:cacheprovider site/toolz >&2 || exit 1{_DONE}"
_NPM = f"{_COPY}npm ci --silent --offline --no-audit --no-fund --cache ./cache >&2 || exit 1{_DONE}"
_OUTSIDE, _OURS, _BUBBLEWRAP = "outside", "**in a session**", "in bubblewrap alone"
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
    suite = _with_suite(place)
    yield from _workload(place, rounds, _TESTS, 1, 1e3, f"The 180 tests of {_TOOLZ} with {_PYTEST}", "ms", suite)
    if shutil.which("npm"):
        what = f"`npm ci` of express {_EXPRESS} and all that it needs, from a local cache"
        yield from _workload(place, rounds, _NPM, 1, 1e3, what, "ms", _with_cache(place))
    else:
        yield "**Not measured: npm: there is none**\n"


def _with_suite(place: Place) -> Path:
    repository = place.work / "suite"
    repository.mkdir()
    run([sys.executable, "-m", "pip", "install", "-q", "--target", str(repository / "site"), _TOOLZ, _PYTEST])
    return _committed(repository)


def _with_cache(place: Place) -> Path:
    repository = place.work / "npm"
    repository.mkdir()
    (repository / "package.json").write_text(
        json.dumps({"name": "bench", "version": "1.0.0", "dependencies": {"express": _EXPRESS}})
    )
    registry = run(["npm", "config", "get", "registry"]).strip()  # the cache is filed under it
    (repository / ".npmrc").write_text(f"registry={registry}\n")
    run(
        [
            "npm",
            "install",
            "--silent",
            "--no-audit",
            "--no-fund",
            "--no-omit-lockfile-registry-resolved",
            "--cache",
            "./cache",
        ],
        cwd=repository,
    )
    shutil.rmtree(repository / "node_modules")
    return _committed(repository)


def _committed(repository: Path) -> Path:
    git(repository, "init", "-q", "-b", "main")
    git(repository, "add", "-f", ".")
    git(repository, "commit", "-q", "-m", "All that is needed")
    return repository


def _workload(
    place: Place,
    rounds: int,
    script: str,
    count: int,
    unit: float,
    what: str,
    column: str,
    repository: Path | None = None,
) -> Iterator[str]:
    if repository is None:
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

    cases = {_OUTSIDE: case(shell, repository), _OURS: case(place.session(repository, *shell))}
    if shutil.which("bwrap"):
        cases[_BUBBLEWRAP] = case([*_BWRAP, *shell], repository)
    if shutil.which("strace"):
        cases["under `strace -f --seccomp-bpf`"] = case([*_STRACE, *shell], repository)
    try:
        cases[f"under sandlock ({SANDLOCK})"] = case([*sandlock(place), *shell], repository)
    except Absent as reason:
        yield f"Absent: sandlock: {reason}.\n"
    results = interleave(cases, rounds)
    base = results[_OUTSIDE]
    confined = results.get(_BUBBLEWRAP)
    yield f"{what}:\n"
    rows = [
        [
            name,
            spread(values, "spent", unit),
            f"{ratio(values, base, 'spent'):.2f}",
            f"{ratio(values, confined, 'spent'):.2f}" if confined else "",
        ]
        for name, values in results.items()
    ]
    yield table(["", column, "× outside", "× bubblewrap"], rows)
