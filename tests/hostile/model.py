"""What a hostile repository is, for the corpus: a script that runs inside a session, and what must become of its work.

To add a case: put it into the file of its kind. Run it once with the outcome that you expect; see it fail with the
protection taken out that it is about.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """What the host has afterwards, besides an untouched repository."""

    RETURNED = (
        "returned"  # the file ``work`` stands on the session's branch; nothing else that the case did has an effect
    )
    PARTLY = "partly"  # that, and a note or a refused push tells what is missing
    REFUSED = "refused"  # nothing is returned, the session keeps the work and says why


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One hostile repository.

    Attributes:
        script: For ``sh``, in the workspace. ``@CANARY@`` stands for a path of the host that must never come to be.
        says: A part of what the log or the result must say.
        slow: Left out of the fast suite.
    """

    name: str
    script: str
    outcome: Outcome = Outcome.RETURNED
    says: str = ""
    slow: bool = False


LIBRARY = r"""
import hashlib, os, socket, struct, subprocess, sys, zlib
BRANCH = os.environ["CONTAINAI_BRANCH"]
REF = "refs/heads/" + BRANCH
def git(*words, check=True):
    done = subprocess.run(["git", *words], capture_output=True, timeout=120)
    if check and done.returncode: sys.exit(done.stderr.decode(errors="replace"))
    return done.stdout.decode(errors="replace").strip()
def obj(kind, data):
    "A loose object, whatever git would say to it."
    raw = kind.encode() + b" %d\0" % len(data) + data
    name = hashlib.sha1(raw).hexdigest()
    folder = ".git/objects/" + name[:2]
    os.makedirs(folder, exist_ok=True)
    if not os.path.exists(folder + "/" + name[2:]):
        open(folder + "/" + name[2:], "wb").write(zlib.compress(raw, 1))
    return name
def entry(mode, name, target):
    return mode + b" " + name + b"\0" + bytes.fromhex(target)
BASE = git("rev-parse", "HEAD")
BLOB = obj("blob", b"hostile\n")
WHO = b"Agent <a@containai.invalid> 1700000000 +0000"
def commit(tree, parents=(BASE,), author=WHO, committer=WHO, extra=b"", message=b"hostile\n"):
    head = b"tree " + tree.encode() + b"\n" + b"".join(b"parent " + p.encode() + b"\n" for p in parents)
    return obj("commit", head + b"author " + author + b"\ncommitter " + committer + b"\n" + extra + b"\n" + message)
def push(name, ref=None):
    "Push with git's own client, without its checks."
    done = subprocess.run(["git", "-c", "push.recurseSubmodules=no", "push", "--no-verify", "-f", "local", name + ":" + (ref or REF)],
                          capture_output=True, timeout=120)
    return done.returncode
def stand_on(name):
    "The workspace's branch is that commit: what is left is committed on top of it."
    open(".git/" + REF, "w").write(name + "\n")
def tree_with(*entries):
    "A tree that also has the file of the base."
    old = subprocess.run(["git", "cat-file", "tree", "HEAD^{tree}"], capture_output=True).stdout
    return obj("tree", b"".join(sorted([old, *entries], key=lambda e: e.split(b" ", 1)[1].split(b"\0")[0])))
def pkt(data): return b"%04x" % (len(data) + 4) + data
def dial():
    s = socket.create_connection(("127.0.0.1", 9418), 10); s.settimeout(10); return s
def read_all(s):
    out = b""
    try:
        while chunk := s.recv(65536): out += chunk
    except OSError: pass
    return out
def head(kind, size):
    byte, size = (kind << 4) | (size & 15), size >> 4
    out = b""
    while size: out += bytes([byte | 128]); byte, size = size & 127, size >> 7
    return out + bytes([byte])
def pack(objects, count=None, end=b""):
    "objects: (type, header after the size, data)"
    body = b"PACK" + struct.pack(">II", 2, len(objects) if count is None else count)
    for kind, extra, data in objects: body += head(kind, len(data)) + extra + zlib.compress(data, 1)
    return body + hashlib.sha1(body).digest() + end
def send_pack(data, new, ref=None, old=BASE):
    s = dial()
    s.sendall(pkt(b"git-receive-pack /return.git\0host=x\0"))
    s.recv(65536)
    s.sendall(pkt(old.encode() + b" " + new.encode() + b" " + (ref or REF).encode() + b"\0report-status") + b"0000" + data)
    s.shutdown(socket.SHUT_WR)
    return read_all(s)
"""


def python(body: str) -> str:
    """A script that runs Python with ``LIBRARY`` inside."""
    text = (LIBRARY + body).replace("'", "'\"'\"'")
    return f"/usr/bin/python3 -c '{text}'"
