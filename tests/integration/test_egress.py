"""A real Squid between an agent and an internet of our own: what arrives, and what does not.

Every rule is tried both ways: the attack, and the same attack with the rule taken out, which must then succeed, as the
servers see it. Otherwise the test would show nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.internet import NAME_SERVER, PROXY_V4, PROXY_V6, PUBLIC_V4, PUBLIC_V6, Internet, internet
from tests.support.proxied import Proxied, proxied, receive, squid_major, without

pytestmark = [pytest.mark.needs("root", "squid")]

ALLOWED = ("a.test", "*.b.test")
OK = b"HTTP/1.1 200 Connection established"


@pytest.fixture(scope="module")
def net() -> Iterator[Internet]:
    with internet() as made:
        yield made


@pytest.fixture(autouse=True)
def zone(net: Internet) -> None:
    net.zone = {
        "a.test": [PUBLIC_V4], "b.test": [PUBLIC_V4], "x.b.test": [PUBLIC_V6], "deep.x.b.test": [PUBLIC_V4],
        "evil.test": [PUBLIC_V4], "notb.test": [PUBLIC_V4], "private.b.test": ["10.1.2.3"], "ula.b.test": ["fd00::7"],
        "own.b.test": [PROXY_V4], "own6.b.test": [PROXY_V6], "mixed.b.test": [PUBLIC_V4, "192.168.0.7"],
    }  # fmt: skip
    net.ttl = 0
    net.delay_s = lambda _name: 0.0


@pytest.fixture(scope="module")
def shared(net: Internet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    """One egress for the tests that only ask."""
    with proxied(net, tmp_path_factory.mktemp("shared"), *ALLOWED) as running:
        yield running


@pytest.fixture
def proxy(shared: Proxied) -> Proxied:
    """The shared egress, with nothing seen so far."""
    shared.net.seen.clear()
    shared.net.queries.clear()
    shared.events.clear()
    return shared


def test_what_is_allowed_flows_and_is_logged(proxy: Proxied) -> None:
    with proxy.dial() as agent:
        agent.sendall(b"CONNECT a.test:443 HTTP/1.1\r\n\r\n")
        assert agent.recv(4096).startswith(OK)
        agent.sendall(b"x" * 1000)
        assert agent.recv(4096)
    assert [(seen.address, seen.port) for seen in proxy.net.seen] == [(PUBLIC_V4, 443)]
    fields = proxy.last()
    assert (fields["host"], fields["port"], fields["method"], fields["verdict"]) == ("a.test", 443, "CONNECT", "allow")
    assert fields["status"] == 200
    assert fields["bytes_out"] == 1000 + len(b"CONNECT a.test:443 HTTP/1.1\r\n\r\n")
    assert fields["bytes_in"] == 1000 + len(OK + b"\r\n\r\n")


def test_a_plain_request_is_logged_with_its_url(proxy: Proxied) -> None:
    answer = proxy.ask(b"GET http://user:secret@a.test/p?q=%0a%22'x HTTP/1.1\r\nHost: a.test\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"GET /p?q=%0a%22'x HTTP/1.1" in proxy.net.seen[0].data
    fields = proxy.last()
    assert (fields["method"], fields["verdict"]) == ("GET", "allow")
    assert fields["url"].endswith("a.test/p?q=%0a%22'x")
    assert "secret" not in str(proxy.events)


@pytest.mark.parametrize("host", ["x.b.test", "deep.x.b.test", "A.TEST", "a.test."])
def test_names_on_the_list(proxy: Proxied, host: str) -> None:
    assert proxy.connect(host).startswith(OK)
    assert proxy.net.seen


@pytest.mark.parametrize(
    "host", ["b.test", "evil.test", "notb.test", "a.test.evil.test", "xa.test", "test", "localhost"]
)
def test_names_off_the_list_are_not_even_looked_up(proxy: Proxied, host: str) -> None:
    assert proxy.connect(host).startswith(b"HTTP/1.1 403")
    assert proxy.net.seen == []
    assert proxy.net.queries == []
    assert proxy.last()["verdict"] == "deny"
    assert proxy.last()["reason"] == "the host is not on the allow-list of this session"


RULES = {
    "unlisted host": ("http_access deny !listed", b"CONNECT evil.test:443 HTTP/1.1\r\n\r\n", PUBLIC_V4),
    "the suffix itself": ("http_access deny suffix_itself", b"CONNECT b.test:443 HTTP/1.1\r\n\r\n", PUBLIC_V4),
    "CONNECT to another port": ("http_access deny connect !port_443", b"CONNECT a.test:22 HTTP/1.1\r\n\r\n", PUBLIC_V4),
    "CONNECT to port 80": ("http_access deny connect !port_443", b"CONNECT a.test:80 HTTP/1.1\r\n\r\n", PUBLIC_V4),
    "http to another port": (
        "http_access deny !connect !port_80",
        b"GET http://a.test:8080/ HTTP/1.1\r\n\r\n",
        PUBLIC_V4,
    ),
    "another scheme": ("http_access deny !connect !http", b"GET ftp://a.test:80/ HTTP/1.1\r\n\r\n", PUBLIC_V4),
    "unknown method": ("http_access deny !known_method", b"BREW http://a.test/ HTTP/1.1\r\n\r\n", PUBLIC_V4),
    "private address": ("http_access deny private", b"CONNECT private.b.test:443 HTTP/1.1\r\n\r\n", "10.1.2.3"),
    "private http": ("http_access deny private", b"GET http://private.b.test/ HTTP/1.1\r\n\r\n", "10.1.2.3"),
    "one private address of two": ("http_access deny private", b"CONNECT mixed.b.test:443 HTTP/1.1\r\n\r\n", ""),
    "unique local address": ("http_access deny private_v6", b"CONNECT ula.b.test:443 HTTP/1.1\r\n\r\n", "fd00::7"),
    "own address": ("http_access deny own_address", b"CONNECT own.b.test:443 HTTP/1.1\r\n\r\n", PROXY_V4),
    "own IPv6 address": ("http_access deny own_address", b"CONNECT own6.b.test:443 HTTP/1.1\r\n\r\n", PROXY_V6),
}


@pytest.fixture(scope="module", autouse=True)
def host_services(net: Internet) -> None:
    """Services of the proxy's own machine."""
    for address in ("127.0.0.1", "::1", PROXY_V4, PROXY_V6):
        net.listen_on_proxy_side(address, 443)


