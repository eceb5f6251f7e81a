#!/usr/bin/env python3
"""List the system calls of a command that the filter of a session refuses: ``refused_calls.py COMMAND [ARG ...]``.

Runs the command here, outside of any session, under strace, asks the profile about each call with the arguments that it
was given, and counts. What the command would do after a refusal is not seen: it was not refused anything.
"""

from __future__ import annotations

import errno
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from containai.render.seccomp import SeccompProfile

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

_CALL = re.compile(r"\d+ +(\w+)\((.*)")
_NUMBER = re.compile(r"(?:0x[0-9a-f]+|-?\d+)(?=[,) ]|$)")


def main() -> int:
    """Run the command under strace, and count; the command's exit status."""
    if not sys.argv[1:] or sys.argv[1].startswith("-"):
        asked = sys.argv[1:2] in (["--help"], ["-h"])
        print(__doc__, file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    if shutil.which("strace") is None:
        print("refused_calls.py: strace is not installed: sudo apt-get install strace", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as place:
        status = trace(sys.argv[1:], Path(place, "trace"))
        with open(Path(place, "trace"), errors="replace") as lines:
            counted = count_refused(lines)
    for (call, answer), count in sorted(counted.items()):
        print(f"{call}: {count} times, answered {answer}")
    return status


def trace(command: Sequence[str], into: Path, **options: Any) -> int:
    """Run a command under strace, which writes down every call that some rule refuses, its arguments as numbers.

    Args:
        command: What to run.
        into: The file that strace writes.
        options: Of ``subprocess.run``.
    """
    from containai.render.seccomp import Action

    profile = _profile()
    always = {n for rule in profile.rules for n in rule.names if not rule.conditions}
    allowed = always & (profile.names(Action.ALLOW) | profile.names(Action.NOTIFY))
    names = ",".join(f"?{name}" for name in sorted(allowed))
    words = ["strace", "-f", "-qq", "-o", str(into), "-e", "signal=none", "-e", f"trace=!{names}", "-e", "raw=all"]
    return subprocess.run([*words, *command], check=False, **options).returncode


def count_refused(lines: Iterable[str]) -> Counter[tuple[str, str]]:
    """Count the refused calls in strace's words, by the call with its telling arguments and the answer."""
    from containai.render.seccomp import Action

    profile = _profile()
    counted: Counter[tuple[str, str]] = Counter()
    for line in lines:
        match = _CALL.match(line)
        if not match:
            continue  # the end of a call that was counted at its beginning, or of a process
        name = match[1]
        numbers = [int(text, 0) & (1 << 64) - 1 for text in _NUMBER.findall(match[2].partition(" = ")[0])]
        decision = profile.decide(name, (*numbers, *[0] * 6)[:6])
        if decision.action is Action.ERRNO:
            told = {c.index for rule in profile.rules if name in rule.names for c in rule.conditions}
            shown = ", ".join(f"{numbers[index]:#x}" for index in sorted(told) if index < len(numbers))
            counted[f"{name}({shown})" if shown else name, errno.errorcode[decision.errno]] += 1
    return counted


def _profile() -> SeccompProfile:
    from containai.render.seccomp import parse_profile

    return parse_profile((ROOT / "src/containai/data/seccomp-containai-agent.json").read_bytes())


if __name__ == "__main__":
    sys.exit(main())
