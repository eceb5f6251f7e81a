"""The launcher is killed while bubblewrap's other half waits for its word, or while the first process cannot see that."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.moments import Watched, kill
from tests.support.product import Product, host_traces

pytestmark = [
    pytest.mark.user, pytest.mark.usefixtures("nothing_left"), pytest.mark.needs("bubblewrap", "cc"),
    pytest.mark.timeout(120),
]  # fmt: skip

# Bubblewrap tells its other half to begin with the only write to an event counter that it makes.
HELD = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

ssize_t write(int fd, const void *bytes, size_t count)
{
    static ssize_t (*written)(int, const void *, size_t);
    char name[64], kind[64] = "";
    if (!written)
        written = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    if (readlink(name, kind, sizeof kind - 1) > 0 && strstr(kind, "eventfd")) {
        close(open(HERE "/held", O_CREAT | O_WRONLY, 0644));
        for (int patience = 6000; access(HERE "/go", F_OK) != 0 && patience > 0; patience--)
            usleep(10000);
    }
    return written(fd, bytes, count);
}
"""


@pytest.fixture
def here() -> Iterator[Path]:
    """A directory that the session's user can write, and in it a bubblewrap that waits before that word."""
    folder = Path(tempfile.mkdtemp(prefix="held-"))
    folder.chmod(0o777)
    (folder / "held.c").write_text(HELD)
    compiler = ["cc", "-shared", "-fPIC", f'-DHERE="{folder}"', "-o", f"{folder}/held.so", f"{folder}/held.c"]
    subprocess.run(compiler, check=True, timeout=60)
    (folder / "bwrap").write_text(f'#!/bin/sh\nLD_PRELOAD={folder}/held.so exec {shutil.which("bwrap")} "$@"\n')
    (folder / "bwrap").chmod(0o755)
    yield folder
    (folder / "go").touch()
    shutil.rmtree(folder)


def _until(come: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 40
    while not come():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


BEFORE = host_traces()["processes"]


def _nobody_is_left() -> bool:
    return not host_traces()["processes"] - BEFORE


def _start(product: Product, here: Path) -> Watched:
    """A session, once bubblewrap is about to give the word."""
    launcher = (sys.executable, "-c", "from tests.support.weakened import main; main()", "held_bubblewrap")
    variables = {"HELD_BWRAP": f"{here}/bwrap", "PYTHONPATH": os.pathsep.join(sys.path)}
    held = replace(product, launcher=launcher, variables=variables)
    watched = Watched(product=held, child=held.start("echo x > f; sleep 1000", "--network-proxy", "none"))
    _until((here / "held").exists, "bubblewrap is not held")
    assert watched.processes("containai-shim"), "it has ended"
    return watched


def test_the_launcher_is_killed_before_the_word(product: Product, here: Path) -> None:
    watched = _start(product, here)
    kill(watched.child.pid)
    watched.child.communicate(timeout=30)
    (here / "go").touch()
    _until(_nobody_is_left, "a process that waits for ever")
    assert product.command("recover").status == 0
    assert product.branches() == ["main"]


def test_bubblewrap_is_killed_before_the_word(product: Product, here: Path) -> None:
    """The launcher lives: it takes everything back, and says so."""
    watched = _start(product, here)
    kill(watched.processes("bwrap")[0])
    _, said = watched.child.communicate(timeout=90)
    assert watched.child.returncode == 125, said
    assert b"error[engine.create]" in said
    assert product.branches() == ["main"]


def test_the_launcher_is_killed_while_the_first_process_is_stopped(product: Product, here: Path) -> None:
    """It cannot see that its launcher is gone: the kernel ends bubblewrap's outer process, and it with that."""
    (here / "go").touch()
    watched = _start(product, here)
    _until(lambda: any(product.sessions.glob("*/workspace/f")), "the agent does not run")
    first = [pid for pid in watched.processes("containai-shim") if _runs_the_shim(pid)]
    assert len(first) == 1
    os.kill(first[0], signal.SIGSTOP)
    kill(watched.child.pid)
    watched.child.communicate(timeout=30)
    try:
        _until(lambda: not Path(f"/proc/{first[0]}").exists(), "the stopped process lives on")
    finally:
        kill(first[0])
    _until(_nobody_is_left, "a process is left")
    assert product.command("recover").status == 0
    assert product.git("show", "shell/session-1:f") == "x"


def _runs_the_shim(pid: int) -> bool:
    return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"/run/containai-shim\0")