@pytest.mark.parametrize("name", RULES)
def test_each_rule_holds(proxy: Proxied, name: str) -> None:
    _, request, _ = RULES[name]
    assert proxy.ask(request).startswith((b"HTTP/1.1 403", b"HTTP/1.1 400"))
    assert proxy.net.seen == []
    assert proxy.last()["verdict"] == "deny"
    assert proxy.last()["reason"]


@pytest.mark.parametrize("name", RULES)
def test_each_rule_is_what_holds(net: Internet, tmp_path: Path, name: str) -> None:
    rule, request, arrives = RULES[name]
    with proxied(net, tmp_path, *ALLOWED, edit=without(rule)) as open_proxy:
        open_proxy.ask(request)
        assert net.seen
        assert arrives in ("", net.seen[0].address)


def test_an_empty_list_allows_nothing(net: Internet, tmp_path: Path) -> None:
    with proxied(net, tmp_path) as closed:
        for host in ("a.test", "b.test", "evil.test", "containai.invalid"):
            assert closed.connect(host).startswith(b"HTTP/1.1 403")
        assert closed.ask(b"GET http://a.test/ HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 403")
        assert net.seen == []
        assert net.queries == []


def test_only_a_wildcard(net: Internet, tmp_path: Path) -> None:
    with proxied(net, tmp_path, "*.b.test") as proxy:
        assert proxy.connect("x.b.test").startswith(OK)
        for host in ("b.test", "a.test", ".b.test", "*.b.test"):
            assert not proxy.connect(host).startswith(OK)


