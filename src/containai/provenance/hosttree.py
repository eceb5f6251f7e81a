"""One digest for "which system was this": the release file and the package database of the host."""

from __future__ import annotations

import hashlib
from pathlib import Path

from containai.provenance.statement import HostTree

_FILES = (
    "/etc/os-release",
    "/var/lib/dpkg/status",
    "/var/lib/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
)


def read_host_tree(files: tuple[str, ...] = _FILES) -> HostTree:
    """Digest of those of ``files`` that can be read, as they are now.

    Two hosts with the same digest have the same packages in the same versions, as far as the package manager knows.
    It says nothing about what was installed or changed past it. It is the digest of what ``sha256sum FILE...`` prints.
    """
    lines, read = [], []
    for name in files:
        try:
            digest = hashlib.sha256(Path(name).read_bytes()).hexdigest()
        except OSError:
            continue
        lines.append(f"{digest}  {name}\n")
        read.append(name)
    return HostTree(sha256=hashlib.sha256("".join(lines).encode()).hexdigest(), files=tuple(read))
