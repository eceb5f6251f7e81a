"""The configuration of one session's Squid. PURE.

Order of decision, for each request (the numbers stand at the rules below):

    1  the connection proves that it is this session's relay; anything else is reset
    2  the method is one of HTTP's
    3  CONNECT to port 443, or http:// to port 80
    4  the host is a name, not an address in any notation
    5  the name is on the allow-list
    6  the name resolves
    7  every address of the name is public, and not one of this machine
    8  allowed

A name is looked up for the first time in step 6, so a refused name never reaches a name server (DNS is no channel).

There is no rule about a message that gives its length twice. Squid drops Content-Length where there are chunks, and one
of its own making stands in their place when the body came whole: a rule would see its length and never the client's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from containai.policy.domains import allows, covers, parse_patterns
from containai.policy.model import NetworkPolicy
from containai.record import dataclass, field

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT")
MAX_CONNECTIONS = 200  # of the relay; Squid needs two descriptors for each
MAX_LOGGED_URL = 2048
MAX_LOGGED_HOST = 256
LOG_FIELDS = 15

# Two refusals are told apart by the page that Squid shows, which is also in the log (%err_code).
PAGES: Mapping[str, str] = {
    "CONTAINAI_METHOD": "the method is not one of " + ", ".join(METHODS),
    "CONTAINAI_PORT": "only port 443 (CONNECT) and port 80 (http://) can be reached",
    "CONTAINAI_SCHEME": "only http:// URLs and CONNECT are served",
    "CONTAINAI_ADDRESS": "addresses are not served, only names",
    "CONTAINAI_HOST": "the host is not on the allow-list of this session",
    "CONTAINAI_UNRESOLVED": "the name of the host does not resolve",
    "CONTAINAI_PRIVATE": "the name of the host leads to an address that is not public",
}

# Squid's own pages that an agent can meet; what is not here comes from Squid's files, where there are any.
SQUID_PAGES = (
    "ERR_ACCESS_DENIED", "ERR_CACHE_ACCESS_DENIED", "ERR_CACHE_MGR_ACCESS_DENIED", "ERR_FORWARDING_DENIED",
    "ERR_NO_RELAY", "ERR_CANNOT_FORWARD", "ERR_READ_TIMEOUT", "ERR_LIFETIME_EXP", "ERR_READ_ERROR", "ERR_WRITE_ERROR",
    "ERR_CONNECT_FAIL", "ERR_SECURE_CONNECT_FAIL", "ERR_SOCKET_FAILURE", "ERR_DNS_FAIL", "ERR_URN_RESOLVE",
    "ERR_ONLY_IF_CACHED_MISS", "ERR_TOO_BIG", "ERR_INVALID_RESP", "ERR_UNSUP_HTTPVERSION", "ERR_INVALID_REQ",
    "ERR_UNSUP_REQ", "ERR_INVALID_URL", "ERR_ZERO_SIZE_OBJECT", "ERR_PRECONDITION_FAILED", "ERR_CONFLICT_HOST",
    "ERR_FTP_DISABLED", "ERR_FTP_UNAVAILABLE", "ERR_FTP_FAILURE", "ERR_FTP_PUT_ERROR", "ERR_FTP_NOT_FOUND",
    "ERR_FTP_FORBIDDEN", "ERR_FTP_PUT_CREATED", "ERR_FTP_PUT_MODIFIED", "ERR_ESI", "ERR_ICAP_FAILURE",
    "ERR_GATEWAY_FAILURE", "ERR_DIR_LISTING", "ERR_SHUTTING_DOWN", "ERR_PROTOCOL_UNKNOWN",
    "ERR_REQUEST_START_TIMEOUT", "ERR_REQUEST_PARSE_TIMEOUT", "ERR_RELAY_REMOTE",
)  # fmt: skip

# Source: IANA IPv4 special-purpose address registry, and where a comment says so.
NOT_PUBLIC_V4 = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "224.0.0.0/4", "240.0.0.0/4",
    "168.63.129.16/32",  # Azure's host agent and metadata, on a public address
)  # fmt: skip

# Everything but global unicast, 2000::/3 (Source: RFC 4291, 2.4), written as ranges that spare ::ffff:0:0/96: Squid
# keeps IPv4 there, and the list above judges it. Then the exceptions within 2000::/3 (Source: IANA IPv6 special-purpose
# address registry).
NOT_PUBLIC_V6 = (
    "::-::fffe:ffff:ffff",  # unspecified, loopback, IPv4-compatible
    "::1:0:0:0-1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",  # NAT64, discard-only, unassigned
    "4000::/2",
    "8000::/1",  # unique local, link-local, multicast, unassigned
    "2001::/23",  # Teredo, ORCHID, benchmarking
    "2001:db8::/32",
    "2002::/16",  # 6to4: carries any IPv4 address
    "3fff::/20",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyKey:
    """What proves to Squid that a connection comes from the session's relay: 79 random bits in a PROXY header.

    IPv4, because a Squid on a machine without IPv6 ignores every IPv6 address in its rules.
    """

    source: str = field(repr=False)
    destination: str = field(repr=False)
    port: int = field(repr=False)

    def header(self, connection: int) -> bytes:
        """The PROXY protocol header (version 1) of a connection; ``connection`` (1 to 65535) comes back in the log.

        Source: https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt
        """
        return f"PROXY TCP4 {self.source} {self.destination} {connection} {self.port}\r\n".encode()


KEY_ENTROPY_BYTES = 10


def make_key(entropy: bytes) -> ProxyKey:
    """Make a key from ``KEY_ENTROPY_BYTES`` random bytes."""
    if len(entropy) != KEY_ENTROPY_BYTES:
        raise ValueError("wrong amount of entropy")
    return ProxyKey(
        source=_unicast(entropy[0:4]),
        destination=_unicast(entropy[4:8]),
        port=1 + int.from_bytes(entropy[8:10]) % 65535,
    )


def _unicast(octets: bytes) -> str:
    # Squid gives 0.0.0.0 and 255.255.255.255 a meaning of their own.
    return f"{1 + octets[0] % 223}.{octets[1]}.{octets[2]}.{octets[3]}"


def render_squid_conf(
    *,
    policy: NetworkPolicy,
    address: str,
    port: int,
    key: ProxyKey,
    run_dir: str,
    log: str,
    own_addresses: Iterable[str] = (),
) -> str:
    """The whole of ``squid.conf``.

    Args:
        policy: Its ``domains`` are the allow-list; empty allows nothing.
        address: Loopback address to listen on.
        port: Port to listen on.
        key: The only client that is served.
        run_dir: Where Squid finds ``errors/``. No white space in it.
        log: File that the access log is written to. No white space in it.
        own_addresses: Addresses of this machine: public ones must not be reached either.

    Raises:
        PolicyError: ``policy.domains``: an entry of the allow-list is no domain pattern, and could be a rule.
    """
    if policy.domains:
        parse_patterns(policy.domains)
    sections = (
        _listener(address, port, key),
        _rules(policy.domains, tuple(own_addresses)),
        _REASONS,
        _log(log),
        _refusals(run_dir),
        _HTTP,
        _NAMES,
        _NOTHING_ELSE,
        _SMALL,
    )
    return "\n".join(sections)


def _listener(address: str, port: int, key: ProxyKey) -> str:
    return f"""\
