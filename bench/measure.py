"""Interleaved timing: every case once per round, so that a slow minute of the machine slows all of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping

Values = dict[str, float]
Case = Callable[[], Values]


def interleave(cases: Mapping[str, Case], rounds: int) -> dict[str, list[Values]]:
    """Run every case ``rounds`` times, A B C A B C; a first round, not counted, warms the caches."""
    results: dict[str, list[Values]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, case in cases.items():
            values = case()
            if number:
                results[name].append(values)
    return results


def ratio(results: list[Values], base: list[Values], key: str) -> float:
    """Median of the rounds' own ratios: what slowed a round slowed both."""
    return statistics.median(one[key] / other[key] for one, other in zip(results, base, strict=True))


def spread(results: list[Values], key: str, unit: float = 1000, digits: int = 0) -> str:
    """``median (lowest to highest)``."""
    numbers = [values[key] * unit for values in results]
    return f"{statistics.median(numbers):.{digits}f} ({min(numbers):.{digits}f} to {max(numbers):.{digits}f})"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
