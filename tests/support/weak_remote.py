# mypy: disable-error-code="assignment,method-assign,attr-defined"
"""The protections of the two ways out of a container, the proxy and git: each can be taken away."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.support.weakening import replace_everywhere, weakening


@weakening
def open_proxy() -> None:
    """Squid allows whatever proves to come from the session, and its manager to anybody."""
    from containai.render import squid as rendered

    render = rendered.render_squid_conf
    rules = ("http_access deny", "http_access allow", "cachemgr_passwd")

    def open_to_all(**words: Any) -> str:
        kept = [line for line in render(**words).splitlines() if not line.startswith(rules)]
        return "\n".join([*kept, "http_access allow all"]) + "\n"

    replace_everywhere("render_squid_conf", open_to_all)


@weakening
def credulous_relay() -> None:
    """Who says from whom a connection comes is believed: the relay adds its own word only where there is none."""
    from containai.egress.squid import Squid

    connect = Squid.connect

    def believing(self: Any) -> socket.socket:
        ours, theirs = socket.socketpair()
        threading.Thread(target=pass_on, args=(self, theirs), daemon=True).start()
        return ours

    def pass_on(squid: Any, client: socket.socket) -> None:
        with client, suppress(OSError):
            first = client.recv(65536)
            if not first:
                return
            with connect(squid) if not first.startswith(b"PROXY ") else plain(squid) as upstream:
                upstream.sendall(first)
                _copy_both_ways(client, upstream)

    def plain(squid: Any) -> socket.socket:
        squid._await_ready()
        return socket.create_connection((squid.address, squid.port), timeout=5)

    Squid.connect = believing


def _copy_both_ways(one: socket.socket, other: socket.socket) -> None:
    ends = {one: other, other: one}
    while ends:
        for source in select.select(list(ends), [], [])[0]:
            data = source.recv(65536)
            if data:
                ends[source].sendall(data)
            else:
                ends.pop(source).shutdown(socket.SHUT_WR)


@weakening
def any_git() -> None:
    """The container's remote is whatever repository it names, with every service; by its usual name, all of the user's."""
    from containai.git_return.quarantine import Quarantine
    from containai.git_return.relay import Bounds, serve_git
    from containai.git_return.server import ReturnServer
    from containai.git_return.wire import FLUSH, packet, parse_command
    from containai.host.clock import monotonic_s
    from containai.session import guards

    class AnyGit(ReturnServer):
        def _answer(self, client: Any) -> None:
            asked = client.read_packet(monotonic_s() + 10) or b""
            service, _, path = asked.partition(b"\0")[0].strip().decode().partition(" ")
            place = self._copy() if path == "/return.git" else Path(path)
            if service != "git-receive-pack":
                words = ["git", "-c", "safe.directory=*", "-c", "uploadpack.allowAnySHA1InWant=true"]
                ends = {"stdin": client.socket, "stdout": client.socket}
                subprocess.run([*words, service.removeprefix("git-"), place], **ends, timeout=60, check=False)
                return
            client.socket.sendall(_shown(place))
            raw, refs = b"", []
            while (line := client.read_packet(monotonic_s() + 10)) is not None:
                raw += packet(line)
                if command := parse_command(line).command:
                    refs.append(command)
            if refs and ".." in refs[0].ref:  # git itself would refuse
                (place / refs[0].ref).write_text(f"{refs[0].new}\n")
                client.refuse(packet(b"unpack ok\n") + packet(f"ok {refs[0].ref}\n".encode()) + FLUSH)
                return
            words = ["-c", "receive.denyDeleteCurrent=ignore", "receive-pack", "--stateless-rpc", str(place)]
            quarantine = Quarantine(path=place, branch="main", base="")
            serve_git(client, quarantine, words, beginning=raw + FLUSH, bounds=Bounds())

        def _copy(self) -> Path:
            """As the user's repository is now: what one attack has deleted the next one finds."""
            folder = self._quarantine.path.parent / f"open-{threading.get_ident()}-{monotonic_s()}.git"
            host = (self._quarantine.path / "objects/info/alternates").read_text().strip().strip('"')
            words = ["git", "clone", "--quiet", "--mirror", str(Path(host).parent), str(folder)]
            subprocess.run(words, check=True, timeout=60)
            return folder

    guards.ReturnServer = AnyGit


def _shown(repository: Path) -> bytes:
    from containai.git_return.wire import FLUSH, packet

    words = ["git", "-C", str(repository), "for-each-ref", "--format=%(objectname) %(refname)"]
    refs = subprocess.run(words, check=True, capture_output=True, timeout=60).stdout.splitlines()
    first = refs[0] + b"\0report-status delete-refs side-band-64k ofs-delta object-format=sha1\n"
    return packet(first) + b"".join(packet(ref + b"\n") for ref in refs[1:]) + FLUSH


@weakening
def open_quarantine() -> None:
    """The quarantine shows and takes every ref."""
    from containai.git_return import quarantine

    text = quarantine._CONFIG
    for line in ("\thideRefs = refs\n", "\thideRefs = {shown}\n", "\tdenyDeletes = true\n"):
        text = text.replace(line, "")
    quarantine._CONFIG = text


@weakening
def generous_quarantine() -> None:
    """Whoever knows the name of an object is given it."""
    from containai.git_return import quarantine

    text = quarantine._CONFIG
    for name in ("allowTipSHA1InWant", "allowReachableSHA1InWant", "allowAnySHA1InWant"):
        text = text.replace(f"{name} = false", f"{name} = true")
    quarantine._CONFIG = text


@weakening
def unchecked_objects() -> None:
    """The quarantine checks no object that is pushed."""
    from containai.git_return import quarantine

    quarantine._CONFIG = quarantine._CONFIG.replace("fsckObjects = true", "fsckObjects = false")


@weakening
def a_granted_service() -> None:
    """The user has granted the service that the attacks look for."""
    target = Path("selftest/targets.json")
    if sys.argv[1] == "run":
        sys.argv[2:2] = ["--allow-local", f"127.0.0.1:{json.loads(target.read_text())['port']}"]
