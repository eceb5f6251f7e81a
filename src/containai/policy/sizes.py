"""Quantities as people write them: memory sizes and processor counts. PURE."""

from __future__ import annotations

import re

from containai.errors import PolicyError

PAGE_BYTES = 4096
MIN_MEMORY_BYTES = 64 * 1024 * 1024  # less than this does not hold the container's own first process and a shell
MAX_MEMORY_BYTES = 1 << 50
MIN_CPUS = 0.05
MAX_CPUS = 4096.0
MIN_PIDS = 16

_SIZE = re.compile(r"([0-9]{1,16})(\.[0-9]{1,6})?([kmgt]?)(i?b)?", re.ASCII)
_UNIT = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_size(value: str | int, *, what: str = "memory") -> int:
    """Parse a size: ``4g``, ``512m``, ``1.5GiB`` or a number of bytes. Units are powers of 1024.

    Returns:
        Bytes, rounded down to whole pages: the kernel counts in pages, and what it says later must equal
        what was asked for.

    Raises:
        PolicyError: ``policy.size``: it is no size, or out of range.
    """
    size_bytes = value if isinstance(value, int) else _bytes(value, what)
    if isinstance(value, bool) or not MIN_MEMORY_BYTES <= size_bytes <= MAX_MEMORY_BYTES:
        raise _refusal(what, value, "it is out of range", "a size from 64m to 1024t")
    return size_bytes - size_bytes % PAGE_BYTES


def _bytes(text: str, what: str) -> int:
    found = _SIZE.fullmatch(text.strip().lower())
    if not found:
        raise _refusal(what, text, "it is not a size", 'a number with a unit: "4g", "512m"')
    whole, fraction, unit, _ = found.groups()
    return int(whole) * _UNIT[unit] + int(float(fraction or 0) * _UNIT[unit])


def parse_cpus(value: str | float, *, what: str = "cpus") -> float:
    """Parse a number of processors: ``2``, ``0.5``; kept to hundredths.

    Raises:
        PolicyError: ``policy.size``: it is no number, or out of range.
    """
    try:
        cpus = float(value)
    except (ValueError, OverflowError):
        cpus = float("nan")
    if isinstance(value, bool) or not MIN_CPUS <= cpus <= MAX_CPUS:  # also false for nan
        raise _refusal(what, value, "it is not a number of processors", f"a number from {MIN_CPUS} to {MAX_CPUS:g}")
    return round(cpus, 2)


def _refusal(what: str, value: object, why: str, wanted: str) -> PolicyError:
    try:
        shown = ascii(value)
    except ValueError:  # an integer too long for Python to print
        shown = "that number"
    return PolicyError(
        f"{what} cannot be {shown if len(shown) <= 80 else shown[:77] + '...'}",
        code="policy.size",
        details=why,
        remedy=(f"give {wanted}",),
    )
