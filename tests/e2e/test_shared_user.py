"""What the kernel counts by user, or for all containers together: a session takes a share of it."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from containai.engine.embedded.bounds import MAX_TERMINALS, bound_container
from containai.errors import EngineError
from containai.session.engines import native_file
from tests.support.product import Product, as_root

pytestmark = [pytest.mark.user]

INOTIFY = Path("/proc/sys/fs/inotify")
# Takes all that it can get of each, and prints how many. 222: timer_create, on x86-64; IPC_PRIVATE, SHM_LOCK.
TAKE = """
import ctypes, errno, json, os, sys, tempfile
libc = ctypes.CDLL(None, use_errno=True)
most = json.loads(sys.argv[1])
def take(name, make):
    count = 0
    while count < most.get(name, 1 << 30) and make(count) >= 0: count += 1
    return count
place = tempfile.mkdtemp()
watch = libc.inotify_init1(0)
def watches(n):
    path = os.path.join(place, str(n % 5000))
    if n < 5000: open(path, "w").close()
    if n % 5000 == 0 and n: watches.fd = libc.inotify_init1(0)
    return libc.inotify_add_watch(watches.fd, path.encode(), 0xfff) if watches.fd >= 0 else -1
watches.fd = watch
def timers(n):
    event = (ctypes.c_int * 16)(0, 0, 0, 1); made = ctypes.c_int()
    return libc.syscall(222, 1, event, ctypes.byref(made))
def locked(n):
    segment = libc.shmget(0, 4096 * 16, 0o1600)
    done = libc.shmctl(segment, 11, None)
    libc.shmctl(segment, 0, None) if done < 0 or most else None
    return done
got = {"watches": take("watches", watches), "instances": take("instances", lambda n: libc.inotify_init1(0)),
       "timers": take("timers", timers), "locked": take("locked", locked),
       "terminals": take("terminals", lambda n: libc.open(b"/dev/ptmx", os.O_RDWR | os.O_NOCTTY))}
print(json.dumps(got), flush=True)
"""
ONE_EACH = {"watches": 1, "instances": 1, "timers": 1, "locked": 1, "terminals": 1}


def test_a_session_leaves_others_a_share(product: Product) -> None:
    """Without its bounds a session takes all 3071 terminals, and a second session has none.

    As root that is all that is shared. An ordinary user's takes 128 of 128 inotify instances, too, so that the user's own
    program, here, gets none; so with watches, timers and locked memory.
    """
    script = f"python3 - '{{}}' > taken.new <<'END'\n{TAKE}\nos.rename('taken.new', 'taken')\nimport time; time.sleep(600)\nEND\n"
    child = product.start(script, "--network-proxy", "none")
    try:
        taken = wait_for_the_words(product, child)
        here = subprocess.run(
            [sys.executable, "-c", TAKE, json.dumps(ONE_EACH)], capture_output=True, timeout=60, check=False
        )
        assert json.loads(here.stdout) == ONE_EACH, (taken, here.stderr)
        beside = product.run(f"python3 -c '{TAKE.replace(chr(39), chr(34))}' '{json.dumps(ONE_EACH)}' > one")
        assert json.loads(product.git("show", f"{beside.result['branch']}:one")) == ONE_EACH
    finally:
        child.terminate()
        child.communicate(timeout=60)
    assert all(taken.values()), taken
    assert taken["terminals"] == MAX_TERMINALS
    if not as_root():
        assert taken["instances"] + 1 <= int((INOTIFY / "max_user_instances").read_text()) // 4
        assert taken["watches"] <= int((INOTIFY / "max_user_watches").read_text()) // 2
        assert taken["timers"] <= resource.getrlimit(resource.RLIMIT_SIGPENDING)[0] // 2


def test_the_limits_of_the_host_are_never_written() -> None:
    """A process that is in no namespace of its own is none of ours."""
    held = [Path("/proc/sys/user/max_inotify_instances"), Path("/proc/mounts")]
    before = [file.read_text() for file in held]
    with pytest.raises(EngineError, match="limits cannot be set"):
        bound_container(native_file("containai-shim"), os.getpid())
    assert [file.read_text() for file in held] == before


def wait_for_the_words(product: Product, child: subprocess.Popen[bytes]) -> dict[str, int]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert child.poll() is None, child.communicate()[1]
        for file in product.sessions.glob("*/workspace/taken"):
            found: dict[str, int] = json.loads(file.read_text())
            return found
        time.sleep(0.1)
    raise AssertionError("the session took nothing")