def test_a_wildcard_and_its_own_suffix(net: Internet, tmp_path: Path) -> None:
    with proxied(net, tmp_path, "*.b.test", "b.test", "x.b.test", "*.x.b.test") as proxy:
        for host in ("b.test", "x.b.test", "deep.x.b.test"):
            assert proxy.connect(host).startswith(OK)
        assert proxy.connect("a.test").startswith(b"HTTP/1.1 403")


NOT_PUBLIC = """
0.0.0.0 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.254 127.0.0.1 127.9.9.9 169.254.169.254 172.16.0.1 172.31.255.255
192.0.0.192 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.1.1.1
240.0.0.1 255.255.255.255 168.63.129.16 11.255.0.2
:: ::1 ::1.2.3.4 ::ffff:10.0.0.1 ::ffff:127.0.0.1 ::fffe:ffff:ffff ::1:0:0:0 64:ff9b::a00:1 64:ff9b:1::1 100::1 1fff::1
2001::1 2001:20::1 2001:db8::1 2002:a00:1::1 3fff::1 4000::1 5f00::1 7fff::1 8000::1 fc00::1 fd00:ec2::254 fe80::1
fec0::1 ff02::1 2600:ff::2
""".split()
PUBLIC = """
1.1.1.1 9.255.255.255 11.0.0.1 100.63.255.255 100.128.0.1 126.255.255.255 128.0.0.1 169.253.1.1 172.15.0.1 172.32.0.1
192.0.1.1 192.167.1.1 198.17.1.1 198.20.1.1 223.255.255.255 168.63.129.17 2000::1 2001:200::1 2001:4860::8888 2003::1
2606:2800:21f::1 3ffe::1 ::ffff:93.184.215.14
""".split()


def test_no_address_that_is_not_public_is_reached_by_any_name(proxy: Proxied) -> None:
    for number, address in enumerate(NOT_PUBLIC):
        proxy.net.zone[f"n{number}.b.test"] = [address]
        assert proxy.connect(f"n{number}.b.test").startswith(b"HTTP/1.1 403"), address
    assert proxy.net.seen == []


def test_public_addresses_are_reached(proxy: Proxied) -> None:
    for number, address in enumerate(PUBLIC):
        proxy.net.zone[f"p{number}.b.test"] = [address]
        assert proxy.connect(f"p{number}.b.test").startswith(OK), address
    assert len(proxy.net.seen) == len(PUBLIC)


LITERALS = [
    "93.184.215.14", "93.184.215.14.", "1572395790", "0x5db8d70e", "0135.0270.0327.016", "93.12113678", "127.1", "127.0.0.1",
    "2130706433", "0x7f.1", "0", "[::1]", "[2606:2800:21f::1]", "[::ffff:127.0.0.1]", "[::ffff:5db8:d70e]", "[fe80::1%25wan0]",
    "2606:2800:21f::1",
]  # fmt: skip


@pytest.mark.parametrize("literal", LITERALS)
def test_addresses_are_refused_in_every_notation(proxy: Proxied, literal: str) -> None:
    # A PTR record of the attacker's must not turn an address into an allowed name.
    proxy.net.zone["14.215.184.93.in-addr.arpa"] = [PUBLIC_V4]
    assert not proxy.connect(literal).startswith(OK)
    assert not proxy.ask(b"GET http://%s/ HTTP/1.1\r\n\r\n" % literal.encode()).startswith(b"HTTP/1.1 200")
    assert proxy.net.seen == []
    assert proxy.net.queries == []


def test_an_address_is_never_turned_into_a_name(net: Internet, tmp_path: Path) -> None:
    """The rule about addresses and ``-n`` each hold alone; without both, the attacker's name server is asked."""
    asks_for_name = ("14.215.184.93.in-addr.arpa", 12)
    with proxied(net, tmp_path, *ALLOWED, edit=without("http_access deny address")) as proxy:
        assert proxy.connect("93.184.215.14").startswith(b"HTTP/1.1 403")
        assert net.queries == []

    def both(config: str) -> str:
        return without("http_access deny address")(config).replace("dstdomain -n", "dstdomain")

    with proxied(net, tmp_path, *ALLOWED, edit=both) as proxy:
        proxy.connect("93.184.215.14")
        assert asks_for_name in net.queries


