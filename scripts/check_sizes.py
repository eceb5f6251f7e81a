#!/usr/bin/env python3
"""Keeps files and functions small: 400 lines a file (650 for one of tests), under 60 a function."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES = 400
TEST_FILE_LINES = 650
FUNCTION_LINES = 60


def findings(path: Path) -> Iterator[str]:
    """What in a file is too long."""
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT)
    most = TEST_FILE_LINES if name.parts[0] == "tests" else FILE_LINES
    if len(text.splitlines()) > most:
        yield f"{name}: {len(text.splitlines())} lines, {most} at most"
    if path.suffix != ".py":
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            lines = node.end_lineno - node.lineno + 1
            if lines >= FUNCTION_LINES:
                yield f"{name}:{node.lineno}: {node.name} has {lines} lines, under {FUNCTION_LINES} wanted"


def main() -> int:
    """Print the findings; the exit status says whether there are any."""
    files = [path for folder in ("src", "tests", "scripts", "bench") for path in ROOT.glob(f"{folder}/**/*.py")]
    found = [line for path in (*files, *ROOT.glob("native/**/*.[ch]")) for line in findings(path)]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
