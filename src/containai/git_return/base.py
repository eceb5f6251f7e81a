"""Whether anything could come home to the base commit: git's own checks look at files of its tree, too.

Whatever an agent changes, its commit has a new root tree; with that git checks the ``.gitmodules`` and
``.gitattributes`` in it, also where nobody touched them. So the same check is run on the base's root tree before the
agent works, not after. Folders below are not looked at: the files in one are checked only when something in it changes.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import zlib

from containai.git_return.quarantine import Quarantine, quoted
from containai.plan.model import Source
from containai.workspace.git import run_git

_RULES = (b".gitmodules", b".gitattributes")
# Source: git-fsck(1), the messages about these two files.
_SAID = re.compile(r"\bgit(?:modules|attributes)[A-Z][A-Za-z]*: .*")


def find_obstacle(source: Source, quarantine: Quarantine) -> str:
    """What git says against the base's own files; empty when it takes them, or cannot be asked.

    Other faults of that tree do not count: the tree of the next commit is written anew.

    Preconditions: nothing has been pushed yet.
    """
    read = run_git(["cat-file", "tree", f"{quarantine.base}^{{tree}}"], git_dir=quarantine.path)
    if not any(b" %b\0" % name in read.stdout for name in _RULES):
        return ""
    place = quarantine.path / "base"
    (place / "pack").mkdir(parents=True, mode=0o700)
    try:
        checked = run_git(
            ["-c", "core.fsync=none", "index-pack", "--stdin", "--strict"],
            git_dir=quarantine.path,
            stdin=_pack_of_tree(read.stdout, len(quarantine.base)),
            also={
                "GIT_OBJECT_DIRECTORY": str(place),
                "GIT_ALTERNATE_OBJECT_DIRECTORIES": quoted(source.git_dir / "objects").decode(),
            },
        )
    finally:
        shutil.rmtree(place)
    found = _SAID.search(checked.said)
    return found[0] if checked.status != 0 and found else ""


def _pack_of_tree(content: bytes, name_length: int) -> bytes:
    """A pack with one tree. Git would make it, too, but takes longer for it the more its repository holds.

    Source: gitformat-pack(5).
    """
    size = len(content)
    head = bytearray([2 << 4 | size & 15])
    size >>= 4
    while size:
        head[-1] |= 128
        head.append(size & 127)
        size >>= 7
    body = b"PACK" + (2).to_bytes(4, "big") + (1).to_bytes(4, "big") + head + zlib.compress(content, 1)
    return body + hashlib.new("sha1" if name_length == 40 else "sha256", body).digest()
