"""Counts the calls of each vendor's CLI that the filter refuses: ``python -m tests.vendor.refused [LABEL ...]``.

The task is that of test_vendor_clis.py, with the same scripted model, run here: outside of any session, under strace.
The CLI is called as its adapter calls it in a session. As root, in a HOME and a work directory of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from containai.agents.load import load_adapter
from containai.agents.model import PROMPT_FIELD
from scripts.refused_calls import count_refused, trace
from tests.fake_model.server import FakeModel
from tests.support.product import IDENTITY
from tests.vendor.cases import CASES, KEY, Case
from tests.vendor.conftest import make_npm_prefix

MARKER = "the whole task"


def main() -> int:
    """Count for the named cases, or for all of them."""
    prefix = make_npm_prefix()
    for case in CASES:
        if case.label in (sys.argv[1:] or [each.label for each in CASES]):
            status, played, counted = _count(case, prefix)
            print(f"{case.label}: status {status}, {played} of 3 steps of the task", flush=True)
            for (call, answer), count in sorted(counted.items()):
                print(f"  {call}: {count} times, answered {answer}", flush=True)
    return 0


def _count(case: Case, prefix: Path) -> tuple[int, int, Counter[tuple[str, str]]]:
    script: list[dict[str, Any]] = [
        {"shell": "echo made > hello.txt"},
        {"write": {"path": "notes.md", "content": "# Notes\n"}},
        {"shell": "ls | wc -l"},
        {"text": "Done."},
    ]
    adapter = load_adapter(case.agent)
    with FakeModel({MARKER: script}, key=KEY) as model, tempfile.TemporaryDirectory() as place:
        home, repository = Path(place, "home"), Path(place, "workspace")
        for name, text in case.written(model.url).items():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_text(text)
        repository.mkdir()
        for words in (["init", "-q"], [*IDENTITY, "commit", "-q", "--allow-empty", "-m", "first"]):
            subprocess.run(["git", *words], cwd=repository, check=True, timeout=30)
        for file in adapter.text_files:
            if not (home / file.path).exists():
                (home / file.path).parent.mkdir(parents=True, exist_ok=True)
                (home / file.path).write_text(file.content)
        environment = {
            "PATH": f"{prefix}/bin:{os.defpath}",
            **dict(adapter.environment),
            **case.exported(model.url),
            "HOME": str(home),
            "PWD": str(repository),
            "IS_SANDBOX": "1",  # else Claude Code does not work unasked as root
            "CODEX_HOME": str(home / (".config/codex" if (home / ".config/codex").exists() else ".codex")),
        }
        words = [word.replace(PROMPT_FIELD, MARKER) for word in adapter.prompt or ()]
        program = prefix / "bin" / adapter.binaries[0]
        command = ["timeout", "120", str(program), *words]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        status = trace(command, Path(place, "trace"), cwd=repository, env=environment, **quiet)
        with open(Path(place, "trace"), errors="replace") as lines:
            counted = count_refused(lines)
        return status, sum(bool(request.tool) for request in model.requests), counted


if __name__ == "__main__":
    sys.exit(main())
