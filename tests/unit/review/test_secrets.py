"""The scanner: what it finds, and that asking it about fewer lines loses nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from hypothesis import given
from hypothesis import strategies as st

from containai.review.secrets import _LEFT_OUT, find_secrets

SECRETS = {
    "AWS Access Key": 'key = "AKIAIOSFODNN7EXAMPLQ"',
    "GitHub Token": "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "Private Key": "-----BEGIN RSA PRIVATE KEY-----",
    "Secret Keyword": 'password = "hunter2hunter2x9"',
    "Slack Token": "xoxb-34532454-e039d02840a0b9379c",
    "Stripe Access Key": "sk_live_ReTllpYQYfIZu2Jnf2lAPFjD",
    "JSON Web Token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "Base64 High Entropy String": 'x = "c3VwZXIgc2VjcmV0IHZhbHVlIDEyMzQ1Njc4OTA="',
    "SoftLayer Credentials": "softlayer_api_key = " + "a1b2c3d4" * 8,
    "IBM COS HMAC Credentials": "cos_hmac_secret_access_key = " + "1234567890abcdef" * 3,
}


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_found_with_its_line_and_never_shown(kind: str) -> None:
    found = find_secrets("settings.py", f"first\n{SECRETS[kind]}\nlast")
    assert f"{kind} (line 2)" in found
    assert not any(word in text for text in found for word in SECRETS[kind].split() if len(word) > 12)


@pytest.mark.parametrize(
    "text", ["def token(x): return x", "key = lookup('abc')", "https://user:pw@example.org", "10.0.0.1"]
)
def test_ordinary_code_is_none(text: str) -> None:
    assert find_secrets("a.py", text) == ()


def test_a_keyword_in_an_endless_word_is_found() -> None:
    assert find_secrets("a.py", f'{"x" * 300}_password_{"y" * 300} = "hunter2hunter2x9"') == (
        "Secret Keyword (line 1)",
    )


LINES = st.one_of(
    st.sampled_from(sorted(SECRETS.values())),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\n"), max_size=40),
    st.from_regex(r"(api_key|secret|pwd|cl_pass|ibm_token|sl) ?[:=] ?[\"']?[a-z0-9+/]{0,70}[\"']?", fullmatch=True),
)


@pytest.mark.property
@given(st.lists(LINES, max_size=4))
def test_the_whole_scanner_finds_no_kind_that_ours_does_not(lines: list[str]) -> None:
    makers: Mapping[str, Callable[[], Any]] = get_mapping_from_secret_type_to_class()
    every = {
        kind
        for kind, maker in makers.items()
        for number, line in enumerate(lines, 1)
        if maker().analyze_line(filename="a.py", line=line, line_number=number)
    }
    assert every - _LEFT_OUT == {text.rpartition(" (line")[0] for text in find_secrets("a.py", "\n".join(lines))}