# 1: who is served
http_port {address}:{port} require-proxy-header
acl loopback src 127.0.0.0/8
proxy_protocol_access allow loopback
proxy_protocol_access deny all
acl key_source src {key.source}
acl key_destination localip {key.destination}
acl key_port localport {key.port}
acl relay all-of key_source key_destination key_port
follow_x_forwarded_for deny all
acl_uses_indirect_client off
http_access deny !relay
deny_info TCP_RESET key_source
deny_info TCP_RESET key_destination
deny_info TCP_RESET key_port
"""


def _rules(domains: tuple[str, ...], own_addresses: tuple[str, ...]) -> str:
    names, suffixes, not_below = split_domains(domains)
    lists = [
        *_acl("listed_name", "dstdomain -n", names),
        *_acl("listed_suffix", "dstdomain -n", tuple(f".{suffix}" for suffix in suffixes)),
        *_acl("suffix_itself", "dstdomain -n", not_below),
    ]
    allowed = [name for name, values in (("listed_name", names), ("listed_suffix", suffixes)) if values]
    listed = "acl anything src all\nhttp_access deny anything"
    if allowed:
        listed = f"acl listed any-of {' '.join(allowed)}\nhttp_access deny !listed"
    itself = "http_access deny suffix_itself" if not_below else "# no suffix to except"
    private = [
        *_acl("private", "dst", NOT_PUBLIC_V4),
        *_acl("private_v6", "dst", NOT_PUBLIC_V6),
        *_acl("own_address", "dst", tuple(sorted(set(own_addresses)))),
    ]
    return f"""\
# 2: methods
acl known_method method {" ".join(METHODS)}
http_access deny !known_method

# 3: CONNECT to 443, http:// to 80
acl connect method CONNECT
acl http proto HTTP
acl port_443 port 443
acl port_80 port 80
http_access deny connect !port_443
http_access deny !connect !http
http_access deny !connect !port_80

# 4: no addresses, in dotted, decimal, octal, hexadecimal or bracketed form
acl address dstdom_regex -n -i ^(0x[0-9a-f]*|[0-9]+)([.](0x[0-9a-f]*|[0-9]+))*[.]?$
acl address_v6 dstdom_regex -n :
http_access deny address
http_access deny address_v6

# 5: the allow-list; -n never asks a name server, and never turns an address into a name
{_lines(lists)}{itself}
{listed}

# 6: it resolves. Without this a look-up that fails here and succeeds a moment later would skip step 7
acl any_address dst all
http_access deny !any_address

# 7: every address of the name is public
{_lines(private)}http_access deny private
http_access deny private_v6
{"http_access deny own_address" if own_addresses else "# no address of its own"}