def test_nobody_asks_for_the_name_of_an_address(net: Internet, tmp_path: Path) -> None:
    """By default Squid 5 does, for each client: the key of the session would go to the name server. Squid 6.13 does not."""
    with proxied(net, tmp_path, *ALLOWED) as proxy:
        proxy.connect("a.test")
        proxy.connect("evil.test")
        assert {name for name, _ in net.queries} == {"a.test"}
    with proxied(net, tmp_path, *ALLOWED, edit=without("url_rewrite_extras none", "store_id_extras none")) as proxy:
        proxy.connect("a.test")
        key = ".".join(reversed(proxy.squid.key.source.split(".")))
        assert ((f"{key}.in-addr.arpa", 12) in net.queries) is (squid_major() == 5)


def test_a_name_that_changes_its_address_keeps_the_one_that_was_judged(net: Internet, tmp_path: Path) -> None:
    asked = 0

    def flips(_name: str) -> list[str]:
        nonlocal asked
        asked += 1
        return [PUBLIC_V4] if asked <= 2 else ["10.6.6.6"]  # A and AAAA are asked together

    net.zone["flip.b.test"] = flips
    with proxied(net, tmp_path, *ALLOWED) as proxy:
        for _ in range(20):
            proxy.connect("flip.b.test")
        assert {seen.address for seen in net.seen} == {PUBLIC_V4}
        assert asked == 2  # a time to live of 0 is not honoured


def test_a_name_that_changes_often_never_leads_inside(net: Internet, tmp_path: Path) -> None:
    asked = 0

    def flips(_name: str) -> list[str]:
        nonlocal asked
        asked += 1
        return [PUBLIC_V4] if (asked - 1) // 2 % 2 == 0 else ["10.6.6.6"]

    net.zone["flip.b.test"] = flips

    def hurry(config: str) -> str:
        return config.replace("negative_dns_ttl 60 seconds", "negative_dns_ttl 1 seconds")

    with proxied(net, tmp_path, *ALLOWED, edit=hurry) as proxy:
        answers = set()
        with proxy.dial() as agent:
            for _ in range(3000):
                agent.sendall(b"HEAD http://flip.b.test/ HTTP/1.1\r\n\r\n")
                answers.add(agent.recv(65536)[9:12])
                if asked >= 10:
                    break
        assert {b"200", b"403"} <= answers
        assert {seen.address for seen in net.seen} == {PUBLIC_V4}


def test_a_name_from_the_hosts_file_leads_nowhere_private(proxy: Proxied, net: Internet, tmp_path: Path) -> None:
    with proxied(net, tmp_path, "*.allowed.test") as other:
        assert other.connect("inhosts.allowed.test").startswith(b"HTTP/1.1 403")
        assert net.seen == []


def test_a_name_that_does_not_resolve(proxy: Proxied) -> None:
    assert proxy.connect("none.b.test").startswith(b"HTTP/1.1 503")
    assert proxy.last()["reason"] == "the name of the host does not resolve"


