"""Attacks on secrets: of the user, of the launcher, of the host."""

from __future__ import annotations

import os
import subprocess

from attack import TARGETS, Held, Unavailable, attack


@attack("credentials.variables-of-the-launcher")
def _():
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            text = open(f"/proc/{pid}/environ", "rb").read()
        except OSError:
            continue
        if TARGETS["secret_name"].encode() in text:
            found.append(pid)
    if not found:
        raise Held("not in any environment that can be read")
    return found


for name in ("SSH_AUTH_SOCK", "GPG_AGENT_INFO", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY"):

    @attack(f"credentials.{name.lower().replace('_', '-')}")
    def _(name=name):
        if name not in os.environ:
            raise Held("not passed on")
        return os.environ[name]


@attack("credentials.home")
def _():
    names = {".ssh", ".aws", ".netrc", ".gnupg", ".kube", ".docker", ".git-credentials", ".pypirc", ".npmrc"}
    found = sorted(names & set(os.listdir(os.path.expanduser("~"))))
    if not found:
        raise Held("a home of its own")
    return found


@attack("credentials.git-helper")
def _():
    asked = b"protocol=https\nhost=github.com\n\n"
    try:
        told = subprocess.run(["git", "credential", "fill"], input=asked, capture_output=True, timeout=30)
    except FileNotFoundError:
        raise Unavailable("there is no git here") from None
    if b"password=" not in told.stdout:
        raise Held("git has no credential here")
    return "git gave a password"


@attack("credentials.key-of-the-proxy")
def _():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if "squid" in open(f"/proc/{pid}/cmdline").read():
            return "the proxy runs in the container"
    raise Held("the proxy is none of this container's processes")
