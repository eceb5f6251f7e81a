"""A repository of a few kilobytes whose files would fill the disk, before any agent runs."""

from __future__ import annotations

from itertools import chain

import pytest

from tests.support.product import IDENTITY, Product

pytestmark = [pytest.mark.user, pytest.mark.usefixtures("nothing_left")]

MIB = 1024 * 1024


def test_a_repository_that_would_fill_the_disk_is_not_checked_out(product: Product) -> None:
    (product.repository / "big").write_bytes(b"a" * 50 * MIB)
    (product.repository / "config.toml").write_text('[limits]\nworkspace = "100m"\n')
    product.git("add", "-A")
    blob = product.git("rev-parse", ":big")
    files = (("--cacheinfo", f"100644,{blob},f{number}") for number in range(120))
    product.git("update-index", "--add", *chain.from_iterable(files))
    product.git(*IDENTITY, "commit", "-q", "-m", "six gigabytes")
    refused = product.command("run", "--network-proxy", "none", "--", "true")
    assert refused.status == 125
    assert "error[workspace.disk]: the repository's files fill the disk" in refused.stderr
    assert "104,857,600 at most" in refused.stderr
    assert product.branches() == ["main"]
    assert not list(product.sessions.glob("*"))
