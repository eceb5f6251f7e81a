"""Sizes and processor counts as people write them."""

from __future__ import annotations

import pytest

from containai.errors import PolicyError
from containai.policy.sizes import MAX_MEMORY_BYTES, parse_cpus, parse_size

pytestmark = pytest.mark.user

MIB, GIB = 1 << 20, 1 << 30


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("4g", 4 * GIB), ("4G", 4 * GIB), ("4GB", 4 * GIB), ("4GiB", 4 * GIB), (" 4g ", 4 * GIB), ("512m", 512 * MIB),
        ("1.5g", 1536 * MIB), ("1t", 1024 * GIB), ("131072k", 128 * MIB), ("134217728", 128 * MIB), (128 * MIB, 128 * MIB),
        (128 * MIB + 4095, 128 * MIB), ("128.001m", 128 * MIB), (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES),
    ],
)  # fmt: skip
def test_a_size_is_whole_pages(text: str | int, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text",
    [
        "", "g", "4x", "-4g", "4 4g", "4gg", "4ggb", "0", "63m", "1025t", "1e9", "0x10g", "nan", "inf", "4,5g", "٤g", "4g\n4g",
        "9" * 17 + "t", True, False, -1, pytest.param(1 << 20_000, id="huge"),
    ],
)  # fmt: skip
def test_nothing_else_is_a_size(text: str | int) -> None:
    with pytest.raises(PolicyError) as refused:
        parse_size(text, what="--memory")
    assert refused.value.code == "policy.size"
    assert refused.value.summary.startswith("--memory cannot be ")
    assert len(refused.value.summary) < 140


@pytest.mark.parametrize(("text", "cpus"), [("2", 2.0), ("0.5", 0.5), (1, 1.0), ("0.333333", 0.33), (64.0, 64.0)])
def test_processors_are_counted_in_hundredths(text: str | float, cpus: float) -> None:
    assert parse_cpus(text) == cpus


@pytest.mark.parametrize("text", ["", "two", "0", "0.01", "-1", "nan", "inf", "1e99", True, 10**400])
def test_nothing_else_is_a_number_of_processors(text: str | float) -> None:
    with pytest.raises(PolicyError) as refused:
        parse_cpus(text)
    assert refused.value.code == "policy.size"
