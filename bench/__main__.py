"""``python -m bench``: measure, side by side with other tools, and print Markdown."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable, Iterator

from bench import docker_engine, home, large, launch, log, memory, supervision
from bench.place import Absent, open_place


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="rounds of each comparison (default: 15)")
    parser.add_argument("--small", action="store_true", help="the large repository has 2,000 commits instead of 50,000")
    parser.add_argument("--only", metavar="NAME", help="one section alone")
    args = parser.parse_args()
    long_rounds = max(1, args.rounds // 3)
    with open_place() as place:
        if not place.containai.exists():
            parser.error("containai is not installed beside this Python: ./bootstrap test --collect-only")
        sections: dict[str, Callable[[], Iterator[str]]] = {
            "start": lambda: launch.section(place, args.rounds),
            "docker engine": lambda: docker_engine.section(place, long_rounds),
            "supervision": lambda: supervision.section(place, long_rounds),
            "log": lambda: log.section(place, long_rounds),
            "memory": lambda: memory.section(place),
            "large repository": lambda: large.section(place, long_rounds, small=args.small),
            "work coming home": lambda: home.section(place, long_rounds, small=args.small),
        }
        print(_machine())
        failed = False
        for name, section in sections.items():
            if args.only not in (None, name):
                continue
            print(f"bench: {name}", file=sys.stderr)
            try:
                for text in section():
                    print(text, flush=True)
            except Absent as reason:
                failed = True
                print(f"**Not measured: {name}: {reason}**\n", flush=True)
    return 1 if failed else 0


def _machine() -> str:
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    user = "root" if os.geteuid() == 0 else "an ordinary user"
    return (
        f"Linux {platform.release()} on {platform.machine()}, {os.cpu_count()} processors, {memory_gb:.0f} GB, "
        f"Python {platform.python_version()}, as {user}.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
