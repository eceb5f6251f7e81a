"""Attacks on the user's repository: refs, objects and configuration, through the one remote there is."""

from __future__ import annotations

import os
import socket
import subprocess

from attack import TARGETS, Held, Unavailable, attack


def run(*words: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *words], input=stdin, capture_output=True, timeout=120)


try:  # a git that is missing, or a remote that does not answer, would refuse everything
    CONTROL = run("ls-remote", "local").returncode == 0
except (OSError, subprocess.TimeoutExpired):
    CONTROL = False


def git(*words: str, stdin: bytes | None = None) -> str:
    if not CONTROL:
        raise Unavailable("git does not reach its one remote")
    told = run(*words, stdin=stdin)
    if told.returncode != 0:
        raise Held((told.stderr.decode(errors="replace").strip().splitlines() or ["refused"])[-1])
    return told.stdout.decode(errors="replace").strip()


for label, words in {
    "push-main": ("push", "local", "HEAD:refs/heads/main"),
    "push-another-branch": ("push", "local", "HEAD:refs/heads/selftest"),
    "push-a-tag": ("push", "local", "HEAD:refs/tags/selftest"),
    "push-notes": ("push", "local", "HEAD:refs/notes/containai"),
    "delete-the-branch": ("push", "local", ":" + os.environ["CONTAINAI_BRANCH"]),
    "delete-main": ("push", "local", ":main"),
    "mirror": ("push", "--mirror", "local"),
    "fetch-another-branch": ("fetch", "local", "refs/heads/private"),
    "fetch-a-hidden-commit": ("fetch", "local", TARGETS["private_commit"]),
    "archive": ("archive", "--remote=local", "HEAD"),
    "another-repository": ("ls-remote", "git://127.0.0.1:9418" + TARGETS["another"] + "/.git"),
    "the-hosts-repository": ("ls-remote", "git://127.0.0.1:9418" + TARGETS["repository"] + "/.git"),
    "read-a-hidden-object": ("cat-file", "-p", TARGETS["private_commit"]),
}.items():

    @attack(f"git.{label}")
    def _(words=words):
        return git(*words) or "git did it"


def packet(payload: bytes) -> bytes:
    return b"%04x" % (len(payload) + 4) + payload


@attack("git.push-odd-ref")
def _():
    """In the words of git's protocol: git itself would not say this."""
    if not CONTROL:
        raise Unavailable("git does not reach its one remote")
    head = git("rev-parse", "HEAD")
    pack = run("pack-objects", "--stdout", "-q", stdin=b"").stdout  # an empty one
    with socket.create_connection(("127.0.0.1", 9418), timeout=30) as link:
        link.sendall(packet(b"git-receive-pack /return.git\0host=127.0.0.1\0"))
        answer = link.makefile("rb")
        while length := int(answer.read(4), 16):  # what it shows
            answer.read(length - 4)
        wanted = f"{'0' * 40} {head} refs/heads/../../selftest-odd\0report-status".encode()
        link.sendall(packet(wanted) + b"0000" + pack)
        link.shutdown(socket.SHUT_WR)
        told = answer.read()
    if b"ok refs/heads/../../selftest-odd" in told:
        return "a file beside the refs was written"
    raise Held(told[4:].decode(errors="replace").strip()[:100] or "it hung up")


def tree_with(name: bytes, mode: bytes = b"100644") -> str:
    blob = git("hash-object", "-w", "--stdin", stdin=b"x\n")
    tree = git("hash-object", "-t", "tree", "-w", "--literally", "--stdin",
               stdin=mode + b" " + name + b"\0" + bytes.fromhex(blob))  # fmt: skip
    return git("commit-tree", tree, "-p", "HEAD", "-m", "odd")


for label, name in {
    "a-git-folder": b".git",
    "a-twin-by-case": b".GIT",
    "a-twin-by-unicode": ".g\u200cit".encode(),
    "a-twin-on-windows": b"git~1",
    "a-path-upwards": b"..",
}.items():

    @attack(f"git.push-{label}")
    def _(name=name):
        return git("push", "local", f"+{tree_with(name)}:refs/heads/{os.environ['CONTAINAI_BRANCH']}") or "it was taken"


@attack("git.plant-a-hook")
def _():
    os.makedirs(".git/hooks", exist_ok=True)
    for name in ("post-checkout", "post-merge", "reference-transaction", "pre-commit"):
        with open(f".git/hooks/{name}", "w") as file:
            file.write(f"#!/bin/sh\ntouch '{TARGETS['marker']}' 2>/dev/null\n")
        os.chmod(f".git/hooks/{name}", 0o755)
    git("config", "core.fsmonitor", f"touch '{TARGETS['marker']}'; false")
    raise Held("planted; the launcher looks whether it came back or ran")
