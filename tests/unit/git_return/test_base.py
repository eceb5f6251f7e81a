"""What git would say against a return, before there is anything to return."""

from __future__ import annotations

from pathlib import Path

import pytest

from containai.git_return.base import find_obstacle
from containai.git_return.quarantine import create_quarantine
from containai.workspace.source import resolve_source
from tests.support.git import commit, fingerprint, git, make_repository

pytestmark = pytest.mark.user

GOOD = '[submodule "sub"]\n\tpath = sub\n\turl = ./sub\n'
NAME = GOOD.replace('"sub"', '"../../x"')
OPTION = GOOD.replace("./sub", "--upload-pack=x")


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
@pytest.mark.parametrize(
    ("content", "obstacle"),
    [
        (None, ""),
        (GOOD, ""),
        (NAME, "gitmodulesName: disallowed submodule name: ../../x"),
        (OPTION, "gitmodulesUrl: disallowed submodule url: --upload-pack=x"),
    ],
)
def test_git_is_asked_about_the_root_of_the_base(
    tmp_path: Path, content: str | None, obstacle: str, object_format: str
) -> None:
    host = make_repository(tmp_path / "host", object_format=object_format)
    for number in range(40):  # a size of the tree that takes more than eleven bits
        (host / f"file-{number:050}").write_text("x")
    commit(host)
    if content is not None:
        commit(host, __gitmodules=content)
    source = resolve_source(host)
    quarantine = create_quarantine(tmp_path / "return.git", source, "shell/session-1")
    before, inside = fingerprint(host), set(quarantine.path.rglob("*"))
    assert find_obstacle(source, quarantine) == obstacle
    assert (fingerprint(host), set(quarantine.path.rglob("*"))) == (before, inside), "nothing of the look stays"


def test_a_fault_that_the_next_commit_does_not_have_is_none(tmp_path: Path) -> None:
    """A mode of seven digits: git refuses such a tree, and writes another at the next commit."""
    host = make_repository(tmp_path / "host")
    blob = git(host, "hash-object", "-w", "--stdin", stdin=GOOD.encode())
    content = b"0100644 .gitmodules\0" + bytes.fromhex(blob)
    tree = git(host, "hash-object", "-w", "-t", "tree", "--literally", "--stdin", stdin=content)
    git(host, "update-ref", "HEAD", git(host, "commit-tree", tree, "-m", "padded"))
    source = resolve_source(host)
    quarantine = create_quarantine(tmp_path / "return.git", source, "shell/session-1")
    assert find_obstacle(source, quarantine) == ""
