"""What Docker's default seccomp profile allows, as recorded, and the questions that are asked of two filters.

The record is tests/data/docker-default-seccomp.txt; tests/docker/test_default_profile.py asks a running Docker itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from containai.render.seccomp import SeccompProfile, parse_profile

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "tests/data/docker-default-seccomp.txt"
PROFILE: SeccompProfile = parse_profile((ROOT / "src/containai/data/seccomp-containai-agent.json").read_bytes())
LAST_CALL = 511  # Linux gives no x86-64 call a number between the last one, below it, and those of x32


def docker_allows() -> tuple[frozenset[str], dict[str, str]]:
    """Calls that are always allowed, and conditions of those that are allowed under one."""
    names: set[str] = set()
    conditional: dict[str, str] = {}
    for line in RECORD.read_text(encoding="utf-8").splitlines():
        if ":" in line and not line.startswith("#"):
            name, condition = line.split(": ")
            conditional[name] = condition
        elif not line.startswith("#"):
            names.update(line.split())
    return frozenset(names), conditional


def number_of(name: str) -> int:
    """The number of a call on x86-64; negative for one that libseccomp does not know."""
    import pyseccomp  # scripts/generate_docs.py does without

    from scripts.compile_seccomp import YOUNG_CALLS

    return YOUNG_CALLS.get(name) or int(pyseccomp.resolve_syscall(pyseccomp.Arch.X86_64, name))


def questions() -> Iterator[tuple[int, tuple[int, ...]]]:
    """Every call, with the arguments at which one of our rules turns; of sockets, all families and types."""
    conditions: dict[int, list[set[int]]] = {}
    for rule in PROFILE.rules:
        for name, condition in itertools.product(rule.names, rule.conditions):
            values = conditions.setdefault(number_of(name), [{0} for _ in range(6)])[condition.index]
            for value in (condition.value, condition.value_two):
                values |= {value, value + 1, max(value - 1, 0)}
    for name in ("socket", "socketpair"):
        conditions[number_of(name)] = [set(range(48)), {1, 2, 3, 5, 10, 0o2000001}, {0, 1, 6, 17, 132}, {0}, {0}, {0}]
    for number in range(LAST_CALL + 1):
        for arguments in itertools.product(*conditions.get(number, [{0, 1}] + [{0}] * 5)):
            yield number, arguments
