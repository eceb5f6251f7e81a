"""squid.conf: the allow-list in Squid's terms, nothing of it a rule, and every default that matters switched off."""

from __future__ import annotations

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containai.errors import PolicyError
from containai.policy.domains import allows
from containai.policy.model import DEFAULT_DOMAINS, NetworkMode, NetworkPolicy
from containai.render.squid import (
    KEY_ENTROPY_BYTES,
    MAX_CONNECTIONS,
    NOT_PUBLIC_V4,
    PAGES,
    make_key,
    render_pages,
    render_squid_conf,
    split_domains,
)

pytestmark = pytest.mark.user

KEY = make_key(bytes(range(KEY_ENTROPY_BYTES)))
_LABELS = st.sampled_from(["a", "b", "c"])
_NAMES = st.lists(_LABELS, min_size=1, max_size=3).map(lambda labels: ".".join([*labels, "test"]))
_PATTERNS = st.tuples(st.booleans(), _NAMES).map(lambda pair: f"*.{pair[1]}" if pair[0] else pair[1])


def render(*domains: str, own: tuple[str, ...] = ()) -> str:
    return render_squid_conf(
        policy=NetworkPolicy(mode=NetworkMode.SQUID, domains=domains),
        address="127.1.2.3", port=34567, key=KEY, run_dir=".", log="log", own_addresses=own,
    )  # fmt: skip


def squid_allows(domains: tuple[str, ...], host: str) -> bool:
    """What Squid's rules make of a host."""
    names, suffixes, excepted = split_domains(domains)
    if host in excepted:
        return False
    return host in names or any(host == suffix or host.endswith(f".{suffix}") for suffix in suffixes)


@given(domains=st.lists(_PATTERNS, max_size=6).map(tuple), host=_NAMES)
def test_squid_reads_the_list_as_we_do(domains: tuple[str, ...], host: str) -> None:
    assert squid_allows(domains, host) == allows(domains, host)


@given(domains=st.lists(_PATTERNS, max_size=6).map(tuple))
def test_no_entry_contains_another(domains: tuple[str, ...]) -> None:
    """Squid ends with an error where one does."""
    _, suffixes, _ = split_domains(domains)
    for suffix in suffixes:
        assert not any(other != suffix and other.endswith(f".{suffix}") for other in suffixes)


def test_a_wildcard_does_not_stand_for_its_suffix() -> None:
    assert split_domains(("*.b.test",)) == ((), ("b.test",), ("b.test",))
    assert split_domains(("*.b.test", "b.test")) == (("b.test",), ("b.test",), ())


@pytest.mark.parametrize(
    "evil", ["a.test\nhttp_access allow all", "a.test http_access", ".", "*", "", "*.", "a.test #"]
)
def test_what_is_no_pattern_is_never_rendered(evil: str) -> None:
    with pytest.raises(PolicyError):
        render("a.test", evil)


def test_the_last_word_is_no() -> None:
    for domains in ((), ("a.test",), ("*.b.test",), DEFAULT_DOMAINS):
        rules = [line for line in render(*domains).splitlines() if line.startswith("http_access")]
        assert rules[0] == "http_access deny !relay"
        assert rules[-2:] == ["http_access allow relay", "http_access deny all"]
        assert [rule for rule in rules if "allow" in rule] == ["http_access allow relay"]


def test_an_empty_list_is_a_refusal_before_any_look_up() -> None:
    config = render()
    assert config.index("http_access deny anything") < config.index("acl any_address dst")


def test_names_are_judged_before_they_are_looked_up() -> None:
    config = render("a.test", "*.b.test")
    assert config.index("http_access deny !listed") < config.index(" dst ")
    assert not re.search(r"^acl \S+ (dstdomain|dstdom_regex) (?!-n)", config, re.MULTILINE)


@pytest.mark.parametrize(
    "line",
    [
        "buffered_logs off", "via off", "forwarded_for delete", "cache deny all", "cache_mem 0", "pid_filename none",
        "follow_x_forwarded_for deny all", "acl_uses_indirect_client off", "log_uses_indirect_client off",
        "tls_outgoing_options disable", "url_rewrite_extras none", "store_id_extras none", "relaxed_header_parser off",
        "http_upgrade_request_protocols OTHER deny all", "server_persistent_connections off", "global_internal_static off",
        "cachemgr_passwd disable all", "icp_port 0", "htcp_port 0", "snmp_port 0", "pinger_enable off",
        "proxy_protocol_access deny all", "host_verify_strict on", "uri_whitespace deny", "coredump_dir none",
    ],
)  # fmt: skip
def test_switches(line: str) -> None:
    assert line in render("a.test").splitlines()


def seconds(name: str) -> int:
    found = re.search(rf"^{name} (\d+) seconds$", render("a.test"), re.MULTILINE)
    assert found
    return int(found[1])


def test_an_answer_is_kept_longer_than_it_may_take() -> None:
    assert seconds("dns_timeout") < seconds("negative_dns_ttl") < seconds("positive_dns_ttl")


def test_descriptors_suffice_for_the_relay() -> None:
    found = re.search(r"^max_filedescriptors (\d+)$", render(), re.MULTILINE)
    assert found
    assert int(found[1]) >= 2 * MAX_CONNECTIONS + 64


def test_ipv4_addresses_that_are_not_global_are_on_the_list() -> None:
    refused = [ipaddress.ip_network(network) for network in NOT_PUBLIC_V4]
    for first in range(256):
        for rest in ("0.0.1", "64.0.1", "168.1.1", "254.169.254", "0.2.1", "51.100.1", "18.0.1", "88.99.1"):
            address = ipaddress.ip_address(f"{first}.{rest}")
            if not address.is_global or address.is_multicast:
                assert any(address in network for network in refused), address


def test_own_addresses_are_rules_of_their_own() -> None:
    config = render("a.test", own=("11.255.0.2", "::1", "11.255.0.2"))
    assert config.count("acl own_address dst 11.255.0.2\n") == 1
    assert "http_access deny own_address" in config
    assert "own_address dst" not in render("a.test")


def test_the_key_is_shown_to_squid_alone() -> None:
    assert KEY.source not in repr(KEY)
    assert KEY.header(9) == f"PROXY TCP4 {KEY.source} {KEY.destination} 9 {KEY.port}\r\n".encode()
    with pytest.raises(ValueError, match="entropy"):
        make_key(b"short")


@given(st.binary(min_size=KEY_ENTROPY_BYTES, max_size=KEY_ENTROPY_BYTES))
def test_every_key_is_one_that_squid_can_compare(entropy: bytes) -> None:
    key = make_key(entropy)
    for address in (key.source, key.destination):
        assert 1 <= int(address.split(".")[0]) <= 223
        ipaddress.IPv4Address(address)
    assert 1 <= key.port <= 65535


def test_every_refusal_has_a_page_that_names_us() -> None:
    config, pages = render("a.test"), render_pages()
    for page in PAGES:
        assert re.search(rf"^deny_info (\d+:)?{page} ", config, re.MULTILINE), page
    assert pages.pop("error-details.txt") == ""
    for text in pages.values():
        assert text.startswith("ContainAI")
        assert len(text) < 200
