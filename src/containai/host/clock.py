"""The clock: the only place that asks for the time."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime


def now_rfc3339() -> str:
    """The time in UTC with microseconds, as ``2026-01-31T12:00:00.000000Z``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def as_rfc3339(nanoseconds: int) -> str:
    """A time of ``CLOCK_REALTIME`` in the same form."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{rest // 1000:06d}Z"


def monotonic_s() -> float:
    """Seconds of a clock that never goes back."""
    return time.monotonic()


def since_process_start_s() -> float:
    """Seconds since the kernel started this process; resolution one clock tick (10 ms)."""
    with open("/proc/self/stat", "rb") as stat:
        started_ticks = int(stat.read().rpartition(b")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / os.sysconf("SC_CLK_TCK")
