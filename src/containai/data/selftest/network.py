"""Attacks on the network: past the proxy, and through it."""

from __future__ import annotations

import contextlib
import errno
import os
import socket

from attack import PROXY, TARGETS, Held, Unavailable, attack

PORT = TARGETS["port"]


def connect(host: str, port: int) -> str:
    with socket.create_connection((host, port), timeout=3):
        return f"connected to {host}:{port}"


def ask(request: bytes) -> bytes:
    """Send bytes to the proxy; its answer, and what comes shortly after it."""
    with socket.create_connection(PROXY, timeout=10) as link:
        link.sendall(request)
        answer = b""
        try:
            while piece := link.recv(4096):
                answer += piece
                link.settimeout(0.2)
        except TimeoutError:
            if not answer:
                raise Unavailable("the proxy did not answer") from None
        return answer


def through_proxy(request: str) -> str:
    """What came of a request: stopped if the proxy refused it, or there is none."""
    if TARGETS["mode"] == "none":
        connect(*PROXY)
        return "there is a proxy, although the policy grants no network"
    answer = ask(request.encode())
    first = answer.split(b"\r\n", 1)[0].decode(errors="replace")
    if TARGETS["answer"].encode() in answer:
        return f"the host's service answered: {first}"
    words = first.split()
    if not answer or (len(words) > 1 and words[1] in ("400", "403", "405", "501")):
        raise Held(first or "the connection was closed")
    return first


@attack("network.loopback-of-the-host")
def _():
    return connect("127.0.0.1", PORT)


@attack("network.loopback-of-the-host-ipv6")
def _():
    return connect("::1", PORT)


# No packet has left: there is no way, or none is allowed.
NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EACCES, errno.EPERM)


def straight(host: str) -> str:
    try:
        return connect(host, 443)
    except OSError as error:
        if error.errno in NO_WAY:
            raise
        return f"a packet left for {host}: {error}"


@attack("network.straight-out")
def _():
    return straight("192.0.2.1")


@attack("network.straight-out-ipv6")
def _():
    return straight("2001:db8::1")


@attack("network.dns-by-udp")
def _():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.sendto(b"\0" * 12, ("192.0.2.53", 53))
        return "a datagram left"


@attack("network.name-resolution")
def _():
    for name in (TARGETS["token"] + ".example.org", TARGETS["allowed"]):  # the second one exists
        with contextlib.suppress(socket.gaierror):
            return socket.getaddrinfo(name, 443)
    raise Held("no name, whether it exists or not")


@attack("network.broadcast")
def _():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        link.sendto(b"x", ("255.255.255.255", 9))
        return "a broadcast left"


@attack("network.interfaces")
def _():
    found = [name for _, name in socket.if_nameindex() if name != "lo"]
    if not found:
        raise Held("loopback alone")
    if os.path.exists("/.dockerenv"):
        raise Unavailable(f"{', '.join(found)} leads to an internal network, where only the proxy is")
    return found


REQUESTS = {
    "unlisted-host": "CONNECT {token}.example:443 HTTP/1.1\r\nHost: {token}.example:443\r\n\r\n",
    "unlisted-host-plain": "GET http://{token}.example/ HTTP/1.1\r\nHost: {token}.example\r\n\r\n",
    "metadata-service": "GET http://169.254.169.254/latest/meta-data/ HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n",
    "address-literal": "CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: 192.0.2.1:443\r\n\r\n",
    "host-by-address": "GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n",
    "host-by-name": "GET http://localhost:{port}/ HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n",
    "host-by-name-with-dot": "GET http://localhost.:{port}/ HTTP/1.1\r\nHost: localhost.\r\n\r\n",
    "host-by-number": "GET http://2130706433:{port}/ HTTP/1.1\r\nHost: 2130706433\r\n\r\n",
    "host-by-octal": "GET http://0177.0.0.1:{port}/ HTTP/1.1\r\nHost: 0177.0.0.1\r\n\r\n",
    "host-by-zero": "GET http://0.0.0.0:{port}/ HTTP/1.1\r\nHost: 0.0.0.0\r\n\r\n",
    "host-by-ipv6": "GET http://[::1]:{port}/ HTTP/1.1\r\nHost: [::1]\r\n\r\n",
    "host-by-mapped-ipv6": "GET http://[::ffff:127.0.0.1]:{port}/ HTTP/1.1\r\nHost: [::1]\r\n\r\n",
    "host-by-tunnel": "CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n",
    "two-names": "GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: {allowed}\r\n\r\n",
    "credentials-in-name": "GET http://{allowed}@127.0.0.1:{port}/ HTTP/1.1\r\nHost: {allowed}\r\n\r\n",
    "name-as-suffix": "CONNECT {allowed}.{token}.example:443 HTTP/1.1\r\nHost: {allowed}\r\n\r\n",
    "other-port": "CONNECT {allowed}:22 HTTP/1.1\r\nHost: {allowed}:22\r\n\r\n",
    "mail-port": "CONNECT {allowed}:25 HTTP/1.1\r\nHost: {allowed}:25\r\n\r\n",
    "ftp": "GET ftp://127.0.0.1:{port}/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "trace": "TRACE http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "forged-sender": "PROXY TCP4 127.0.0.1 127.0.0.1 1 1\r\nGET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "smuggled": (
        "POST http://{token}.example/ HTTP/1.1\r\nHost: {token}.example\r\nContent-Length: 6\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n"
    ),
}

for label, text in REQUESTS.items():

    @attack(f"network.proxy-{label}")
    def _(text=text):
        return through_proxy(text.replace("{token}", TARGETS["token"]).replace("{port}", str(PORT)).replace(
            "{allowed}", TARGETS["allowed"]))  # fmt: skip


@attack("network.proxy-manager")
def _():
    for url in ("cache_object://127.0.0.1/info", "http://127.0.0.1:3128/squid-internal-mgr/info"):
        with contextlib.suppress(Held):
            return through_proxy(f"GET {url} HTTP/1.0\r\nHost: 127.0.0.1:3128\r\n\r\n")
    raise Held("by its own scheme and by HTTP")


def listeners() -> list[tuple[str, int]]:
    """Whatever listens by TCP in this network, as the kernel lists it."""
    found = []
    for line in open("/proc/net/tcp").read().splitlines()[1:]:
        local, state = line.split()[1], line.split()[3]
        if state == "0A":
            address, port = local.split(":")
            found.append((socket.inet_ntoa(bytes.fromhex(address)[::-1]), int(port, 16)))
    return found


@attack("network.squid-itself")
def _():
    """Squid listens on a loopback address of the host's, and wants a key besides."""
    ours = {PROXY[1], 9418, *TARGETS["granted"]}
    reached = []
    for address, port in listeners():
        if address == "127.0.0.1" and port in ours:
            continue
        with socket.socket() as link:
            link.settimeout(3)
            if link.connect_ex((address, port)) == 0:
                reached.append(f"{address}:{port}")
    if reached:
        return f"reached without the relay: {', '.join(reached)}"
    raise Held("nothing listens but the session's own ports")


@attack("network.proxy-variables")
def _():
    if any("@" in value for name, value in os.environ.items() if name.lower().endswith("_proxy")):
        return "credentials in a proxy variable"
    raise Held("no credential in them")