def test_the_server_is_told_the_host_of_the_url(proxy: Proxied) -> None:
    proxy.ask(b"GET http://a.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n")
    proxy.ask(b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nHost: evil.test\r\n\r\n")
    assert not any(b"evil.test" in seen.data for seen in proxy.net.seen)


def test_no_upgrade_reaches_a_server(proxy: Proxied) -> None:
    proxy.ask(
        b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
    )
    assert b"upgrade" not in bytes(proxy.net.seen[0].data).lower()
    proxy.net.seen.clear()
    proxy.ask(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert proxy.net.seen == []


def test_a_connect_inside_a_connect_stays_inside(proxy: Proxied) -> None:
    nested = b"CONNECT evil.test:443 HTTP/1.1\r\n\r\n"
    proxy.ask(b"CONNECT a.test:443 HTTP/1.1\r\n\r\n" + nested)
    assert [(seen.address, bytes(seen.data)) for seen in proxy.net.seen] == [(PUBLIC_V4, nested)]
    assert proxy.net.queries in ([], [("a.test", 1), ("a.test", 28)])


SMUGGLED = b"GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        b"GET http://a.test\0.evil.test/ HTTP/1.1\r\n\r\n",
        b"CONNECT a.test\0.evil.test:443 HTTP/1.1\r\n\r\n",
        b"CONNECT evil.test\0.b.test:443 HTTP/1.1\r\n\r\n",
        b"CONNECT evil.test%00.b.test:443 HTTP/1.1\r\n\r\n",
        b"CONNECT evil.test/.b.test:443 HTTP/1.1\r\n\r\n",
        b"CONNECT evil.test#.b.test:443 HTTP/1.1\r\n\r\n",
        b"CONNECT evil.test@x.b.test:443 HTTP/1.1\r\n\r\n",
        b"CONNECT x.b.test@evil.test:443 HTTP/1.1\r\n\r\n",
        b"GET http://x.b.test@evil.test/ HTTP/1.1\r\n\r\n",
        b"GET http://evil.test\\@x.b.test/ HTTP/1.1\r\n\r\n",
        b"GET http://evil.test?.b.test/ HTTP/1.1\r\n\r\n",
        b"GET http://evil.test:80:80/ HTTP/1.1\r\n\r\n",
        b"CONNECT evil.test:443 443 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        b"GET cache_object://127.0.0.1/info HTTP/1.1\r\n\r\n",
        b"GET http://containai.invalid/squid-internal-mgr/info HTTP/1.1\r\n\r\n",
        b"GET http://evil.test/squid-internal-static/icons/SN.png HTTP/1.1\r\n\r\n",
        b"PURGE http://a.test/ HTTP/1.1\r\n\r\n",
        b"TRACE http://a.test/ HTTP/1.1\r\n\r\n",
        b"GET urn:a.test HTTP/1.1\r\n\r\n",
        b"GET gopher://a.test:80/ HTTP/1.1\r\n\r\n",
        b"GET whois://a.test:80/ HTTP/1.1\r\n\r\n",
        b"GET https://a.test/ HTTP/1.1\r\n\r\n",
        b"GET https://a.test:80/ HTTP/1.1\r\n\r\n",
    ],
)  # fmt: skip
def test_odd_requests_reach_nobody(proxy: Proxied, request_: bytes) -> None:
    answer = proxy.ask(request_)
    assert not answer.startswith((OK, b"HTTP/1.1 200"))
    assert proxy.net.seen == []
    assert "evil.test" not in {name for name, _ in proxy.net.queries}
    assert proxy.last()["verdict"] == "deny"


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 0\r\nContent-Length: %d" % len(SMUGGLED),
        b"Content-Length: 0\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding : chunked",
        b"Content-Length: +0",
        b"Content-Length: 0x0",
        b"Content-Length: -1",
        b"Content-Length: %d\nTransfer-Encoding: chunked" % len(SMUGGLED),
        b"X: y\r\n Transfer-Encoding: chunked",
        b"Content-Length: 0,%d" % len(SMUGGLED),
    ],
)
def test_a_request_hidden_in_another_is_not_one(proxy: Proxied, head: bytes) -> None:
    """Whatever Squid makes of the outer request, a server never sees the inner one as a request of its own."""
    proxy.ask(b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\n" + head + b"\r\n\r\n" + SMUGGLED)
    for seen in proxy.net.seen:
        outer, _, body = bytes(seen.data).partition(b"\r\n\r\n")
        declared = [line for line in outer.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        assert len(declared) <= 1
        assert b"GET" not in outer
        assert len(body) <= (int(declared[0].split(b":")[1]) if declared else 0)
    assert "evil.test" not in {name for name, _ in proxy.net.queries}


@pytest.mark.parametrize("whole", [True, False], ids=["in one piece", "in two"])
@pytest.mark.parametrize("length", [b"", b"Content-Length: 4\r\n", b"Content-Length: 100\r\n"], ids=repr)
def test_a_message_in_chunks_arrives_with_one_length(proxy: Proxied, length: bytes, whole: bool) -> None:
    """Also where the client named another one; and whether the body came with the head makes no difference."""
    head = b"POST http://a.test/ HTTP/1.1\r\n" + length + b"Transfer-Encoding: chunked\r\n\r\n"
    body = b"5;x=y\r\nhello\r\n0\r\n\r\n"
    with proxy.dial() as agent:
        agent.sendall(head + body if whole else head)
        if not whole:
            proxy.wait_for(lambda: bool(proxy.net.seen))
            agent.sendall(body)
        assert receive(agent, 0.3).startswith(b"HTTP/1.1 200")
    (seen,) = proxy.net.seen
    got, _, content = bytes(seen.data).partition(b"\r\n\r\n")
    lengths = [line for line in got.split(b"\r\n") if line.startswith((b"Content-Length", b"Transfer-Encoding"))]
    assert lengths in ([b"Content-Length: 5"], [b"Transfer-Encoding: chunked"])
    # The test's server answers at the head: of what comes after it, nothing else than the body is ever there.
    assert b"5\r\nhello\r\n0\r\n\r\n".startswith(content) or content == b"hello"
    assert (proxy.last()["host"], proxy.last()["verdict"]) == ("a.test", "allow")


def test_each_request_has_a_server_connection_of_its_own(proxy: Proxied) -> None:
    with proxy.dial() as agent:
        for _ in range(3):
            agent.sendall(b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n")
            assert receive(agent, 0.1).startswith(b"HTTP/1.1 200")
    assert len(proxy.net.seen) == 3


def test_hostile_words_cannot_forge_the_log(proxy: Proxied) -> None:
    forged = b"1 2 3 4 GET a.test 80 http://a.test/ 200 1 1 1 TCP_TUNNEL/HIER_DIRECT - -"
    for raw in (
        b"GET http://a.test/%0a" + forged.replace(b" ", b"%20") + b" HTTP/1.1\r\n\r\n",
        b"GET http://a.test/\n" + forged + b" HTTP/1.1\r\n\r\n",
        b'GET" http://evil.test/\x1b[2J\xff HTTP/1.1\r\n\r\n',
        b"GET http://evil.test/" + b"\xe2\x80\xa8" * 3000 + b" HTTP/1.1\r\n\r\n",
        b"X" * 5000 + b" http://evil.test/ HTTP/1.1\r\n\r\n",
        b"GET http://" + b"y" * 3000 + b".b.test/ HTTP/1.1\r\n\r\n",
    ):
        proxy.events.clear()
        proxy.ask(raw)
        proxy.wait_for(lambda: bool(proxy.events))
        for event, fields in proxy.events:
            assert event == "request"
            assert str(fields["url"] + fields["method"] + fields["host"]).isprintable()
            assert len(fields["url"]) <= 2048
            assert len(fields["method"]) <= 32
            assert fields["host"] != "evil.test" or fields["verdict"] == "deny"


def test_the_proxy_has_no_other_door(proxy: Proxied) -> None:
    pid = proxy.squid._child.pid
    proxy.connect("a.test")
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    assert "Uid:\t0\t" not in status
    listening = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if int(fields[7]) != 0 and (fields[3] == "0A" or table.startswith("udp")):
                listening.append((table, fields[1].partition(":")[2]))
    assert [entry for entry in listening if entry[0].startswith("tcp")] == [("tcp", f"{proxy.squid.port:04X}")]
    assert {entry[0] for entry in listening} <= {"tcp", "udp", "udp6"}  # the resolver's two sockets
    assert len(listening) <= 3
    assert {name for name, _ in proxy.net.queries} <= {"a.test"}
    assert NAME_SERVER not in str(proxy.events)
