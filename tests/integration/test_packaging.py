"""What is installed from a clean copy of the sources works, and a missing compiler is said plainly."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {"containai", "run-copilot", "run-codex", "run-claude", "list-agents"}

pytestmark = [pytest.mark.slow, pytest.mark.needs("cc")]


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """The files of a checkout, without anything that was built in it, below a path with a space."""
    copy = tmp_path / "a checkout"
    copy.mkdir()
    for name in ("native", "scripts"):
        shutil.copytree(ROOT / name, copy / name)
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("_native", "*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "LICENSE", "README.md", "constraints.txt"):
        shutil.copy(ROOT / name, copy / name)
    return copy


def program_headers(elf: bytes) -> list[int]:
    """The types of an executable's segments. Source: elf(5)."""
    offset, size, count = *struct.unpack_from("<Q", elf, 32), *struct.unpack_from("<HH", elf, 54)
    return [struct.unpack_from("<I", elf, offset + size * index)[0] for index in range(count)]


def pip(*arguments: str | Path, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run pip with the build tools of this environment, so that no registry is asked."""
    return subprocess.run(
        [sys.executable, "-m", "pip", *arguments, "--no-build-isolation", "--no-deps", "--no-index"],
        env={**os.environ, **({"PATH": path} if path is not None else {})},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_wheel_holds_the_shim_the_filters_and_the_data(sources: Path, tmp_path: Path) -> None:
    built = pip("wheel", sources, "--wheel-dir", tmp_path / "wheels")
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = (tmp_path / "wheels").iterdir()
    assert wheel.name.endswith(f"-py3-none-linux_{os.uname().machine}.whl")

    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True, timeout=120)
    python = tmp_path / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", wheel], check=True, timeout=120)

    (package,) = (tmp_path / "venv").glob("lib/python*/site-packages/containai")
    shim = package / "_native/containai-shim"
    assert stat.S_IMODE(shim.stat().st_mode) & 0o111 == 0o111
    assert 3 not in program_headers(shim.read_bytes()), "the shim asks for a loader (PT_INTERP)"
    for name in ("agent.bpf", "housekeeping.bpf"):
        assert (package / "_native" / name).read_bytes() == (ROOT / "src/containai/_native" / name).read_bytes()
    data = {path.relative_to(package) for path in (package / "data").rglob("*") if path.is_file()}
    shipped = {
        path.relative_to(ROOT / "src/containai") for path in (ROOT / "src/containai/data").rglob("*") if path.is_file()
    }
    assert {path for path in shipped if "__pycache__" not in path.parts} <= data
    assert {path.name for path in (tmp_path / "venv/bin").iterdir()} >= COMMANDS
    said = subprocess.run(
        [tmp_path / "venv/bin/containai", "--version"], capture_output=True, text=True, timeout=30, check=False
    )
    assert said.stdout == "containai 0.1.0\n", said.stderr


def test_missing_compiler_is_named(sources: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "empty"
    nowhere.mkdir()

    built = pip("wheel", sources, "--wheel-dir", tmp_path / "wheels", path=str(nowhere))

    assert built.returncode != 0
    assert "needs a C compiler" in built.stderr + built.stdout
    assert "apt-get install gcc libc6-dev" in built.stderr + built.stdout


def test_warning_in_the_shim_stops_the_build(sources: Path, tmp_path: Path) -> None:
    with (sources / "native/fail.c").open("a") as source:
        source.write("static int never_used;\n")

    built = pip("wheel", sources, "--wheel-dir", tmp_path / "wheels")

    assert built.returncode != 0
    assert "never_used" in built.stderr + built.stdout