# 8
http_access allow relay
http_access deny all
"""


_REASONS = """\
# Which page tells of which refusal
deny_info CONTAINAI_METHOD known_method
deny_info CONTAINAI_PORT port_443
deny_info CONTAINAI_PORT port_80
deny_info CONTAINAI_SCHEME http
deny_info CONTAINAI_ADDRESS address
deny_info CONTAINAI_ADDRESS address_v6
deny_info CONTAINAI_HOST suffix_itself
deny_info CONTAINAI_HOST listed_name
deny_info CONTAINAI_HOST listed_suffix
deny_info CONTAINAI_HOST anything
deny_info 503:CONTAINAI_UNRESOLVED any_address
deny_info CONTAINAI_PRIVATE private
deny_info CONTAINAI_PRIVATE private_v6
deny_info CONTAINAI_PRIVATE own_address
"""


def split_domains(domains: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Put an allow-list in Squid's terms.

    Squid's ``.b`` stands for ``b`` too, and a list in which one entry contains another is an error to it.

    Returns:
        Names to allow, suffixes to allow, and names to refuse although a suffix of Squid's covers them.
    """
    wild = [pattern for pattern in domains if pattern.startswith("*.")]
    widest = sorted({wide for wide in wild if not any(other != wide and covers(other, wide) for other in wild)})
    names = sorted({name for name in domains if not name.startswith("*.") and not any(covers(w, name) for w in widest)})
    suffixes = tuple(wide.removeprefix("*.") for wide in widest)
    return tuple(names), suffixes, tuple(suffix for suffix in suffixes if not allows(domains, suffix))


def _acl(name: str, kind: str, values: Iterable[str]) -> list[str]:
    return [f"acl {name} {kind} {value}" for value in values]


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _log(log: str) -> str:
    """One request a line, ``LOG_FIELDS`` fields; by '#' Squid percent-encodes: no field has a space or line feed."""
    fields = (
        "%#>a", "%>p", "%#>la", "%>lp",  # who: the key, and the number of the connection
        "%#.32rm", f"%#.{MAX_LOGGED_HOST}>rd", "%>rP", f"%#.{MAX_LOGGED_URL}ru",
        "%>Hs", "%<st", "%>st", "%tr",
        "%Ss/%Sh", "%#<a", "%#err_code",
    )  # fmt: skip
    assert len(fields) == LOG_FIELDS
    return f"""\
logformat containai {" ".join(fields)}
access_log stdio:{log} logformat=containai
buffered_logs off
strip_query_terms off
log_uses_indirect_client off
"""


def _refusals(run_dir: str) -> str:
    return f"""\
error_directory {run_dir}/errors
err_page_stylesheet /dev/null
httpd_suppress_version_string on
reply_header_access X-Cache deny all
reply_header_access X-Cache-Lookup deny all
email_err_data off
"""


_HTTP = """\
# HTTP is read strictly, and rewritten
relaxed_header_parser off
uri_whitespace deny
check_hostnames on
host_verify_strict on
request_header_max_size 64 KB
http_upgrade_request_protocols OTHER deny all
via off
forwarded_for delete
# No answer of one request can be taken for that of another
server_persistent_connections off
pipeline_prefetch 0
half_closed_clients off
connect_timeout 20 seconds
forward_max_tries 5
retry_on_error off
tls_outgoing_options disable
"""

_NAMES = """\
# The answer that was judged is the answer that is used: Squid keeps every answer for negative_dns_ttl, counted from the
# question, whatever its own time to live. dns_timeout is shorter, so that no answer is too old when it comes.
dns_timeout 15 seconds
dns_retransmit_interval 3 seconds
negative_dns_ttl 60 seconds
positive_dns_ttl 61 seconds
# Unless told otherwise, Squid looks up the name of each client: that would send the key to a name server.
url_rewrite_extras none
store_id_extras none
dns_defnames off
dns_multicast_local off
ignore_unknown_nameservers on
"""

_NOTHING_ELSE = """\
# No cache, no disk, no other door
cache deny all
cache_mem 0
cache_store_log none
cache_log /dev/null
debug_options ALL,0
pid_filename none
coredump_dir none
logfile_rotate 0
shutdown_lifetime 0 seconds
icp_port 0
htcp_port 0
snmp_port 0
icp_access deny all
htcp_access deny all
snmp_access deny all
cachemgr_passwd disable all
global_internal_static off
query_icmp off
pinger_enable off
visible_hostname containai.invalid
always_direct allow all
"""

_SMALL = f"""\
max_filedescriptors {MAX_CONNECTIONS * 2 + 112}
memory_pools off
client_db off
digest_generation off
mime_table /dev/null
fqdncache_size 16
"""


def render_pages() -> dict[str, str]:
    """Every page of ``errors/`` by its name: plain, short, and naming ContainAI as the one who refuses."""
    ours = {name: f"ContainAI refused %M %H: {why}.\n" for name, why in PAGES.items()}
    squids = dict.fromkeys(SQUID_PAGES, "ContainAI's proxy could not carry out %M %H: %c %E\n")
    # Texts for certificate errors, of which we have none; Squid 6 complains at its start where the file is missing.
    return ours | squids | {"error-details.txt": ""}
