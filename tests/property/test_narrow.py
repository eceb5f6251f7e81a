"""Whatever a repository's file says, a session never gets more than the user allows."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from containai.errors import PolicyError
from containai.policy.domains import allows, covers, intersect, intersect_all, matches, parse_domains
from containai.policy.load import NO_CONFIG, Config, parse_repository
from containai.policy.model import NetworkMode
from containai.policy.narrow import Flags, Narrowed, narrow

pytestmark = [pytest.mark.property, pytest.mark.user]

_LABELS = st.sampled_from(["a", "b", "ab", "x-1"])
HOSTS = st.lists(_LABELS, min_size=1, max_size=3).map(lambda labels: ".".join([*labels, "test"]))
PATTERNS = st.tuples(st.booleans(), HOSTS).map(lambda pair: f"*.{pair[1]}" if pair[0] else pair[1])
LISTS = st.none() | st.lists(PATTERNS, min_size=1, max_size=4).map(tuple)
MODES = st.none() | st.sampled_from(NetworkMode)
CPUS = st.none() | st.integers(5, 1000).map(lambda hundredths: hundredths / 100)
MEMORY = st.none() | st.integers(1 << 14, 1 << 22).map(lambda pages: pages * 4096)
PIDS = st.none() | st.integers(16, 4096)
SECONDS = st.none() | st.integers(1, 10_000).map(float)

CONFIGS = st.builds(
    Config,
    origin=st.just("file"),
    mode=MODES,
    domains=LISTS,
    cpus=CPUS,
    memory_bytes=MEMORY,
    pids_max=PIDS,
    timeout_s=SECONDS,
)
FLAGS = st.builds(Flags, mode=MODES, domains=LISTS, cpus=CPUS, memory_bytes=MEMORY, timeout_s=SECONDS)
API_HOSTS = st.lists(HOSTS, max_size=2).map(tuple)

_WIDEST_FIRST = [NetworkMode.SQUID, NetworkMode.RESTRICTED, NetworkMode.NONE]


@settings(max_examples=400, deadline=None)
@given(user=CONFIGS, repository=CONFIGS, flags=FLAGS, api=API_HOSTS, hosts=st.lists(HOSTS, max_size=8))
def test_a_repository_only_takes_away(
    user: Config, repository: Config, flags: Flags, api: tuple[str, ...], hosts: list[str]
) -> None:
    alone = narrow(user, NO_CONFIG, flags, api_hosts=api)
    try:
        both = narrow(user, repository, flags, api_hosts=api)
    except PolicyError as refused:
        code = refused.code
    else:
        code = ""
        _assert_within(alone, both, hosts)
    assert code in ("", "policy.widens")


def _assert_within(alone: Narrowed, both: Narrowed, hosts: list[str]) -> None:
    for host in (*hosts, *(pattern.replace("*", "z") for pattern in both.policy.network.domains)):
        assert not allows(both.policy.network.domains, host) or allows(alone.policy.network.domains, host)
    assert _WIDEST_FIRST.index(both.policy.network.mode) >= _WIDEST_FIRST.index(alone.policy.network.mode)
    assert both.policy.network.mode is not NetworkMode.NONE or both.policy.network.domains == ()
    mine, theirs = alone.policy.limits, both.policy.limits
    assert theirs.cpus <= mine.cpus
    assert theirs.memory_bytes <= mine.memory_bytes
    assert theirs.pids_max <= mine.pids_max
    assert theirs.tmpfs_bytes <= mine.tmpfs_bytes
    assert alone.timeout_s is None or (both.timeout_s is not None and both.timeout_s <= alone.timeout_s)


@settings(max_examples=200, deadline=None)
@given(user=CONFIGS, repository=CONFIGS, flags=FLAGS, api=API_HOSTS, hosts=st.lists(HOSTS, max_size=8))
def test_what_both_allow_is_not_lost(
    user: Config, repository: Config, flags: Flags, api: tuple[str, ...], hosts: list[str]
) -> None:
    """Narrowing takes away what the repository does not name, and no more."""
    assume(repository.mode is None)
    alone = narrow(user, NO_CONFIG, flags, api_hosts=api)
    with suppress(PolicyError):
        both = narrow(user, repository, flags, api_hosts=api)
        for host in hosts:
            wanted = repository.domains is None or allows((*repository.domains, *api), host)
            if wanted and allows(alone.policy.network.domains, host):
                assert allows(both.policy.network.domains, host)


@settings(max_examples=400, deadline=None)
@given(first=PATTERNS, second=PATTERNS, host=HOSTS)
def test_an_intersection_covers_exactly_what_both_cover(first: str, second: str, host: str) -> None:
    common = intersect(first, second)
    assert (common is not None and matches(common, host)) == (matches(first, host) and matches(second, host))
    if covers(first, second):
        assert matches(first, host) or not matches(second, host)


@settings(max_examples=200, deadline=None)
@given(first=st.lists(PATTERNS, max_size=4), second=st.lists(PATTERNS, max_size=4), host=HOSTS)
def test_lists_intersect_as_their_hosts_do(first: list[str], second: list[str], host: str) -> None:
    assert allows(intersect_all(first, second), host) == (allows(first, host) and allows(second, host))


@settings(max_examples=400, deadline=None)
@given(text=st.text(st.characters(codec="utf-8"), max_size=40) | st.text("*.a-_,1 :/\n\0x", max_size=20))
def test_what_is_parsed_is_safe_to_write_into_a_configuration(text: str) -> None:
    with suppress(PolicyError):
        patterns = parse_domains(text)
        assert patterns
        for pattern in patterns:
            name = pattern.removeprefix("*.")
            assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.")
            assert name.count(".") >= 1
            assert not name.startswith((".", "-"))


@settings(max_examples=300, deadline=None)
@given(content=st.binary(max_size=80) | st.text('[]{}="\n.networklimitsdomains1 ', max_size=60).map(str.encode))
def test_any_bytes_are_a_configuration_or_a_policy_error(content: bytes) -> None:
    with suppress(PolicyError):
        parse_repository(content)
