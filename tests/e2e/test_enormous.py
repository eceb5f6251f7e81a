"""Work of a size that no review could take: refused by a limit that is named, kept, and the host none the worse."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.product import Product, make_repository

GIB_IN_KIB = 1024 * 1024
MANY = """
import sys
out = sys.stdout.buffer
out.write(b"commit refs/heads/many\\ncommitter A <a@example.org> 1 +0000\\ndata 4\\nmany\\nfrom refs/heads/%s^0\\n" % sys.argv[1].encode())
for d in range(1001):
    for f in range(1000):
        text = b"%d %d" % (d, f)
        out.write(b"M 100644 inline %d/%d\\ndata %d\\n%s\\n" % (d, f, len(text), text))
"""


def measured(product: Product, script: str, *options: str) -> tuple[dict[str, object], int]:
    """A session's result, and the most memory that one of its processes had (KiB), container and host alike."""
    child = product.start(script, *options)
    assert child.stdout is not None
    assert child.stderr is not None
    with child.stdout, child.stderr:
        said = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    return json.loads(said), usage.ru_maxrss


@pytest.mark.slow
@pytest.mark.user
@pytest.mark.timeout(500)
def test_a_million_objects(product: Product) -> None:
    script = f"""
        branch=$(git symbolic-ref --short HEAD)
        python3 -c '{MANY}' "$branch" | git fast-import --quiet
        git update-ref HEAD refs/heads/many && git update-ref -d refs/heads/many
        echo kept > small.txt
    """
    result, memory = measured(product, script, "--network-proxy", "none")
    told = f"{result['problem']} {result['notes']}"
    assert result["kept"] is not None, told
    assert "1000000 at most" in Path(str(result["event_log"])).read_text()
    assert memory < 2 * GIB_IN_KIB
    product.git("fsck", "--strict")
    assert int(product.git("rev-list", "--objects", "--all", "--count")) < 100


@pytest.mark.slow
@pytest.mark.user
@pytest.mark.timeout(500)
def test_a_file_of_two_gigabytes(product: Product) -> None:
    result, memory = measured(
        product, "echo kept > small.txt; truncate -s 2G big; git add -A; git commit -qm both",
        "--network-proxy", "none",
    )  # fmt: skip
    assert "[return.too-large]" in str(result["problem"]), result
    assert result["kept"] is not None
    assert memory < 2 * GIB_IN_KIB
    product.git("fsck", "--strict")
    assert int(product.git("rev-list", "--objects", "--all", "--count")) < 10
    used = subprocess.run(["du", "-sm", product.repository], capture_output=True, timeout=30, check=True).stdout
    assert int(used.split()[0]) < 10


@pytest.mark.needs("root")
def test_a_full_disk_under_the_repository(product: Product, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", disk], check=True, timeout=10)
    try:
        make_repository(disk / "repository")
        user = Product(home=product.home, repository=disk / "repository", variables=product.variables)
        ran = user.run(
            "head -c 12000000 /dev/urandom > random; git add -A; git commit -qm large", "--network-proxy", "none"
        )
        session = ran.result["session"]
        assert ran.result["problem"]
        assert ran.result["kept"]
        assert user.git("rev-parse", "main") == ran.result["base_commit"]
        user.git("fsck", "--strict")
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True, timeout=10)
        back = user.command("recover", session)
        assert back.status == 0, back.stderr
        assert user.git("cat-file", "-s", f"{ran.result['branch']}:random") == "12000000"
        user.git("fsck", "--strict")
        assert list((disk / "repository/.git/objects").glob("tmp_*")) == []
    finally:
        subprocess.run(["umount", disk], check=True, timeout=10)
