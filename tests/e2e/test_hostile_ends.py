"""Agents that make the end of their session as hard as they can: it ends, soon, with the work returned."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.product import Product, as_root

pytestmark = [pytest.mark.user, pytest.mark.usefixtures("nothing_left")]

PIPES = {
    "attributes": "mkfifo .gitattributes",
    "branch": "r=.git/refs/heads/$CONTAINAI_BRANCH; rm -f $r; mkdir -p $(dirname $r); mkfifo $r",
    "alternates": "mkdir -p .git/objects/info; rm -f .git/objects/info/alternates; mkfifo .git/objects/info/alternates",
    "inner": "git init -q sub; rm sub/.git/HEAD; mkfifo sub/.git/HEAD",
    "index": "rm -f .git/index; mkfifo .git/index",
}


@pytest.mark.parametrize("place", PIPES)
def test_a_named_pipe_where_git_reads_does_not_hold_the_session_up(product: Product, place: str) -> None:
    ran = product.run(f"echo new > work; {PIPES[place]}", timeout_s=60)
    assert ran.result["problem"] == ""
    assert product.git("show", f"{ran.result['branch']}:work") == "new"


def test_files_that_claim_terabytes_are_left_out(product: Product) -> None:
    """Git would read each of them to its end: the one for what it holds, the other for rules."""
    ran = product.run("echo new > work; truncate -s 1T big .gitignore README.md", timeout_s=60)
    assert ran.result["problem"] == ""
    branch, kept = ran.result["branch"], Path(ran.result["kept"]) / "workspace"
    assert product.git("diff", "--name-status", "main", branch) == "A\twork"
    for name in ("big", ".gitignore", "README.md"):
        assert f"left out: a file too large to be returned: '{name}'" in ran.result["notes"]
        assert (kept / name).stat().st_size == 1 << 40
        assert (kept / name).stat().st_mode & 0o400, "he to whom it is left can read it"


def test_a_tree_deeper_than_python_recurses_is_removed(product: Product) -> None:
    script = "import os\nopen('work','w').write('x')\nfor i in range(1500): os.mkdir('d'); os.chdir('d')"
    ran = product.command("run", "--", "/usr/bin/python3", "-c", script)
    assert ran.status == 0, ran.stderr
    assert product.git("show", "shell/session-1:work") == "x"
    assert not list(product.sessions.glob("*/workspace"))


def test_directories_without_permissions_are_removed(product: Product) -> None:
    ran = product.run("mkdir -p a/b/c; echo x > a/b/c/f; chmod 0 a/b/c a/b a")
    assert ran.status == 0
    assert product.git("show", "shell/session-1:a/b/c/f") == "x"
    assert not list(product.sessions.glob("*/workspace"))


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(product: Product, closed: str) -> None:
    words = " ".join(
        f"'{word}'" for word in product.argv("run", "--", "sh", "-c", "echo noise; echo noise >&2; echo x > f")
    )
    done = subprocess.run(
        ["sh", "-c", f"{words} {closed}"], cwd=product.repository, env=product.environment, timeout=60, check=False,
        stdin=subprocess.DEVNULL, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert product.git("show", "shell/session-1:f") == "x"


def test_another_programs_config_toml_is_ignored(product: Product) -> None:
    (product.repository / "config.toml").write_text('baseURL = "https://example.org/"\ntheme = "x"\n')
    product.git("add", "-A")
    product.git("-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-qm", "site")
    ran = product.run("true")
    assert ran.status == 0, ran.stderr
    assert "another program" in ran.stderr


def test_a_torn_log_line_does_not_keep_the_work(product: Product) -> None:
    child = product.start("echo x > f; sleep 1000")
    deadline = time.monotonic() + 30
    while not any(product.sessions.glob("*/workspace/f")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.kill()
    child.communicate(timeout=10)
    (log,) = product.sessions.glob("*/events.jsonl")
    with log.open("ab") as file:
        file.write(b'{"event":"exec","argv":["half a li')
    recovered = product.command("recover")
    assert recovered.status == 0, recovered.stderr
    assert product.git("show", "shell/session-1:f") == "x"
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [e["torn_bytes"] for e in events if e["event"] == "log-repaired"] == [34]


@pytest.mark.needs("root")
def test_a_full_disk_ends_the_session_and_recover_brings_what_was_committed(product: Product) -> None:
    assert as_root()
    disk = product.home / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], check=True, timeout=10)
    try:
        small = Product(home=product.home, repository=product.repository, variables={"XDG_STATE_HOME": str(disk)})
        script = (
            "echo work > w; git add w; git commit -qm work; git push -q;"
            "dd if=/dev/zero of=big bs=1M 2>/dev/null; for i in $(seq 200); do /bin/echo $i; done >/dev/null"
        )
        small.command("run", "--network-proxy", "none", "--", "sh", "-c", script, timeout_s=120)
        subprocess.run(["mount", "-o", "remount,size=512m", disk], check=True, timeout=10)
        small.command("recover", timeout_s=120)
        assert product.git("show", "shell/session-1:w") == "work"
    finally:
        subprocess.run(["umount", disk], check=True, timeout=10)
