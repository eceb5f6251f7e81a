"""How fast the records of execs go from the spool into the chained log, and how fast a log is checked."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator

from bench.measure import Values, interleave, spread, table
from bench.place import Place
from containai.audit.chain import find_break
from containai.audit.writer import EventLog
from containai.supervise.spool import move_records

_EVENTS = 1_000_000


def section(place: Place, rounds: int) -> Iterator[str]:
    folder = place.work / "log"
    folder.mkdir()
    with open(folder / "execs.spool", "wb") as spool:
        spool.writelines(_record(number) for number in range(_EVENTS))

    def move() -> Values:
        path = folder / "events.jsonl"
        log = EventLog(path, "0" * 12)
        with open(folder / "execs.spool", "rb") as records:
            begun, at = time.monotonic(), 0
            while True:
                moved = move_records(os.pread(records.fileno(), 1 << 18, at), log)
                at += moved
                if not moved:
                    break
            log.close()  # durable
            spent = time.monotonic() - begun
        checked = time.monotonic()
        with open(path, "rb") as lines:
            assert find_break(lines) is None
        values = {"written": _EVENTS / spent, "checked": _EVENTS / (time.monotonic() - checked)}
        assert log.checkpoint[0] == _EVENTS
        path.unlink()
        return values

    results = interleave({"log": move}, rounds)["log"]
    yield "## Writing the log\n"
    yield (
        f"{_EVENTS:,} records of execs from the supervisor's spool into the chained log, to the end of `fsync`, and "
        f"the whole log checked line by line; one thread, {rounds} rounds: median (lowest to highest).\n"
    )
    rows = [["written", spread(results, "written", 1), "50,000"], ["checked", spread(results, "checked", 1), ""]]
    yield table(["", "events a second", "goal"], rows)


def _record(number: int) -> bytes:
    path, cwd, words = b"/usr/bin/true", b"/workspace", b"/usr/bin/true\0%d\0" % number
    texts = (path, cwd, path, b"", words)
    size = 40 + sum(map(len, texts))
    head = struct.pack("=IIQiii6H", size, 6, time.time_ns(), os.getpid(), 0, 1, *map(len, texts), 0x5845)
    return head + b"".join(texts)
