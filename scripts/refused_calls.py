#!/usr/bin/env python3
"""List the system calls of a command that the filter of a session refuses: ``refused_calls.py COMMAND [ARG ...]``.

Runs the command here, outside of any session, under strace, and counts the calls that the profile does not allow
whatever their arguments. Calls of which only some uses are refused (clone, ioctl, socket, prctl) are not counted.
"""

from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Run the command under strace, and count."""
    profile = json.loads((ROOT / "src/containai/data/seccomp-containai-agent.json").read_bytes())
    refused: dict[str, str] = {}
    for rule in profile["syscalls"]:
        if rule["action"] == "SCMP_ACT_ERRNO" and not rule.get("args"):
            refused |= dict.fromkeys(rule["names"], errno.errorcode[rule.get("errnoRet", errno.EPERM)])
    passed = {name for rule in profile["syscalls"] for name in rule["names"]} - set(refused)
    with tempfile.NamedTemporaryFile() as trace:
        not_these = ",".join(f"?{name}" for name in sorted(passed))
        words = ["strace", "-f", "-qq", "-o", trace.name, "-e", "signal=none", "-e", f"trace=!{not_these}"]
        subprocess.run([*words, *sys.argv[1:]], check=False)
        calls = Counter(re.findall(r"^\d+ +(\w+)\(", Path(trace.name).read_text(errors="replace"), re.MULTILINE))
    for name, count in sorted(calls.items()):
        print(f"{name}: {count} times, answered {refused.get(name, 'ENOSYS')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
