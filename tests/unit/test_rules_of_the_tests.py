"""The rules of tests/conftest.py hold: no unknown need, no silent skip, no skip where all is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAD = """import pytest
from tests.support import features
features.PROBES.update(there=lambda: True, absent=lambda: False)
"""


def run_tests(folder: Path, body: str) -> str:
    """Run tests in a folder of their own, under our rules; what pytest prints."""
    (folder / "conftest.py").write_text("from tests.conftest import *\n")
    (folder / "test_it.py").write_text(HEAD + body)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", ROOT / "pyproject.toml", "--rootdir", folder, folder],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "PATH": "/usr/bin:/bin"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


def test_absent_feature_skips_and_is_named_at_the_end(tmp_path: Path) -> None:
    said = run_tests(tmp_path, "@pytest.mark.needs('there', 'absent')\ndef test_one(): raise AssertionError\n")
    assert "1 skipped" in said
    assert "could not run here" in said
    assert "test_one: this machine has no absent" in said


def test_skip_is_a_failure_where_the_feature_is_there(tmp_path: Path) -> None:
    said = run_tests(tmp_path, "@pytest.mark.needs('there')\ndef test_one(): pytest.skip('no mood')\n")
    assert "1 failed" in said
    assert "skipped itself" in said


def test_unmarked_skip_is_named(tmp_path: Path) -> None:
    said = run_tests(tmp_path, "def test_one(): pytest.skip('for a reason')\n")
    assert "test_one: for a reason" in said


def test_unknown_feature_is_refused(tmp_path: Path) -> None:
    said = run_tests(tmp_path, "@pytest.mark.needs('unheard-of')\ndef test_one(): pass\n")
    assert "unknown to tests/support/features.py: unheard-of" in said
