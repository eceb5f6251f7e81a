#!/usr/bin/python3
"""Stands in for bubblewrap where a test wants no container: the first process on the host's own files, as root.

Understands of bubblewrap's arguments what it needs: the workspace, the first process, and ``--become UID``, its own.
"""

import ctypes
import os
import sys
import tempfile

NEW_MOUNTS, BIND, PRIVATE, RECURSIVE = 0x20000, 4096, 1 << 18, 16384
THROW_AWAY = "containai.throw-away"  # a word of the kernel's command line: see tests/support/features.py

with open("/proc/cmdline", encoding="ascii") as file:
    given = file.read().split()
if THROW_AWAY not in given:
    sys.exit("bare_container: this machine is not one to throw away")

libc = ctypes.CDLL(None, use_errno=True)


def mount(source: bytes, target: bytes, kind: bytes | None, flags: int) -> None:
    if libc.mount(source, target, kind, flags, None) != 0:
        sys.exit(f"bare_container: {source!r} on {target!r}: {os.strerror(ctypes.get_errno())}")


at = sys.argv.index("--args")
with open(int(sys.argv[at + 1]), "rb", closefd=False) as arguments:
    words = arguments.read().split(b"\0")
first_process = sys.argv[sys.argv.index("--") + 1 :]

if libc.unshare(NEW_MOUNTS) != 0:
    sys.exit("bare_container: unshare")
mount(b"none", b"/", None, PRIVATE | RECURSIVE)
for folder in ("/workspace", "/home/agentuser"):
    os.makedirs(folder, exist_ok=True)
mount(words[words.index(b"--bind") + 1], b"/workspace", None, BIND)
mount(b"tmpfs", b"/home/agentuser", b"tmpfs", 0)
os.chmod("/home/agentuser", 0o777)

# The descriptor that holds the shim is open for writing, and so cannot be executed.
held = words[words.index(first_process[0].encode()) - 1]
with open(int(held), "rb", closefd=False) as shim:
    content = shim.read()
handle, program = tempfile.mkstemp(prefix="shim-", dir="/run")
os.write(handle, content)
os.close(handle)
os.chmod(program, 0o755)
if b"--become" in words:
    user = int(words[words.index(b"--become") + 1])
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
os.execv(program, first_process)
