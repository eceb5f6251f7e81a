"""Git LFS by choice: content in the copy, pointers in what comes back. No git-lfs is needed on either side."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.support.product import IDENTITY, Product

pytestmark = [pytest.mark.user, pytest.mark.usefixtures("nothing_left")]

CONTENT = b"\0large\n" * 1000
OID = hashlib.sha256(CONTENT).hexdigest()


def pointer(oid: str = OID, size: int = len(CONTENT)) -> str:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n"


@pytest.fixture
def large(product: Product) -> Product:
    """A repository with two LFS files, of which one is on this machine."""
    (product.repository / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    (product.repository / "with space").mkdir()
    (product.repository / "with space" / "a.bin").write_text(pointer())
    (product.repository / "run.bin").write_text(pointer())
    (product.repository / "run.bin").chmod(0o755)
    (product.repository / "absent.bin").write_text(pointer("a" * 64, 5))
    place = store(product) / OID[:2] / OID[2:4]
    place.mkdir(parents=True)
    (place / OID).write_bytes(CONTENT)
    product.git("add", "-A")
    product.git(*IDENTITY, "commit", "-qm", "large")
    return product


def store(product: Product) -> Path:
    return product.repository / ".git/lfs/objects"


def test_content_is_given_and_unchanged_files_are_no_change(large: Product) -> None:
    look = "sha256sum 'with space/a.bin' run.bin | cut -c1-64; test -x run.bin && echo x; cat absent.bin; git status --porcelain"
    ran = large.run(
        f"{look}; touch 'with space/a.bin'; echo new > other; git add -A; git commit -qm own; echo 2 > other", "--lfs"
    )
    assert ran.printed.splitlines() == [OID, OID, "x", *pointer("a" * 64, 5).splitlines()]
    assert "1 Git LFS file is not on this machine" in ran.stderr
    assert large.git("diff", "--name-only", "main", ran.result["branch"]) == "other"
    assert large.git("show", f"{ran.result['branch']}:run.bin") == pointer().rstrip()


def test_without_the_option_there_are_pointers(large: Product) -> None:
    ran = large.run("cat run.bin", "--network-proxy", "none")
    assert ran.printed.splitlines() == pointer().splitlines()
    assert "--lfs gives it" in ran.stderr


def test_changed_content_returns_as_a_plain_file_and_says_so(large: Product) -> None:
    ran = large.run("echo changed > run.bin; rm 'with space/a.bin'", "--lfs")
    assert large.git("show", f"{ran.result['branch']}:run.bin") == "changed"
    assert large.git("diff", "--name-status", "main", ran.result["branch"]).splitlines() == [
        "M\trun.bin",
        "D\twith space/a.bin",
    ]
    assert "which is returned as a plain file: 'run.bin'" in ran.stderr


def test_content_that_is_not_what_its_name_says_is_not_given(large: Product) -> None:
    (store(large) / OID[:2] / OID[2:4] / OID).write_bytes(CONTENT[:-1] + b"x")
    ran = large.run("cat run.bin", "--lfs")
    assert ran.printed.splitlines() == pointer().splitlines()
    assert "3 Git LFS files are not on this machine" in ran.stderr


def test_a_link_in_the_store_is_not_followed(large: Product) -> None:
    kept = store(large) / OID[:2] / OID[2:4] / OID
    kept.rename(large.home / "elsewhere")
    kept.symlink_to(large.home / "elsewhere")
    refused = large.run("cat run.bin", "--lfs")
    assert refused.status == 125
    assert "error[workspace.lfs]" in refused.stderr


def test_a_list_that_the_agent_bends_hides_only_its_own_work(large: Product) -> None:
    ran = large.run(
        "echo mine > run.bin; echo 2 > other; h=$(sha256sum <run.bin | cut -c1-64);"
        ' { echo "$h  run.bin"; echo "$h  /dev/zero"; echo "$h  ../../etc/passwd"; } > .git/containai-lfs', "--lfs"
    )  # fmt: skip
    assert ran.result["problem"] == ""
    # What it took off the list returns as what it is, content; what it put on with another hash is not returned.
    assert large.git("diff", "--name-only", "main", ran.result["branch"]).splitlines() == ["other", "with space/a.bin"]
